"""What people in a video are called: one numbering in lines, tables, JSON, report and annotated video."""

from __future__ import annotations

import re


def person_name(id: str) -> str:
    """ "p2" -> "Person 2"; another id is a name already."""
    number = re.fullmatch(r"p(\d+)", id)
    return f"Person {number[1]}" if number else id
