"""Finds videos, identity groups and pictures that are on two sides of a split. Works on any split, not only on ours.

    python -m deepfake_detection.leaks split_dataset                  the split of stage 02
    python -m deepfake_detection.leaks DIR --data dfdc_train_part_0   another tool's split, originals of DFDC's metadata
    python -m deepfake_detection.leaks DIR --manifest table.csv       ... with a table of title and group

Exit code: 0 without leaks, 1 with leaks (each is listed), 2 when the folder is no split.
"""

from __future__ import annotations

from pathlib import Path

from . import cli
from .datasets import split_check


def main(argv=None) -> int:
    """The command line; returns the exit code."""
    p = cli.bare_parser(__doc__)
    p.add_argument(
        "folder", type=Path, metavar="DIR", help="the split: holds train, val and test (or folders of other names)"
    )
    p.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the videos that the split was made of: their manifest gives the groups",
    )
    p.add_argument("--layout", default="auto", metavar="NAME", help="of --data (default: %(default)s)")
    cli.labels_option(p)
    p.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="a CSV with the columns title and group (default: DIR/../split_manifest.csv if there)",
    )
    p.add_argument("--pattern", metavar="REGEX", help="how file names are read, e.g. '(?P<title>.+)_[0-9]+'")
    options = p.parse_args(argv)
    groups: dict[str, str] = {}
    if options.manifest is None and options.data is None:
        beside = options.folder.resolve().parent / "split_manifest.csv"
        options.manifest = beside if beside.is_file() else None
    if options.manifest is not None:
        groups |= split_check.read_groups(options.manifest)
        print(f"groups from {options.manifest}")
    if options.data is not None:
        from .datasets.manifest import read_manifest

        manifest = read_manifest(options.data, options.layout, options.labels)
        groups |= dict(zip(manifest["title"], manifest["group"]))
    found = split_check.find(options.folder, groups=groups, pattern=options.pattern)
    print(split_check.report(found))
    return cli.EXIT_SOME_FAILED if found else cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
