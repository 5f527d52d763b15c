"""The command `deepfake-detect`, which `pip install` makes: the top-level scripts and the package's own commands under
one name.

deepfake-detect predict clip.mp4
deepfake-detect predict --help
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from types import ModuleType

from . import __version__, cli, places
from .errors import UserError

#: Command: (module of the package, or a script by its name; what it does; the extra that has what it needs).
COMMANDS = {
    "predict": ("predict", "a verdict on videos, folders or addresses", "predict"),
    "serve": ("serve", "the same as a web page and JSON API on this machine", "web"),
    "evaluate": ("evaluate", "metrics with intervals of a file of scores", "evaluate"),
    "leaks": ("deepfake_detection.leaks", "people and videos on two sides of a split", "evaluate"),
    "export": ("deepfake_detection.export.formats", "a trained model as ONNX, OpenVINO or TFLite", "export"),
}


def main(argv=None) -> int | None:
    """Runs the command that the first argument names with the other arguments.

    Raises:
        UserError: also when a package is missing that only an extra installs.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    listed = "\n".join(f"  {name:<9} {what}" for name, (_, what, _) in COMMANDS.items())
    about = "Says whether the faces in a video were altered."
    more = f"commands:\n{listed}\n\ndeepfake-detect COMMAND --help lists a command's options."
    p = cli.bare_parser(f"{about}\n{more}", "deepfake-detect")
    p.add_argument("--version", action="version", version=f"deepfake-detect {__version__}")
    p.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND", help=", ".join(COMMANDS))
    command = p.parse_args(given[:1]).command
    where, _, extra = COMMANDS[command]
    sys.argv[0] = f"deepfake-detect {command}"  # what the command's own --help calls it
    try:
        return _load(where).main(given[1:])
    except ModuleNotFoundError as e:
        if (e.name or "").startswith(__package__):
            raise
        raise UserError(
            f"deepfake-detect {command} needs {e.name}, which is not installed",
            hint=f"pip install 'deepfake-detection[{extra}]'",
        ) from None


def _load(where: str) -> ModuleType:
    """A module of the package, or a script: after `pip install` in `commands/`, in a checkout beside the package."""
    if "." in where:
        return importlib.import_module(where)
    folder = next(f for f in (places.PACKAGE / "commands", places.PACKAGE.parent) if (f / f"{where}.py").is_file())
    spec = importlib.util.spec_from_file_location(f"deepfake_detection_{where}", folder / f"{where}.py")
    if spec is None or spec.loader is None:
        raise ImportError(where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Its help shows examples as a checkout has them.
    module.__doc__ = re.sub(rf"python {where}\.py", f"deepfake-detect {where}", module.__doc__ or "")
    return module


def program() -> None:
    """The entry point."""
    cli.run(main)


if __name__ == "__main__":
    program()
