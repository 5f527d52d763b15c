"""What a worker may say to the one who holds the queue: lines of JSON, bounded in length and looked at before anything
is done with them.

A worker decodes files from strangers. One that was taken over may send an endless line, no JSON, or a result of another
shape; all of these are `BadMessage` here, and cost the worker and its video's row, nothing else.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import time
from typing import IO

from .. import labels
from ..errors import printable

#: Bytes of a line. A result of 3 hours with a thousand people is 300 KB.
LONGEST_LINE = 4 << 20
#: Characters of a text in it, items of a list, levels of nesting.
LONGEST_TEXT, LONGEST_LIST, DEEPEST = 20_000, 20_000, 8

#: Seconds between two looks at whether the process still lives: something it started may hold its pipe open.
_LOOK_S = 0.5

_VERDICTS = (labels.VERDICT_REAL, labels.VERDICT_FAKE, labels.VERDICT_UNSURE, labels.VERDICT_NO_FACE)


class BadMessage(Exception):
    """What came is no message of a worker; str() says why."""


class Lines:
    """Lines of a process' standard output, read with a bound and a deadline.

    Args:
        process: started with `stdout=subprocess.PIPE` in binary.
    """

    def __init__(self, process: subprocess.Popen):
        self.process, self._rest = process, bytearray()
        os.set_blocking(_descriptor(process.stdout), False)

    def next(self, deadline: float | None = None) -> bytes | None:
        """The next line without its end, or None when the process has ended without one.

        Args:
            deadline: of `time.monotonic()`.

        Raises:
            TimeoutError: nothing whole came until the deadline.
            BadMessage: the line is longer than `LONGEST_LINE`.
        """
        fd, searched = _descriptor(self.process.stdout), 0
        while True:
            end = self._rest.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._rest[:end])
                del self._rest[: end + 1]
                return line
            searched = len(self._rest)
            if searched > LONGEST_LINE:
                raise BadMessage(f"a line of more than {LONGEST_LINE >> 20} MiB")
            left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError
            ended = self.process.poll() is not None
            poll = select.poll()  # select() takes no descriptors above 1023
            poll.register(fd, select.POLLIN)
            if not poll.poll(0 if ended else left * 1000):
                if ended:
                    return None
                continue
            data = os.read(fd, 1 << 16)
            if not data:
                return None
            self._rest += data


def _descriptor(pipe: IO | None) -> int:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe.fileno()


def send(process: subprocess.Popen, message: dict, deadline: float | None = None) -> None:
    """Writes one line to a process' standard input.

    Raises:
        TimeoutError: it did not take it until the deadline.
        BrokenPipeError: it has ended.
    """
    fd, data = _descriptor(process.stdin), json.dumps(message).encode() + b"\n"
    os.set_blocking(fd, False)
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            left = _LOOK_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError from None
            if process.poll() is not None:
                raise BrokenPipeError from None
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll(min(left, _LOOK_S) * 1000)


def parse(line: bytes) -> dict:
    """The JSON object of a line: plain, finite, of bounded texts, lists and depth.

    Raises:
        BadMessage: it is none.
    """
    try:
        message = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:  # also no UTF-8, numbers of 5,000 digits
        raise BadMessage(f"no JSON ({type(e).__name__})") from None
    if not isinstance(message, dict):
        raise BadMessage("no JSON object")
    return _plain(message, DEEPEST)


def _no_constant(name: str):
    raise ValueError(name)


def _plain(value, depth: int):
    """The value with what cannot be printed in its texts as escapes."""
    if depth < 0:
        raise BadMessage("nested too deep")
    if isinstance(value, str):
        _need(len(value) <= LONGEST_TEXT, "a text too long")
        return printable(value)  # also half surrogates, which no file can hold
    if isinstance(value, float):
        _need(math.isfinite(value), "a number that is not finite")
    elif isinstance(value, int):
        _need(abs(value) < 1 << 53, "a number too large")
    elif isinstance(value, list):
        _need(len(value) <= LONGEST_LIST, "a list too long")
        return [_plain(v, depth - 1) for v in value]
    elif isinstance(value, dict):
        return {_plain(k, depth - 1): _plain(v, depth - 1) for k, v in value.items()}
    return value


def started(message: dict) -> dict:
    """A worker's first message: {"ready": model} or {"refused": {"what", "file", "hint"}}.

    Raises:
        BadMessage: it is neither.
    """
    if set(message) == {"ready"} and isinstance(message["ready"], str):
        return message
    refused = message.get("refused")
    _need(
        isinstance(refused, dict)
        and all(isinstance(refused.get(k), str) for k in ("what", "hint"))
        and isinstance(refused.get("file"), (str, type(None))),
        "no word on whether it is ready",
    )
    return message


def answer(message: dict) -> dict:
    """A message during a job: {"share": 0..1, "stage": text}, {"early": object} (a verdict whose report is being made)
    or {"result": object}, the objects as `Prediction.to_json` makes them.

    Fields that are not named here pass: they are plain (`parse`).

    Raises:
        BadMessage: it is neither.
    """
    if "result" not in message and "early" not in message:
        _need(_number(message.get("share")) and isinstance(message.get("stage"), str), "no share of the work")
        return message
    result = message["result"] if "result" in message else message["early"]
    _need(isinstance(result, dict), "a result that is no object")
    p_real, error, verdict = (result.get(name, "") for name in ("p_real", "error", "verdict"))
    _need(
        isinstance(error, (str, type(None))) and (verdict in _VERDICTS if error is None else verdict is None),
        "a result without a verdict or an error",
    )
    _need(p_real is None or _number(p_real), "a probability that is none")
    _need(
        p_real is not None or verdict not in (labels.VERDICT_REAL, labels.VERDICT_FAKE),
        "a verdict without a probability",
    )
    _need(
        result.get("p_fake", "") is None if p_real is None else _number(result.get("p_fake")),
        "a probability that is none",
    )
    _need(_interval(result.get("interval", "")), "an interval that is none")
    _need(
        all(_count(result.get(name)) for name in ("frames_decoded", "frames_with_face")),
        "a number of frames that is none",
    )
    _need(_number(result.get("seconds"), most=math.inf), "a time that is none")
    _need(
        isinstance(result.get("model", ""), (str, type(None)))
        and all(isinstance(result.get(name, ""), str) for name in ("note", "rule")),
        "a text that is none",
    )
    people = result.get("people")
    _need(isinstance(people, list) and all(_person(p) for p in people), "a person that is none")
    return message


def _person(person) -> bool:
    return (
        isinstance(person, dict)
        and isinstance(person.get("id"), str)
        and _number(person.get("p_real"))
        and person.get("verdict") in _VERDICTS
        and _count(person.get("frames"))
        and _interval(person.get("interval", ""))
        and all(_number(person.get(k), most=math.inf) for k in ("first_s", "last_s"))
        and isinstance(person.get("well_seen"), bool)
    )


def _interval(value) -> bool:
    return value is None or isinstance(value, list) and len(value) == 2 and all(_number(v) for v in value)


def _number(value, *, most: float = 1.0) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most


def _count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BadMessage(otherwise)
