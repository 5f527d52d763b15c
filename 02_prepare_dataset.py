#!/usr/bin/env python
"""Stage 02: balances the faces and splits them into train, val and test, so that no person is on two sides.

    python 02_prepare_dataset.py                                            # the embedded sample
    python 02_prepare_dataset.py --data DIR --out results                   # your own videos
    python 02_prepare_dataset.py --faces marked_faces                       # train on what stage 01b marked
    python 02_prepare_dataset.py --data Celeb-DF-v2 --split official        # the data set's own split

Reads <frames>/<title>/faces. Writes <out>/prepared_dataset/{real,fake},
<out>/split_dataset/{train,val,test}/{real,fake}, <out>/split_manifest.csv and <out>/stage_reports/02_videos.csv.
A second run writes the same files again.
Check it, or any other split: python -m deepfake_detection.leaks <out>/split_dataset
"""

from deepfake_detection import cli
from deepfake_detection.datasets.manifest import LAYOUTS


def parts(text):
    """argparse type: three positive numbers as 80:10:10."""
    import argparse

    values = text.split(":")
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"must be three numbers as 80:10:10, not {text}")
    return [cli.positive_float(v) for v in values]


def parse(argv=None):
    p = cli.parser(__doc__, idle=("--workers", "--force"), layouts=LAYOUTS)
    cli.frames_option(p)
    p.add_argument(
        "--faces", default="faces", choices=["faces", "marked_faces"], help="which crops to take (default: %(default)s)"
    )
    p.add_argument(
        "--balance",
        default="delete",
        choices=["delete", "none"],
        help="delete: as many fake faces as real ones, thinned evenly; none: keep all (default: %(default)s)",
    )
    p.add_argument(
        "--split",
        default="groups",
        choices=["groups", "official"],
        help="groups: people stay together; official: the data set's own (default: %(default)s)",
    )
    p.add_argument(
        "--ratio",
        type=parts,
        default="80:10:10",
        metavar="A:B:C",
        help="train, val, test parts of the faces (default: %(default)s)",
    )
    return p.parse_args(argv)


def main(argv=None):
    options = parse(argv)
    from deepfake_detection.datasets import manifest, prepare, split_check
    from deepfake_detection.labels import counted

    options.frames_dir = cli.frames_folder(options)
    table = manifest.read_manifest(options.data, options.layout, options.labels)
    cli.announce(prepare.STAGE, options, options.out)
    print(manifest.describe(table))
    result = prepare.prepare(
        table,
        options.frames_dir,
        options.out,
        faces=options.faces,
        balance=options.balance,
        split=options.split,
        ratio=options.ratio,
        seed=options.seed,
    )
    print(result.summary)
    for note in result.notes:
        print(f"  note: {note}")
    for name, classes in result.faces.items():
        of = counted(result.videos[name], "video")
        print(f"  {name:<6} {classes['real']} real + {classes['fake']} fake faces of {of}")
    if options.split == "groups":
        found = split_check.find(
            options.out / "split_dataset", groups=dict(zip(table["title"], table["group"])), pictures=False
        )
        print("  leak check: " + split_check.report(found).splitlines()[-1])
    print(f"{options.out / 'split_dataset'}, {options.out / 'split_manifest.csv'}")


if __name__ == "__main__":
    cli.run(main)
