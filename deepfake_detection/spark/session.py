"""One way to start Spark: finds Java, keeps the log quiet, and leaves the choice of the master to the user.

    with session("stage 04", master=options.master) as spark:
        spark.read.json(...)

Where a job runs is decided, in this order, by `--master URL` of the script, `spark-submit --master URL`, `spark.master`
in `$SPARK_CONF_DIR/spark-defaults.conf`, and Spark's own default, which is this machine with all its cores. No master
is written here: one that is set in the code silently overrules spark-submit.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import surroundings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Spark's own profile prints its start-up at WARN before any setLogLevel can act. Errors stay.
_LOG4J = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
# The gateway would raise the level to WARN and say so, unless it has a level of its own.
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""

_MASTER_HINT = "--master takes local[4], spark://host:7077, yarn or k8s://..."
_NO_ANSWER = (
    "All masters are unresponsive",
    "Failed to connect to",
    "stopped SparkContext",
    "Could not parse Master URL",
)

PACKAGE = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def session(
    name: str, master: str | None = None, settings: dict[str, str] | None = None, *, python: str | None = None
) -> Iterator[SparkSession]:
    """A Spark session, stopped at the end of the block.

    Args:
        name: shown in Spark's own pages and logs.
        master: `local[4]`, `spark://host:7077`, `yarn`, ...; None leaves it to spark-submit or Spark's configuration
            (see above).
        settings: further Spark settings. What spark-submit was given for the same key wins.
        python: the executors' Python, e.g. `./environment/bin/python` of a shipped archive; None: PYSPARK_PYTHON, else
            ours.

    Raises:
        UserError: no Java, a master that Spark does not know or that does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="deepfake_detection-spark-") as scratch:
        submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit started the JVM before us
        if not submitted:
            surroundings.prepare()
            try:
                socket.gethostbyname(socket.gethostname())
            except OSError:
                os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # a container whose name nobody resolves
        # Executors must run the Python that has our packages. A user who ships an environment (venv-pack) says so with
        # PYSPARK_PYTHON, and that stands.
        if python is not None:
            os.environ["PYSPARK_PYTHON"] = python  # pyspark reads the executors' Python from nowhere else
        for variable in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
            os.environ[variable] = os.environ.get(variable) or sys.executable
        if master is not None and not re.match(r"local(\[.+\])?$|spark://|yarn$|k8s://", master):
            raise UserError("not a Spark master", file=master, hint=_MASTER_HINT)
        # pyspark 4 warns of every pandas 3; what we use of it (Arrow and Parquet) is tested.
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
        from pyspark.sql import SparkSession

        ours = dict(settings or {})
        if not submitted:
            log4j = Path(scratch) / "log4j2.properties"
            log4j.write_text(_LOG4J)
            ours["spark.driver.extraJavaOptions"] = surroundings.java_options(log4j)
        spark = _started(
            SparkSession.builder.config(conf=_conf(name, master, ours)), master, shipped=python is not None
        )
        try:
            yield spark
        except KeyboardInterrupt:
            # Tasks that end amid the stop are reported as errors, of which none is one.
            spark.sparkContext.setLogLevel("OFF")
            raise
        finally:
            with _ignoring_interrupts():
                spark.stop()


def _conf(name: str, master: str | None, settings: dict[str, str]):
    """Spark's configuration: ours where spark-submit and its files of settings say nothing."""
    from pyspark import SparkConf

    conf = SparkConf().setAppName(name)
    ours = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        **settings,
    }
    for key, value in ours.items():
        if not conf.contains(key):
            conf.set(key, str(value))
    if master is not None:
        conf.setMaster(master)
    return conf


def _started(builder, master: str | None, shipped: bool):
    """The session, or one line: what Java writes while it fails to start is heard, not shown."""
    hearing = surroundings.Hearing()
    try:
        with _keeping_interrupts(), hearing.during():
            spark = builder.getOrCreate()
    except Exception as e:  # nothing of ours runs here: the master, a variable or a file of settings is wrong
        if any(sign in str(e) for sign in _NO_ANSWER):
            raise UserError("this Spark master does not answer", file=master, hint=_MASTER_HINT) from None
        raise surroundings.failure(e, hearing.text()) from None
    hearing.release()
    try:
        if not shipped:
            surroundings.check_python(spark.sparkContext.master)
    except UserError:
        with _ignoring_interrupts():
            spark.stop()
        raise
    return spark


def run_job(spark, job: Callable[[], object]) -> object:
    """`job()`, so that Ctrl-C ends it at once and without py4j's tracebacks.

    The job waits for the JVM in a thread of its own. If the main thread waited there, an interrupt would break py4j's
    connection in the middle of an answer.
    """
    outcome: list = []

    def body():
        try:
            outcome.append((job(), None))
        except BaseException as e:  # handed to the caller below, whatever it is
            outcome.append((None, e))

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
    except KeyboardInterrupt:
        spark.sparkContext.setLogLevel("OFF")
        spark.sparkContext.cancelAllJobs()
        thread.join(10)
        raise
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@contextlib.contextmanager
def _keeping_interrupts() -> Iterator[None]:
    """Restores Python's answer to Ctrl-C; pyspark's calls the JVM from the signal handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """A second Ctrl-C while Spark stops would leave its JVM behind. Only the main thread may set a handler."""
    with _keeping_interrupts():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        yield


def ship_package(spark, folder: str | Path) -> str:
    """Sends this package to every executor as an archive that is unpacked there, so that no worker needs a checkout.

    An unpacked folder rather than `--py-files`: OpenCV and ONNX Runtime open their weights by path, which a zip does
    not offer. Third-party packages come with the Python that PYSPARK_PYTHON names (a shared environment, or an archive
    made by venv-pack).

    Args:
        folder: where the archive is kept; it must stand as long as the session, because executors fetch it when they
            start.

    Returns:
        the name to give to `on_executor`.
    """
    name = f"{PACKAGE.name}_shipped"
    archive = Path(folder) / f"{name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for path in sorted(PACKAGE.rglob("*")):
            inside = path.relative_to(PACKAGE.parent)
            if (
                path.is_file()
                and "__pycache__" not in inside.parts
                and not any(part.startswith(".") for part in inside.parts)
            ):
                z.write(path, inside)
    spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


def on_executor(shipped: str, module: str, function: str, *arguments) -> Callable:
    """`module.function` with `arguments` bound first, as a callable that finds the shipped package by itself on the
    executor.

    Spark pickles a function of an importable module as its name only, and the executor could not import that name
    before the archive is on its path. So the callable is pickled whole, and imports when called.
    """

    def call(*more):
        import importlib
        import os
        import sys

        from pyspark import SparkFiles

        root = os.path.join(SparkFiles.getRootDirectory(), shipped)
        if os.path.isdir(root) and root not in sys.path:
            sys.path.insert(0, root)
        return getattr(importlib.import_module(module), function)(*arguments, *more)

    call.__module__ = "__main__"  # what makes cloudpickle take it by value
    return call
