"""One way to fail: a line, a hint and an exit code; bugs still raise."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deepfake_detection import cli, labels
from deepfake_detection.aggregation import RULES
from deepfake_detection.datasets.manifest import LAYOUTS
from deepfake_detection.errors import UserError


@pytest.mark.parametrize(
    "number, said", [(0, "0 groups"), (1, "1 group"), (2, "2 groups"), (1234, "1,234 groups")], ids=str
)
def test_counts_agree_with_their_word(number, said):
    assert labels.counted(number, "group") == said


def raises(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "main, code, line",
    [
        (lambda argv: None, 0, ""),
        (lambda argv: 1, 1, ""),
        (
            raises(UserError("no videos here", file=Path("d"), hint="name another folder")),
            2,
            "error: no videos here: d (hint: name another folder)\n",
        ),
        (
            raises(KeyboardInterrupt()),
            130,
            "\ninterrupted: what is finished is kept; the same command goes on from there\n",
        ),
    ],
)
def test_exit_codes(main, code, line, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE]
)
def test_a_file_that_the_system_refuses_is_one_line(capsys, number):
    with pytest.raises(SystemExit) as stop:
        cli.run(raises(OSError(number, os.strerror(number), "some/where")))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "some/where" in error and "hint" in error


def test_no_temporary_folder_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/there/is/none"])
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda argv: tempfile.mkdtemp())
    assert stop.value.code == 2 and "TMPDIR" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), OSError(errno.EBADF, "no", "file"), OSError("odd")])
def test_system_errors_that_nobody_understands_are_bugs(error):
    with pytest.raises(OSError):
        cli.run(raises(error))


def test_bugs_still_raise():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda argv: 1 / 0)


@pytest.mark.parametrize(
    "argv", [["--nope"], ["--dat", "x"], ["--workers", "0"], ["--workers", "two"], ["--seed", "x"], ["--seed", "-1"]]
)
def test_unknown_abbreviated_and_wrong_options_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.parser("A stage.").parse_args(argv)
    assert stop.value.code == cli.EXIT_USAGE
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script, names",
    [
        pytest.param("00_convert_video_to_image.py", LAYOUTS, id="00"),
        pytest.param("01a_crop_faces_mtcnn.py", LAYOUTS, id="01a"),
        pytest.param("01b_mark_landmarks.py", LAYOUTS, id="01b"),
        pytest.param("02_prepare_dataset.py", LAYOUTS, id="02"),
        pytest.param("03a_load_model.py", LAYOUTS, id="03a"),
        pytest.param("spark_preprocess.py", LAYOUTS, id="spark_preprocess"),
        pytest.param("evaluate.py", (*LAYOUTS, *RULES), id="evaluate"),
        pytest.param("predict.py", RULES, id="predict"),
        pytest.param("serve.py", RULES, id="serve"),
    ],
)
def test_help_lists_every_layout_and_rule(project, script, names):
    done = subprocess.run([sys.executable, project / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(names) <= set(re.split(r"[^\w-]+", done.stdout))


def test_announce_echoes_and_saves(tmp_path, capsys):
    options = cli.parser("A stage.").parse_args(["--out", str(tmp_path), "--seed", "7"])
    cli.announce("00", options, tmp_path)
    assert "seed               7" in capsys.readouterr().out
    saved = json.loads((tmp_path / "stage_reports" / "00_settings.json").read_text())
    assert saved["seed"] == 7 and saved["stage"] == "00" and saved["data"] == "train_sample_videos"


def test_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        cli.stage_reports(tmp_path / "file")


@pytest.mark.parametrize("word, label", [("REAL", 1), ("real", 1), ("FAKE", 0), (" fake ", 0)])
def test_label_words(word, label):
    assert labels.label_of(word) == label


def test_label_of_refuses_other_words():
    with pytest.raises(ValueError):
        labels.label_of("maybe")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_lead_nowhere(project, tmp_path, closed):
    """A closed output was a traceback, and its number the next file's."""
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, sys\nfrom deepfake_detection import cli\n"
        "def main(argv):\n"
        "    print('words', flush=True)\n    print('words', file=sys.stderr)\n    sys.stdin.read()\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        subprocess.run(['sh', '-c', 'echo noise; echo noise >&2'])\n"
        "        file.write(str(file.fileno() > 2))\n"
        "cli.run(main)\n"
    )
    command = f"{shlex.quote(sys.executable)} {script} {tmp_path / 'made'} {closed}"
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "made").read_text() == "True"
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "words\nnoise\n")
