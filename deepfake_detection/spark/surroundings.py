"""Variables that Spark, Java and the temporary folder obey: a wrong one is put right and said, or is one line."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError, printable

#: Spark 4 runs on Java 17 and later.
JAVA_AT_LEAST = 17
_JAVA_HINT = "install Java 17, e.g. apt-get install openjdk-17-jre-headless, or set JAVA_HOME to it"

#: Named in the hint of a Spark or Java that does not start, where they are set.
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")
_SPARK_VARIABLES = (
    *(
        "SPARK_HOME",
        "SPARK_CONF_DIR",
        "SPARK_LOCAL_IP",
        "SPARK_LOCAL_HOSTNAME",
        "SPARK_LOCAL_DIRS",
        "SPARK_SUBMIT_OPTS",
    ),
    *("SPARK_DIST_CLASSPATH", "SPARK_DRIVER_MEMORY", "PYSPARK_SUBMIT_ARGS", "PYSPARK_PYTHON", "PYSPARK_GATEWAY_PORT"),
    *("HADOOP_HOME", "HADOOP_CONF_DIR", "YARN_CONF_DIR", *_JAVA_VARIABLES, "TMPDIR"),
)
#: They make a session of another kind (Spark Connect), which has none of what we use.
_CONNECT = ("SPARK_REMOTE", "SPARK_LOCAL_REMOTE", "SPARK_API_MODE", "SPARK_CONNECT_MODE_ENABLED")

#: What our own Python needs on an executor of this machine.
_NEEDED = ("numpy", "pandas", "pyarrow", "cv2")

#: Lines of a failing start that say why, the most telling first.
_TELLING = (
    r"^Caused by: (?:[\w.$]+(?:Exception|Error): )?(.+)",
    r"^Exception in thread .*?: (.+)",
    r"^(?:Error|ERROR): (.+)",
    r"^\d\d:\d\d:\d\d ERROR \S+: (.+)",
    r"^(Unrecognized .+|Failed .+|Missing .+|Invalid .+|Could not .+|env: .+|.*: line \d+: .+)",
)


def _asked(java: str | Path) -> tuple[int | None, str]:
    """(major version of a java program, 8 for 1.8, or None; the first line that tells why there is none)."""
    try:
        done = subprocess.run([str(java), "-version"], capture_output=True, text=True, errors="replace", timeout=60)
    except OSError as e:
        return None, e.strerror or "does not run"
    except subprocess.TimeoutExpired:
        return None, "does not answer"
    text = done.stderr + done.stdout  # in this order: a start that fails speaks on both
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    if found:
        return int(found.group(1)), ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Picked up ")]
    return None, next((line for line in lines if line.startswith("Error")), lines[0] if lines else "says nothing")


def find_java() -> Path:
    """The Java home that Spark is to use: JAVA_HOME, then `java` of the PATH, then /usr/lib/jvm, the lowest fitting
    version first.

    Raises:
        UserError: when none of them is Java 17 or later.
    """
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]))
    if shutil.which("java"):
        candidates.append(Path(shutil.which("java")).resolve().parent.parent)
    installed, broken = [], []
    for home in candidates:
        version, why = _asked(home / "bin" / "java")
        if (version or 0) >= JAVA_AT_LEAST:
            return home
        if version is None and (home / "bin" / "java").is_file():
            broken.append((home, why))
    for java in sorted(Path("/usr/lib/jvm").glob("*/bin/java")):
        version, why = _asked(java)
        if (version or 0) >= JAVA_AT_LEAST:
            installed.append((version, java.parent.parent))
        elif version is None:
            broken.append((java.parent.parent, why))
    if installed:
        return min(installed)[1]
    if broken and (options := _set(_JAVA_VARIABLES)):
        raise UserError(f"Java does not start ({broken[0][1]})", file=broken[0][0], hint=f"these are set: {options}")
    if candidates:
        raise UserError(
            f"Spark needs Java {JAVA_AT_LEAST} or later, this one is older or does not run",
            file=candidates[0],
            hint=_JAVA_HINT,
        )
    raise UserError(f"Spark needs Java {JAVA_AT_LEAST} or later, and there is no Java here", hint=_JAVA_HINT)


def _set(names) -> str:
    return ", ".join(f"{name}={os.environ[name][:80]}" for name in names if os.environ.get(name))


def prepare() -> None:
    """Puts right, in this process' own variables, what would keep Spark from starting, and says what it changed.

    Raises:
        UserError: what cannot be put right.
    """
    os.environ["JAVA_HOME"] = str(find_java())
    _spark_home()
    for name in _CONNECT:
        if os.environ.pop(name, None):
            _note(f"{name} asks for Spark Connect, which this program does not use: left out")
    os.environ.pop("ARROW_PRE_0_15_IPC_FORMAT", None)  # Spark refuses to work beside it
    _submit_arguments()
    if dirs := [d for d in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if d.strip()]:
        usable = [d for d in dirs if _writable(d)]
        if not usable:
            raise UserError(
                "Spark's folders for scratch files cannot be written",
                file=os.environ["SPARK_LOCAL_DIRS"],
                hint="unset SPARK_LOCAL_DIRS, or name a folder with room in it",
            )
        os.environ["SPARK_LOCAL_DIRS"] = ",".join(usable)


def _note(text: str) -> None:
    print(f"note: {printable(text)}", file=sys.stderr)


def _spark_home() -> None:
    home = os.environ.get("SPARK_HOME")
    if home is None:
        return
    import pyspark

    own = pyspark.__version__
    if not os.access(os.path.join(home, "bin", "spark-submit"), os.X_OK) or not os.path.isdir(
        os.path.join(home, "jars")
    ):
        _note(f"there is no Spark in SPARK_HOME ({home}): using the one of pyspark {own}")
        del os.environ["SPARK_HOME"]
        return
    version = next(
        (m[1] for p in Path(home, "jars").glob("spark-core_*.jar") if (m := re.search(r"-(\d.*)\.jar", p.name))), own
    )
    if version.split(".")[:2] != own.split(".")[:2]:
        raise UserError(
            f"SPARK_HOME is Spark {version}, pyspark is {own}",
            file=home,
            hint="unset SPARK_HOME to use pyspark's own, or let it lead to that version",
        )


def _submit_arguments() -> None:
    """PYSPARK_SUBMIT_ARGS ends with what is to be run, which users forget."""
    given = os.environ.get("PYSPARK_SUBMIT_ARGS")
    if given is None:
        return
    try:
        words = shlex.split(given)
    except ValueError as e:
        raise UserError(
            f"PYSPARK_SUBMIT_ARGS cannot be read ({e})", file=given, hint="unset it, or correct it"
        ) from None
    if "pyspark-shell" not in words:
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"{given} pyspark-shell".strip()


def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
    except (OSError, ValueError):
        return False
    return True


def java_options(log4j: Path) -> str:
    """Options of the driver's Java: our log settings, and Python's temporary folder: Java does not obey TMPDIR."""
    folder = tempfile.gettempdir().replace("\\", "\\\\").replace('"', '\\"')
    return f'-Dlog4j2.configurationFile={log4j.as_uri()} "-Djava.io.tmpdir={folder}"'


def check_python(master: str) -> None:
    """That PYSPARK_PYTHON is a Python for the work of this machine; what lies on others is theirs.

    Raises:
        UserError: no program, another version than ours, or one that lacks our packages.
    """
    python = os.environ["PYSPARK_PYTHON"]
    if not master.startswith("local") or python == sys.executable:
        return
    hint = "unset PYSPARK_PYTHON, or set it to the Python of the environment that has our packages"
    code = (
        "import importlib.util as u, sys; print(*sys.version_info[:2], sep='.');"
        f"print(*[n for n in {_NEEDED!r} if u.find_spec(n) is None])"
    )
    try:
        done = subprocess.run(
            [*shlex.split(python), "-c", code], capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        raise UserError("PYSPARK_PYTHON names no program that runs", file=python, hint=hint) from None
    version, *rest = [*done.stdout.splitlines(), ""]
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if done.returncode or not re.fullmatch(r"\d+\.\d+", version):
        raise UserError("PYSPARK_PYTHON names no Python that runs", file=python, hint=hint)
    if version != ours:
        raise UserError(f"PYSPARK_PYTHON is Python {version}, this is {ours}", file=python, hint=hint)
    if rest[0]:
        raise UserError(f"PYSPARK_PYTHON lacks {', '.join(rest[0].split())}", file=python, hint=hint)


def failure(error: Exception, said: str) -> UserError:
    """Why Spark does not start, in one line.

    Args:
        error: what pyspark raised.
        said: what Java and Spark's scripts wrote on stderr meanwhile.
    """
    java = getattr(error, "java_exception", None)
    lines = [line.strip() for line in said.splitlines()]
    if java is not None:
        lines = [f"Caused by: {line}" for line in str(java.toString()).splitlines()[:1]]
    why = next((m[1] for pattern in _TELLING for line in reversed(lines) if (m := re.match(pattern, line))), "")
    if not why:
        own = [line for line in str(error).splitlines() if line.strip()]
        why = next(
            (line for line in reversed(lines) if line and not line.startswith("at ")), own[0] if own else repr(error)
        )
    listed = _set(name for name in _SPARK_VARIABLES if os.environ.get(name) != sys.executable)
    files = re.findall(r"/[^\s\"':]+\.(?:xml|conf|properties|sh)\b", said)
    return UserError(
        f"Spark does not start ({why[:300]})",
        file=next(filter(os.path.isfile, files), None),
        hint=f"these are set: {listed}; correct or unset what is wrong" if listed else "see the reason in brackets",
    )


class Hearing:
    """Takes what this process and those it starts write on stderr; `release` passes it on, and all that comes later."""

    def __init__(self):
        self.heard, self._open, self._lock = bytearray(), False, threading.Lock()

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """Processes started in the block are heard as long as they live."""
        try:
            self._real = os.dup(2)
        except OSError:  # there is no stderr
            yield
            return
        sys.stderr.flush()
        near, far = os.pipe()
        os.dup2(far, 2)
        os.close(far)
        threading.Thread(target=self._pump, args=(near,), daemon=True).start()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(self._real, 2)

    def _pump(self, near: int) -> None:
        while piece := os.read(near, 1 << 16):
            with self._lock:
                if self._open:
                    self._pass_on(piece)
                elif len(self.heard) < 1 << 20:
                    self.heard += piece

    def _pass_on(self, piece: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            os.write(self._real, piece)

    def release(self) -> None:
        with self._lock:
            # Java says this at every start of Spark; it means nothing to anybody.
            lines = [line for line in self.heard.splitlines(keepends=True) if b"incubator modules" not in line]
            if lines:
                self._pass_on(b"".join(lines))
            self._open = True

    def text(self) -> str:
        with self._lock:
            return self.heard.decode("utf-8", "replace")
