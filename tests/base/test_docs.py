"""The pages name only what is there: files, tests, commands and their options."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
#: Pages for users, which together stay short.
SHORT = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), PROJECT / "models" / "README.md"]
PAGES = [*SHORT, PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md", PROJECT / "THIRD_PARTY.md"]
MOST_WORDS = 8000

FOLDERS = sorted(p.name for p in PROJECT.iterdir() if p.is_dir() and not p.name.startswith("."))
#: Folders of the project where a run, not the repository, puts files.
MADE_BY_RUNS = (
    "results",
    "stage_reports",
    "frames",
    "reports",
    "split_dataset",
    "prepared_dataset",
    "tmp_checkpoint",
    "logs",
    "build",
)
#: Options of Slurm, srun and venv tools that stand alone in the text.
FOREIGN = {"--mem-per-cpu", "--array", "--environment"}

COMMAND = re.compile(
    r"(?<![\w/])(?:\./)?(?P<script>\d\w+\.py|\w+\.py|run_pipeline\.sh|slurm/\w+\.sbatch)(?P<of_script>[^`\n#&;|\"]*)"
    r"|-m deepfake_detection\.(?P<module>\w+)(?P<of_module>[^`\n#&;|\"]*)"
)
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")


def text_of(page):
    """A page with commands on one line: a trailing backslash joins, and so does a break inside a code span."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.sub(r"(?<!`)`(?!`)[^`]+`", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text)


@functools.cache
def help_of(name):
    """What a script or module says of its options."""
    if name.endswith(".sbatch"):
        comment = (PROJECT / name).read_text()
        return comment + help_of("01a_crop_faces_mtcnn.py" if "preprocess" in name else "run_pipeline.sh")
    command = (
        ["bash", str(PROJECT / name)]
        if name.endswith(".sh")
        else [sys.executable, str(PROJECT / name)]
        if name.endswith(".py")
        else [sys.executable, "-m", f"deepfake_detection.{name}"]
    )
    return subprocess.run([*command, "--help"], cwd=PROJECT, capture_output=True, text=True).stdout


def commands(page):
    for match in COMMAND.finditer(text_of(page)):
        name = match["script"] or match["module"]
        if match["module"] or (PROJECT / name).is_file():
            yield name, match["of_script"] or match["of_module"] or ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_files_that_a_page_names_are_there(page):
    text = text_of(page)
    links = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert [t for t in links if not (page.parent / t).exists()] == []
    paths = re.findall(rf"(?<![\w./<>-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)(?![\w*{{<])", text)
    named = {p.removesuffix(".") for p in paths if p.split("/")[0] not in MADE_BY_RUNS}
    assert {p for p in named if not (PROJECT / p).exists()} == set()
    known = "\n".join(p.read_text(encoding="utf-8") for p in (PROJECT / "tests").rglob("*.py"))
    tests = set(re.findall(r"`(test_\w+)", text))
    assert {t for t in tests if t + "(" not in known and not any((PROJECT / "tests").rglob(t + ".py"))} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_options_that_a_page_names_exist(page):
    wrong = [(name, o) for name, rest in commands(page) for o in OPTION.findall(rest) if o not in help_of(name)]
    every = "".join(help_of(p.name) for p in PROJECT.glob("*.py")) + help_of("export") + help_of("leaks")
    for span in re.findall(r"`(--[^`]+)`", text_of(page)):
        wrong += [("alone", o) for o in OPTION.findall(span) if o not in FOREIGN and o not in every]
    assert wrong == []


def test_the_pages_for_users_stay_short():
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in SHORT) <= MOST_WORDS


def test_commands_are_found(tmp_path):
    """The two tests above would pass on anything if nothing were found."""
    page = tmp_path / "page.md"
    page.write_text("`python 03_train_cnn.py --epochs 3` and `python -m\ndeepfake_detection.leaks DIR --data \\\n X`\n")
    found = [(name, OPTION.findall(rest)) for name, rest in commands(page)]
    assert found == [("03_train_cnn.py", ["--epochs"]), ("leaks", ["--data"])]
