"""Every variable that Spark, Java and the temporary folder obey: the job works, or ends in one line."""

import os
import subprocess
import sys

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.spark import surroundings

JOB = """
from deepfake_detection import cli
from deepfake_detection.spark.session import session
def main(argv):
    with session("test", "local[1]") as spark:
        print(spark.sparkContext.appName, "counted", spark.range(3).count())
cli.run(main)
"""


def run(project, tmp_path, **variables):
    """A job under these variables: (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-c", JOB], cwd=project, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def odd(tmp_path):
    """A temporary folder with a name that shells and Java stumble over, and a file that is no folder."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def test_what_leads_nowhere_is_put_right(project, odd):
    """All at once: a start of Spark takes seconds."""
    code, out, err = run(
        project,
        odd,
        SPARK_HOME="/there/is/none",
        SPARK_CONF_DIR="/there/is/none",
        HADOOP_CONF_DIR="/there/is/none",
        YARN_CONF_DIR="/there/is/none",
        JAVA_HOME="/there/is/none",
        SPARK_REMOTE="sc://nowhere:1",
        SPARK_API_MODE="connect",
        SPARK_LOCAL_DIRS=f"{odd / 'file'}/x,{odd / 'scratch'}",
        TMPDIR=str(odd / "a b"),
        JAVA_TOOL_OPTIONS="-Djava.io.tmpdir=/there/is/none",
        PYSPARK_SUBMIT_ARGS="--conf spark.ui.enabled=false",
        PYSPARK_PYTHON="",
    )
    assert (code, out) == (0, "test counted 3\n"), err
    assert "note: there is no Spark in SPARK_HOME (/there/is/none)" in err and "SPARK_REMOTE" in err


@pytest.mark.parametrize(
    "variables, said",
    [
        pytest.param({"PYSPARK_SUBMIT_ARGS": "--nope 1"}, "nope", id="unknown-option"),
        pytest.param({"SPARK_LOCAL_IP": "203.0.113.1"}, "assign requested address", id="foreign-address"),
        pytest.param({"_JAVA_OPTIONS": "-Xmx64m"}, "memory", id="too-little-memory"),
        pytest.param({"HADOOP_CONF_DIR": "{broken}"}, "core-site.xml", id="broken-hadoop-settings"),
        pytest.param({"PYSPARK_GATEWAY_PORT": "x"}, "PYSPARK_GATEWAY_PORT=x", id="leftover-of-spark-submit"),
        pytest.param({"PYSPARK_PYTHON": "/there/is/none"}, "names no program that runs", id="no-python"),
    ],
)
def test_what_cannot_be_put_right_is_one_line(project, tmp_path, variables, said):
    (tmp_path / "core-site.xml").write_text("<configuration><broken")
    code, out, err = run(project, tmp_path, **{k: v.replace("{broken}", str(tmp_path)) for k, v in variables.items()})
    errors = [line for line in err.splitlines() if not line.startswith(("Picked up", "note: "))]
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: ") and said in errors[0], err
    assert next(iter(variables)) in errors[0]


@pytest.mark.parametrize(
    "name, value, said",
    [
        pytest.param("PYSPARK_SUBMIT_ARGS", "--name 'x", "No closing quotation", id="quotes"),
        pytest.param("SPARK_LOCAL_DIRS", "/dev/null/a,/proc/b", "scratch", id="no-scratch-folder"),
        pytest.param("JAVA_TOOL_OPTIONS", "-XX:NoSuchOption", "NoSuchOption", id="java-option"),
        pytest.param("_JAVA_OPTIONS", "-Xmx99999999g", "_JAVA_OPTIONS", id="more-memory-than-there-is"),
    ],
)
def test_refused_before_anything_starts(monkeypatch, name, value, said):
    monkeypatch.setenv("JAVA_HOME", os.environ.get("JAVA_HOME", ""))  # put back afterwards
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="hint:") as e:
        surroundings.prepare()
    assert said in str(e.value)


@pytest.mark.parametrize(
    "script, said",
    [
        pytest.param("echo 3.6; echo", "is Python 3.6, this is", id="old"),
        pytest.param("echo {version}; echo numpy cv2", "lacks numpy, cv2", id="without-our-packages"),
        pytest.param("exit 1", "no Python that runs", id="fails"),
        pytest.param("echo hello", "no Python that runs", id="another-program"),
        pytest.param("echo {version}; echo", None, id="good"),
    ],
)
def test_pythons_of_executors(monkeypatch, tmp_path, script, said):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n" + script.format(version="{}.{}".format(*sys.version_info[:2])))
    python.chmod(0o755)
    monkeypatch.setenv("PYSPARK_PYTHON", str(python))
    surroundings.check_python("spark://host:7077")  # theirs
    if said is None:
        surroundings.check_python("local[2]")
        return
    with pytest.raises(UserError, match=said):
        surroundings.check_python("local[2]")


def test_another_sparks_home(monkeypatch, tmp_path):
    for name in ("bin/spark-submit", "jars/spark-core_2.12-3.5.1.jar"):
        path = tmp_path / name
        path.parent.mkdir()
        path.touch(0o755)
    monkeypatch.setenv("JAVA_HOME", os.environ.get("JAVA_HOME", ""))
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(UserError, match="SPARK_HOME is Spark 3.5.1, pyspark is 4"):
        surroundings.prepare()
