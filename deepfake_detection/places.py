"""Where things lie: in a checkout beside the package, after `pip install` inside it (see pyproject.toml)."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_INSTALLED = PACKAGE / "shipped_detector"
#: The shipped detector's folder: detector.onnx and detector.json; in a checkout also detector.keras, which only
#: training needs.
MODEL_FOLDER = _INSTALLED if _INSTALLED.is_dir() else PACKAGE.parent / "models"
