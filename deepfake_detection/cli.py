"""What every command line of this project shares: common options, the echo of the settings, and one way to fail."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import __version__, cpus
from .errors import UserError, of_the_system
from .files import remove_dead_partials, write_json

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def _open_the_closed() -> None:
    """Standard input, output and error that the caller closed (`>&-`, some services) lead nowhere: Python has None in
    their place, and the next file that is opened would be taken for them by the processes that we start."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # what was opened may be this very number
            if null != number:
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))


_open_the_closed()


def _refuse_the_wrong_interpreter() -> None:
    """Ends a checkout's script in one line where Python lacks what requirements.txt installs.

    Here, because every script imports this module before anything that is not Python's own.
    """
    root, script = Path(__file__).resolve().parents[1], getattr(sys.modules.get("__main__"), "__file__", None)
    if script is None or Path(script).resolve().parent != root or not (root / "requirements.txt").is_file():
        return
    missing = [name for name in ("numpy", "cv2", "av", "tqdm") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"error: {sys.executable or 'this Python'} lacks {', '.join(missing)}\n"
            f"hint: run {root / '.venv/bin/python'} {Path(script).name} (README.md says how .venv is made)",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_USAGE)


_refuse_the_wrong_interpreter()


def bare_parser(description: str, prog: str | None = None) -> argparse.ArgumentParser:
    """A parser without options, which refuses unknown and abbreviated ones.

    Args:
        description: the script's docstring; its first line is the description, the rest the epilog.
        prog: what the command is called; the script's name if None.
    """
    first, _, rest = (description or "").strip().partition("\n")
    return argparse.ArgumentParser(
        prog=prog,
        description=first,
        epilog=rest.strip() or None,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parser(
    description: str,
    *,
    data: bool = True,
    out: bool = True,
    idle: Sequence[str] = (),
    layouts: Sequence[str] = ("auto",),
) -> argparse.ArgumentParser:
    """A `bare_parser` with the options that all stages have.

    Args:
        data: add --data and --layout.
        out: add --out.
        idle: of these options, those that do nothing in this command: hidden, and said where they are given.
        layouts: what --help says that --layout may be.
    """
    p = bare_parser(description)
    if data:
        data_options(p, layouts, idle)
    if out:
        out_option(p)
    if "--workers" not in idle:
        p.add_argument(
            "--workers",
            type=positive_int,
            default=cpus.count(),
            metavar="N",
            help="worker processes (default: the cores that this process may use, %(default)s here)",
        )
    if "--seed" not in idle:
        p.add_argument(
            "--seed", type=seed, default=1, metavar="N", help="seed of every random choice (default: %(default)s)"
        )
    if "--force" not in idle:
        p.add_argument("--force", action="store_true", help="make outputs again that already stand")
    idle_options(p, *idle)
    return p


def data_options(parser, layouts: Sequence[str], idle: Sequence[str] = ()) -> None:
    """Adds --data, --layout and --labels, but for `idle` ones."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("train_sample_videos"),
        metavar="DIR",
        help="folder of videos (default: %(default)s)",
    )
    if "--layout" not in idle:
        parser.add_argument(
            "--layout", default="auto", metavar="NAME", help=", ".join(layouts) + " (default: %(default)s)"
        )
    if "--labels" not in idle:
        labels_option(parser)


def out_option(parser, default: str = ".") -> None:
    """Adds --out."""
    parser.add_argument(
        "--out", type=Path, default=Path(default), metavar="DIR", help="folder of the results (default: %(default)s)"
    )


class _Idle(argparse.Action):
    """An option that was offered where it does nothing: says so, and does nothing."""

    def __call__(self, parser, namespace, values, option_string=None):
        """What argparse calls where the option is given."""
        print(f"note: {option_string} does nothing here", file=sys.stderr)


def idle_options(parser, *names: str) -> None:
    """Takes options that do nothing, hidden from --help, so that commands written for earlier versions still run."""
    for name in names:
        nargs = 0 if name == "--force" else None
        parser.add_argument(name, action=_Idle, nargs=nargs, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


class _OldName(argparse.Action):
    """An option's former name: says in one line what it is called now, and does the same."""

    def __init__(self, *arguments, now: argparse.Action, **settings):
        super().__init__(*arguments, **settings)
        self.now = now

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"note: {option_string} is now called {self.now.option_strings[0]}", file=sys.stderr)
        self.now(parser, namespace, values, option_string)


def option(parser, name: str, *, old: Sequence[str] = (), **settings) -> argparse.Action:
    """`parser.add_argument(name, **settings)`, which also answers to former names, hidden from --help.

    Args:
        parser: a parser or a group of one.
        old: former names; for options that take one value.
    """
    action = parser.add_argument(name, **settings)
    for former in old:
        parser.add_argument(
            former,
            action=_OldName,
            now=action,
            dest=action.dest,
            type=action.type,
            choices=action.choices,
            metavar=action.metavar,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
    return action


def parse_given(parser, argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, set[str]]:
    """`parser.parse_args(argv)`, and the names (`dest`) of the options that were given, defaults or not."""
    options, nothing = parser.parse_args(argv), object()
    unset = {name: None if isinstance(value, list) else nothing for name, value in vars(options).items()}
    again = argparse.Namespace(**unset)  # None is what options that may be given again append to
    with contextlib.redirect_stderr(io.StringIO()):  # what there is to say of these options has been said
        parser.parse_args(argv, again)
    return options, {name for name, value in vars(again).items() if value is not unset.get(name)}


def labels_option(parser) -> None:
    """Adds --labels."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="CSV with path and label, and if known person, original, split, manipulation (default: labels.csv "
        "beside the videos)",
    )


def frames_option(parser, old: Sequence[str] = ("--frames",)) -> None:
    """Adds --frames-dir; `frames_folder` says which folder is meant."""
    option(
        parser,
        "--frames-dir",
        old=old,
        type=Path,
        metavar="DIR",
        help="folder of the frames and faces (default: <out>/frames)",
    )


def frames_folder(options: argparse.Namespace, *, begins: bool = False) -> Path:
    """The folder of frames and faces: --frames-dir, else `<out>/frames`, else the data folder if frames of versions
    before 2.0 lie there.

    Args:
        options: with `frames_dir`, `out` and `data`.
        begins: the stage makes the folder instead of reading what an earlier stage left, so it never writes beside the
            videos.
    """
    if options.frames_dir is not None:
        return options.frames_dir
    folder = options.out / "frames"
    if folder.is_dir() or not _holds_frames(options.data):
        return folder
    if begins:
        print(
            f"note: frames of an earlier version lie in {options.data}; new ones go to {folder} (--frames-dir "
            f"{options.data} goes on there)",
            file=sys.stderr,
        )
        return folder
    print(
        f"note: using the frames in {options.data}, where earlier versions put them (--frames-dir chooses others)",
        file=sys.stderr,
    )
    return options.data


def _holds_frames(data: Path) -> bool:
    """Whether an earlier version's 00 or 01a wrote here: `<title>/frames.csv` or `<title>/faces/boxes.csv`."""
    try:
        with os.scandir(data) as entries:
            return any(
                os.path.isfile(os.path.join(e.path, "frames.csv"))
                or os.path.isfile(os.path.join(e.path, "faces", "boxes.csv"))
                for e in entries
                if e.is_dir(follow_symlinks=False)
            )
    except OSError:
        return False  # reading the manifest says what is wrong with it


def detector_options(parser, rules: Iterable[str]) -> None:
    """Adds what predict.py and serve.py ask of a detector. `rules`: what --help says that --aggregate may be."""
    option(
        parser,
        "--model-dir",
        old=["--model"],
        dest="model",
        metavar="DIR",
        help="folder with detector.onnx and detector.json (default: the shipped one)",
    )
    parser.add_argument(
        "--sampling", choices=("even", "per-second", "keyframes"), help="which frames (default: as the model says)"
    )
    option(
        parser,
        "--frame-count",
        old=["--frames"],
        dest="frames",
        type=positive_int,
        metavar="N",
        help="how many frames a video at most (default: as the model says, and more in long videos)",
    )
    parser.add_argument(
        "--aggregate",
        metavar="RULE",
        help="from faces to a verdict: " + ", ".join(rules) + " (default: as the model says)",
    )


def positive_int(text: str) -> int:
    """argparse type: an integer >= 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return int(text)


def count(text: str) -> int:
    """argparse type: an integer >= 0."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return int(text)


def seed(text: str) -> int:
    """argparse type: what NumPy and Keras take as a seed."""
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"must be between 0 and {2**32 - 1}, not {text}")
    return int(text)


def positive_float(text: str) -> float:
    """argparse type: a finite number > 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value


def scale(text: str) -> str | float:
    """argparse type: the resize rule, `published` or a factor."""
    return text if text == "published" else positive_float(text)


def fraction(text: str) -> float:
    """argparse type: a number in 0..1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text}")
    return value


def settings_of(options: argparse.Namespace) -> dict:
    """The resolved options as plain JSON values."""

    def plain(value):
        if isinstance(value, list):
            return [plain(one) for one in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in sorted(vars(options).items())}


def announce(stage: str, options: argparse.Namespace, out: Path | None = None) -> dict:
    """Prints the resolved settings and saves them as `<out>/stage_reports/<stage>_settings.json`. Returns them."""
    settings = settings_of(options)
    print(f"{stage}  (deepfake_detection {__version__})")
    for name, value in settings.items():
        print(f"  {name:<18} {value if not isinstance(value, (dict, list)) else json.dumps(value)}")
    if out is not None:
        for folder in (out, stage_reports(out)):
            remove_dead_partials(folder)  # of runs that were killed
        write_json(stage_reports(out) / f"{stage}_settings.json", {"stage": stage, "version": __version__, **settings})
    sys.stdout.flush()
    return settings


def stage_reports(out: Path) -> Path:
    """`<out>/stage_reports`, made if it is not there.

    Raises:
        UserError: when it cannot be written.
    """
    folder = Path(out) / "stage_reports"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(
            f"cannot write results here ({e.strerror})", file=out, hint="choose another folder with --out"
        ) from None
    return folder


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> None:
    """Runs `main` as a program: bad input gives one line and exit code 2, Ctrl-C one line and 130. Bugs still raise."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the locale's alphabet lacks; as stderr does
    try:
        sys.exit(main(argv) or EXIT_OK)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:
        # The reader (head, less) went away; silence Python's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_SOME_FAILED)
    except OSError as e:
        known = of_the_system(e)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
