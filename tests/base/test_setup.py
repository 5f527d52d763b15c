"""scripts/setup.sh finds Java, or says what keeps it from starting."""

import os
import subprocess

import pytest

#: Nothing is installed by a test.
TRY = ". scripts/setup.sh; apt_install_one_of() { say 'would install'; return 1; }; need_java; echo \"home $JAVA_HOME\""
JAVA = ("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")


def java(folder, says, status=0):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    (folder / "bin" / "java").chmod(0o755)
    return folder


def need_java(project, **variables):
    clean = {k: v for k, v in os.environ.items() if k not in JAVA}
    return subprocess.run(
        ["bash", "-c", TRY], cwd=project, env=clean | variables, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module", autouse=True)
def some_java(project):
    if need_java(project).returncode:
        pytest.skip("no Java here")


@pytest.mark.parametrize(
    "name, value",
    [("JAVA_TOOL_OPTIONS", "-Xnonsense"), ("_JAVA_OPTIONS", "-Xmx1"), ("JAVA_TOOL_OPTIONS", "-javaagent:/nowhere.jar")],
)
def test_options_that_keep_java_from_starting(project, name, value):
    done = need_java(project, **{name: value})
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: Java does not start (") and f"{name}={value}" in done.stderr


def test_launcher_options(project):
    """JDK_JAVA_OPTIONS is read by the launcher of Java 9 and later."""
    done = need_java(project, JDK_JAVA_OPTIONS="--nonsense")
    assert done.returncode == 2 and "JDK_JAVA_OPTIONS=--nonsense" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "says, status",
    [
        pytest.param(None, 0, id="nothing there"),
        pytest.param('openjdk version "11.0.2"', 0, id="too old"),
        pytest.param("Illegal instruction", 132, id="does not start"),
    ],
)
def test_a_home_without_a_fitting_java(project, tmp_path, says, status):
    home = java(tmp_path / "jdk", says, status) if says else tmp_path / "nowhere"
    done = need_java(project, JAVA_HOME=str(home))
    assert done.returncode == 0 and f"note: JAVA_HOME={home} holds no Java 17" in done.stderr
    assert done.stdout.startswith("home ") and str(home) not in done.stdout


def test_no_java_at_all(project, tmp_path):
    home = java(tmp_path / "jdk", "Error: no libjvm", 1)
    script = TRY.replace("need_java;", 'find_java() { java_is_right "$JAVA_HOME/bin/java"; }; need_java;')
    clean = {k: v for k, v in os.environ.items() if k not in JAVA} | {"JAVA_HOME": str(home)}
    done = subprocess.run(["bash", "-c", script], cwd=project, env=clean, capture_output=True, text=True)
    assert done.returncode == 2 and "Error: no libjvm" in done.stderr and f"JAVA_HOME={home}" in done.stderr
