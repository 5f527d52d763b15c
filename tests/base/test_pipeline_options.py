"""run_pipeline.sh as a dry run: every option that it takes reaches stages that take it, and no other."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
STAGES = (
    "00_convert_video_to_image.py",
    "01a_crop_faces_mtcnn.py",
    "01b_mark_landmarks.py",
    "02_prepare_dataset.py",
    "03_train_cnn.py",
    "03a_load_model.py",
    "04_mapreduce_video_preds.py",
)

#: In place of Python: each stage only reads its options, with the parser that it has.
_PARSE = """#!/bin/sh
exec {python} - "$@" <<'END'
import importlib.util, sys
from pathlib import Path
sys.path.insert(0, {project!r})
path = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("stage", Path({project!r}) / path.name)
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
(module.parse(sys.argv[2:]) if hasattr(module, "parse") else module.arguments().parse_args(sys.argv[2:]))
print("STAGE", path.name, *sys.argv[2:])
END
"""


@pytest.fixture
def dry_run(tmp_path):
    """A copy of the script whose set-up makes nothing and whose Python only parses."""
    shutil.copy(PROJECT / "run_pipeline.sh", tmp_path)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "python").write_text(_PARSE.format(python=sys.executable, project=str(PROJECT)))
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "scripts" / "setup.sh").write_text(
        'say() { printf "%s\\n" "$*" >&2; }\ndie() { say "error: $1 (hint: $2)"; exit 2; }\nmake_environment() { '
        'PY="$ROOT/python"; }\nneed_java() { :; }\n'
    )
    (tmp_path / "data").mkdir()

    def run(*options):
        done = subprocess.run(
            ["bash", tmp_path / "run_pipeline.sh", "--data", tmp_path / "data", "--out", tmp_path / "out", *options],
            capture_output=True,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        )
        assert done.returncode == 0, done.stderr[-1500:]
        assert "does nothing here" not in done.stderr
        return {line.split()[1]: line.split()[2:] for line in done.stdout.splitlines() if line.startswith("STAGE ")}

    return run


def test_every_option_at_once_reaches_the_stages_that_have_it(dry_run, tmp_path):
    frames = str(tmp_path / "frames")
    options = {
        "--layout": "folders",
        "--frames-dir": frames,
        "--workers": "1",
        "--seed": "3",
        "--max-videos": "4",
        "--max-seconds": "2",
        "--sampling": "even",
        "--architecture": "mesonet",
        "--weights": "none",
        "--epochs": "1",
        "--batch-size": "4",
        "--augment": "none",
        "--folds": "0",
        "--master": "local[1]",
    }
    seen = dry_run("--force", *(part for pair in options.items() for part in pair))
    assert tuple(seen) == STAGES
    has = {option: {name[:3].rstrip("_") for name, given in seen.items() if option in given} for option in options}
    assert has["--layout"] == {"00", "01a", "01b", "02"}
    assert has["--max-videos"] == has["--max-seconds"] == has["--sampling"] == {"00"}
    assert (
        has["--architecture"]
        == has["--weights"]
        == has["--epochs"]
        == has["--batch-size"]
        == has["--augment"]
        == has["--folds"]
        == {"03"}
    )
    assert has["--master"] == {"04"}
    assert has["--workers"] == {"00", "01a", "01b", "03", "03a", "04"}
    assert has["--seed"] == {"00", "02", "03", "03a", "04"}
    assert {name[:3].rstrip("_") for name, given in seen.items() if "--force" in given} == {"00", "01a", "01b", "03"}
    for name, given in seen.items():  # who is who lies with the frames
        assert name.startswith(("00", "04")) or given[given.index("--frames-dir") + 1] == frames, name


@pytest.mark.parametrize(
    "script, idle",
    [
        pytest.param("01a_crop_faces_mtcnn.py", ["--seed", "1"], id="01a"),
        pytest.param("01b_mark_landmarks.py", ["--seed", "1"], id="01b"),
        pytest.param("02_prepare_dataset.py", ["--workers", "2", "--force"], id="02"),
        pytest.param("03_train_cnn.py", ["--layout", "dfdc", "--labels", "x.csv"], id="03"),
        pytest.param("03a_load_model.py", ["--force"], id="03a"),
        pytest.param("04_mapreduce_video_preds.py", ["--data", "x", "--layout", "auto", "--force"], id="04"),
        pytest.param("serve.py", ["--force"], id="serve"),
        pytest.param("train_detector.py", ["--force", "--index", "x.csv"], id="train_detector"),
    ],
)
def test_options_that_do_nothing_are_hidden_and_say_so(script, idle, capsys):
    spec = importlib.util.spec_from_file_location("script_under_test", PROJECT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def parse(argv):
        for name in ("parse", "arguments", "parser", "options"):
            if made := getattr(module, name, None):
                return made(argv) if name == "parse" else made().parse_args(argv)

    options = parse(idle)
    said = capsys.readouterr().err
    names = [word for word in idle if word.startswith("--") and word != "--index"]
    assert [line for line in said.splitlines()] == [f"note: {name} does nothing here" for name in names]
    assert not {name.strip("-") for name in names if name != "--data"} & set(vars(options))
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert not [name for name in names if f"{name} " in capsys.readouterr().out]
