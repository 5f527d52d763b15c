"""What is known of the videos of a split: `split_manifest.csv` as stage 02 writes it."""

from __future__ import annotations

from pathlib import Path

from .. import labels
from ..errors import UserError

#: Columns of the table besides the title.
COLUMNS = ("set", "label", "group", "dataset", "manipulation", "compression")


def known_videos(dataset: Path):
    """A row a video of `split_manifest.csv` beside the split.

    Args:
        dataset: `<out>/split_dataset`.

    Returns:
        pandas DataFrame of text with the index `title` and COLUMNS, "" where the file does not say; empty where there
        is no file.

    Raises:
        UserError: the file cannot be read or has no titles and groups.
    """
    import pandas as pd

    path = dataset.parent / "split_manifest.csv"
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, index=pd.Index([], name="title"), dtype=str)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table[["title", "group"]]
    except (OSError, ValueError, KeyError) as e:
        raise UserError(
            f"the split's manifest cannot be read ({type(e).__name__})", file=path, hint="run stage 02 again"
        ) from None
    return table.drop_duplicates("title").set_index("title").reindex(columns=list(COLUMNS), fill_value="")


def groups_of(dataset: Path) -> dict[str, str]:
    """Title -> identity group; empty where there is no `split_manifest.csv`."""
    return known_videos(dataset)["group"].to_dict()


def recorded(out: Path) -> dict[str, tuple[int, str]]:
    """Title -> (label, group): labels as stage 01a's account in `out` has them (-1: none), groups as stage 02's, else
    the title; empty without that account."""
    import pandas as pd

    groups = groups_of(out / "split_dataset")
    try:
        table = pd.read_csv(out / "stage_reports" / "01a_videos.csv", dtype=str, keep_default_na=False)
        return {title: (_number(word), groups.get(title, title)) for title, word in zip(table["title"], table["label"])}
    except (OSError, ValueError, KeyError):
        return {}


def of_manifest(manifest) -> dict[str, tuple[int, str]]:
    """Title -> (label, group) of a manifest's videos."""
    return {m.title: (_number(m.label), m.group) for m in manifest.itertuples()}


def _number(word: str) -> int:
    return labels.label_of(word) if word else -1
