"""The score convention, in one place: a score is P(real); 1 = real, 0 = fake."""

from __future__ import annotations

REAL = 1
FAKE = 0

#: Folder names of the classes, as the numbered stages write them.
CLASS_FOLDERS = {"real": REAL, "fake": FAKE}

#: Words a person reads.
VERDICT_REAL, VERDICT_FAKE, VERDICT_UNSURE, VERDICT_NO_FACE = "REAL", "FAKE", "UNSURE", "NO FACE"

#: The published rule at a tie: p_real >= 0.5 is REAL.
TIE_THRESHOLD = 0.5


def counted(number: int, word: str) -> str:
    """ "1 video", "2 videos": a count that a person reads."""
    return f"{number:,} {word if number == 1 else word + 's'}"


def label_of(word: str) -> int:
    """ "REAL"/"real" -> 1, "FAKE"/"fake" -> 0.

    Raises:
        ValueError: for any other word.
    """
    folded = word.strip().lower()
    if folded not in CLASS_FOLDERS:
        raise ValueError(f"not a label: {word!r}")
    return CLASS_FOLDERS[folded]
