"""Where things lie: in a checkout beside the package, after `pip install` inside it (see pyproject.toml)."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_INSTALLED = PACKAGE / "shipped_detector"
#: The shipped detector's folder: detector.onnx and detector.json; in a checkout also detector.keras, which only
#: training needs.
MODEL_FOLDER = _INSTALLED if _INSTALLED.is_dir() else PACKAGE.parent / "models"


def hint_of_seeds(missing: Path, otherwise: str) -> str:
    """The hint for what is not there: where `03_train_cnn.py --seeds` left it in `<out>/seed_<n>`, the first."""
    for out in Path(missing).parents[:2]:  # <out>/NAME, <out>/FOLDER/NAME
        below = Path(missing).relative_to(out)
        seeds = [p for p in out.glob("seed_*") if re.fullmatch(r"seed_\d+", p.name) and (p / below).exists()]
        if seeds:
            first = min(seeds, key=lambda p: int(p.name[5:])) / below
            return f"03_train_cnn.py --seeds left one of each seed; name one, e.g. {first}"
    return otherwise
