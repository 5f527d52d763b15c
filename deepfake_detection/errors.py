"""The one exception for everything that a user, not a programmer, can put right."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class UserError(Exception):
    """Bad input. Shown as one line without a traceback; the process exits with 2.

    Args:
        what: what is wrong, in a few words, e.g. "metadata.json is not valid JSON".
        file: the file or folder it is about, if any.
        hint: what the user can do about it.
    """

    def __init__(self, what: str, *, file: str | Path | None = None, hint: str):
        # What was read from a file may be quoted in it, so control characters are shown, not sent to the terminal or a
        # table.
        self.what, self.file, self.hint = printable(what), file, printable(hint)
        super().__init__(str(self))

    def __str__(self) -> str:
        # A file name may hold newlines or control characters; repr keeps the message to one line.
        where = ""
        if self.file is not None:
            text = str(self.file)
            where = ": " + (text if text.isprintable() else repr(text))
        return f"{self.what}{where} (hint: {self.hint})"

    def __reduce__(self):  # keyword-only arguments would break pickling between worker processes
        return _rebuild, (self.what, self.file, self.hint)


def of_the_disk(error: OSError) -> UserError | None:
    """The UserError for a disk that is full or read-only; None for any other OSError: a bug until understood."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no room on the disk ({error.strerror})",
            file=error.filename,
            hint="make room, then run the same command again",
        )
    if str(error.strerror).startswith("No usable temporary directory"):  # Python's own words
        return UserError(
            "there is no folder for temporary files that can be written",
            file=os.environ.get("TMPDIR"),
            hint="make room, or set TMPDIR to a folder with room",
        )
    if error.errno == errno.EROFS:
        return UserError("cannot write here (read-only file system)", file=error.filename, hint="choose another folder")
    return None


#: What the system says of a named file, and what to do. Without a name such an error is a bug until it is understood.
_OF_A_FILE = {
    errno.EACCES: "check its permissions and those of the folders above it",
    errno.EPERM: "check its permissions and who owns it",
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EIO: "the disk or the network share fails: copy the file elsewhere",
    errno.ESTALE: "the network share was mounted anew: try again",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands where a file should be",
}


def of_the_system(error: OSError) -> UserError | None:
    """As `of_the_disk`, and for a named file that the system does not let us have."""
    if error.filename is not None and error.errno in _OF_A_FILE:
        of = error.filename if error.filename2 is None else error.filename2  # of a rename, what it was to become
        name = os.fsdecode(of) if isinstance(of, (str, bytes, os.PathLike)) else str(of)
        return UserError(f"the system refuses this file ({error.strerror})", file=name, hint=_OF_A_FILE[error.errno])
    return of_the_disk(error)


def printable(text: str) -> str:
    """The text on one line: what cannot be printed as its escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _rebuild(what, file, hint):
    return UserError(what, file=file, hint=hint)
