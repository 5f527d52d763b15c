"""The notebook runs from top to bottom."""

import shutil

import pytest


def test_the_notebook_trains_and_plots(project, tiny_faces, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shutil.copytree(tiny_faces, tmp_path / "split_dataset")
    for name, value in {
        "NOTEBOOK_OUT": tmp_path,
        "NOTEBOOK_EPOCHS": 2,
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
    assert len(pictures) == 4  # faces, epochs, ROC, confusion
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "24 faces (12 real, 12 fake, 8 groups)" in text and "auc" in text


def test_the_notebook_is_stored_without_outputs(project):
    import json

    cells = json.loads((project / "notebooks" / "train_and_plot.ipynb").read_text())["cells"]
    assert all(
        not cell.get("outputs") and cell.get("execution_count") is None for cell in cells if cell["cell_type"] == "code"
    )
