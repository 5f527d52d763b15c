"""What `pip install` gives: one set of versions, nothing heavy where videos are judged, commands from any folder."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS = SETTINGS["project"]["optional-dependencies"]


def pinned(*names):
    """{package: version} of requirement files; opencv-python-headless is opencv-python without windows."""
    found = {}
    for name in names:
        for line in (PROJECT / name).read_text().splitlines():
            if m := re.match(r"([A-Za-z0-9_.-]+)(?:\[.*\])?==(\S+)", line):
                found[m[1].lower().replace("_", "-").removesuffix("-headless")] = m[2]
    return found


def asked(*groups):
    found = {}
    for requirement in (Requirement(r) for group in groups for r in group):
        if requirement.name != "deepfake-detection":
            found[requirement.name.lower().replace("_", "-").removesuffix("-headless")] = requirement.specifier
    return found


@pytest.mark.parametrize(
    "files, groups",
    [
        pytest.param(["requirements.txt"], ["", "web", "spark", "evaluate", "train"], id="requirements.txt"),
        pytest.param(["requirements-url.txt"], ["url"], id="url"),
        pytest.param(["requirements-gpu.txt"], ["gpu"], id="gpu"),
    ],
)
def test_extras_are_the_requirement_files(files, groups):
    listed = EXTRAS | {"": SETTINGS["project"]["dependencies"]}
    wanted = asked(*(listed[g] for g in groups))
    versions = pinned(*files)
    assert set(wanted) == set(versions)
    for name, specifier in wanted.items():
        assert specifier.contains(versions[name]), (
            f"{name}: pyproject.toml wants {specifier}, {files[0]} pins {versions[name]}"
        )


def test_every_pin_is_a_constraint():
    every = pinned(*(p.name for p in PROJECT.glob("requirements*.txt")))
    constraints = pinned("constraints.txt")
    assert {n: v for n, v in every.items() if constraints.get(n) != v} == {}


BLOCKED = {
    "tensorflow",
    "keras",
    "scipy",
    "pandas",
    "sklearn",
    "matplotlib",
    "pyspark",
    "pyarrow",
    "h5py",
    "onnx",
    "tf2onnx",
    "lime",
    "mtcnn",
    "fastapi",
}

JUDGE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in %r: raise ModuleNotFoundError(f'blocked: {name}', name=name)
sys.meta_path.insert(0, Blocker())
import numpy as np
from deepfake_detection import Detector
from deepfake_detection.faces.tracks import _assign
_assign(np.random.default_rng(1).random((9, 12)))
from deepfake_detection.detector import explain
from deepfake_detection.reports import html
prediction = Detector(frames=4).predict(sys.argv[1])
print(prediction.verdict)
"""


def test_judging_needs_no_heavy_package(sample, tmp_path):
    """Also the assignment of many faces, which SciPy did once."""
    clip = sample / "woman_worried.mp4"
    done = subprocess.run(
        [sys.executable, "-c", JUDGE % BLOCKED, str(clip)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.strip() in ("REAL", "FAKE", "UNSURE")


@pytest.mark.parametrize("rows, columns", [(1, 5), (5, 5), (5, 9), (9, 5), (40, 40), (30, 50)])
@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_cheapest(rows, columns, seed):
    from scipy.optimize import linear_sum_assignment

    from deepfake_detection.faces.tracks import _assign

    rng = np.random.default_rng(seed)
    cost = (
        rng.random((rows, columns)) if seed else rng.integers(0, 3, (rows, columns)).astype(float)
    )  # seed 0: many ties
    cost[rng.random(cost.shape) < 0.3] = 1e6  # "these never"
    pairs = _assign(cost)
    assert len(pairs) == min(rows, columns) and len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    assert sum(cost[p] for p in pairs) == pytest.approx(cost[linear_sum_assignment(cost)].sum())


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "deepfake_detection.commandline", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": "-1"},
    )


@pytest.mark.parametrize("name", ["predict", "serve", "evaluate", "leaks", "export"])
def test_commands_say_their_own_name(name, tmp_path):
    done = command(name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"usage: deepfake-detect {name}" in done.stdout
    assert f"python {name}.py" not in done.stdout


def test_version_and_unknown_command(tmp_path):
    from deepfake_detection import __version__

    assert command("--version", cwd=tmp_path).stdout.strip() == f"deepfake-detect {__version__}"
    wrong = command("judge", cwd=tmp_path)
    assert wrong.returncode == 2 and "invalid choice" in wrong.stderr


def test_a_missing_extra_is_one_line(tmp_path):
    code = (
        "import sys\nclass B:\n def find_spec(self, n, p=None, t=None):\n  if n.partition('.')[0] == 'pandas': raise "
        "ModuleNotFoundError(n, name='pandas')\n"
        "sys.meta_path.insert(0, B())\nfrom deepfake_detection import commandline, cli\n"
        "cli.run(commandline.main, ['evaluate', 'scores.csv'])"
    )
    (tmp_path / "scores.csv").write_text("video,label,p_real\na,REAL,0.5\n")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "error: deepfake-detect evaluate needs pandas, which is not installed "
        "(hint: pip install 'deepfake-detection[evaluate]')"
    )


def test_what_the_wheel_takes_is_there():
    for source in SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]:
        assert (PROJECT / source).is_file(), source
    assert (PROJECT / "deepfake_detection" / "py.typed").is_file()
