"""The notebook runs from top to bottom, and is stored as it ran on the sample."""

import json
import re
import shutil

import pytest


def test_the_notebook_trains_and_plots(project, tiny_faces, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shutil.copytree(tiny_faces, tmp_path / "split_dataset")
    for name, value in {
        "NOTEBOOK_OUT": tmp_path,
        "NOTEBOOK_MODEL": "compact_cnn",
        "NOTEBOOK_WEIGHTS": "none",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }.items():
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(project / "notebooks" / "train_and_plot.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(project / "notebooks")}}
    ).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4  # faces, strengths, ROC, confusion
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "faces (" in text and "auc" in text and "right side of 0.5" in text


def test_the_notebook_is_stored_with_its_outputs_and_names_no_folder(project):
    path = project / "notebooks" / "train_and_plot.ipynb"
    text = path.read_text(encoding="utf-8")
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert len(text) < 1_000_000 and not re.search(r'[" ](/home|/root|/tmp|/work)/', text)
    last = "".join(part for output in code[-1]["outputs"] for part in output.get("text", ""))
    assert re.search(r"\d\d of 5\d videos are on the right side of 0\.5; AUC 0\.\d{3}", last)
