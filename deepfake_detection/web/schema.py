"""The objects of the JSON API, as documented under /docs; also the check of what a worker answers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Seconds = Annotated[FiniteFloat, Field(ge=-1e6, le=1e9)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]
Verdict = Literal["REAL", "FAKE", "UNSURE", "NO FACE"]
Text = Annotated[str, Field(max_length=2000)]

#: Longest result object that is kept, in characters of JSON. Forty people are twenty thousand.
LONGEST_RESULT = 400_000


class Person(BaseModel):
    """One person; numbered as in the report."""

    model_config = ConfigDict(extra="allow")
    id: Text
    p_real: Share = Field(description="calibrated probability that this face is real, 0..1")
    verdict: Verdict
    first_s: Seconds = Field(description="first seen, seconds from the start of the video")
    last_s: Seconds = Field(description="last seen, seconds from the start of the video")
    frames: Count = Field(description="frames with this face")
    interval: Interval | None = Field(
        None, description="95 % interval of p_fake, the average or another `rule` over frames: resampled frames"
    )
    well_seen: bool = True
    faces_that_vote: Count | None = Field(None, description="faces whose picture is good enough to be judged by")
    frame_range: Interval | None = Field(
        None, description="p_fake of single frames, 5th and 95th percentile: how far they agree"
    )
    reason: Text = ""
    rim: FiniteFloat = Field(
        0.0, description="what the face's rim against its surroundings adds to p_real's logit; below 0: FAKE"
    )
    flicker: FiniteFloat = Field(0.0, description="the same of how the face changes from one frame to the next")


class Result(BaseModel):
    """The same object as in `predict.py --json`."""

    model_config = ConfigDict(extra="allow")
    video: Text
    verdict: Verdict | None = Field(None, description="REAL, FAKE, UNSURE or NO FACE")
    p_real: Share | None = Field(None, description="calibrated probability that the video is real, 0..1")
    p_fake: Share | None = Field(None, description="1 - p_real")
    interval: Interval | None = Field(None, description="95 % interval of the average p_fake: resampled frames")
    rule: Text = Field("", description="what p_fake is of the faces that decide: mean, median, ...")
    frames_decoded: Count = 0
    frames_with_face: Count = 0
    people: Annotated[list[Person], Field(max_length=1000)] = []
    seconds: Seconds = Field(0.0, description="time of the work, seconds")
    model: Text | None = None
    error: Text | None = None
    note: Text = Field("", description="what is wrong with a file that could be judged all the same")
    reason: Text = Field("", description="why the verdict is UNSURE, in words")
    frame_range: Interval | None = Field(
        None, description="p_fake of single frames, 5th and 95th percentile: how far they agree"
    )
    stretches: Annotated[list[dict], Field(max_length=1000)] = Field(
        [], description="parts in time that look altered: start_s, end_s, p_fake, person"
    )
    file: dict = Field({}, description="width, height (pixels), codec, fps, bitrate, bits_per_pixel, duration_s, bytes")
    warnings: Annotated[list[Text], Field(max_length=100)] = Field([], description="about the material, for people")


class Face(BaseModel):
    """One face in one frame."""

    model_config = ConfigDict(extra="allow")
    person: Text
    frame: Count = Field(description="number among the frames looked at, from 0")
    index: Count = Field(description="number of the frame in the video, from 0")
    time_s: Seconds = Field(description="seconds from the start of the video")
    p_real: Share = Field(description="calibrated probability that this face is real, 0..1")
    box: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)] = Field(
        description="x, y, width, height in pixels of the frame as it was looked at: upright, from its upper left "
        "corner, and scaled by the "
        "video's width (under 300 px x2, 300 to 1000 x1, 1001 to 1900 x0.5, wider x0.33)"
    )
    confidence: Share = Field(description="of the face detector")


class Report(Result):
    """What the report was made of, without its pictures: the result and every face."""

    faces: list[Face] = []


def checked(result: dict) -> dict:
    """A worker's result object, if it has the documented form; a worker may have been taken over by its video.

    Raises:
        ValueError: it has not.
    """
    Result.model_validate(result, strict=True)
    if (result.get("verdict") is None) == (not result.get("error")):
        raise ValueError("neither a verdict nor an error, or both")
    if len(json.dumps(result, allow_nan=False)) > LONGEST_RESULT:
        raise ValueError("too long")
    return result


class Video(BaseModel):
    """A video that was handed in, and its result once there is one."""

    id: str
    name: str
    bytes: int
    state: str = Field(
        description="queued, running, done or failed; a running video with a result has its verdict, "
        "its report is being made"
    )
    share: float = Field(description="share of the work done, 0..1")
    stage: str = Field(description="what is being done, for people")
    ahead: int = Field(description="queued videos before this one")
    created: datetime = Field(description="RFC 3339, UTC")
    finished: datetime | None = Field(None, description="RFC 3339, UTC")
    expires: datetime | None = Field(None, description="when the result and the report are deleted, RFC 3339, UTC")
    result: Result | None = None
    report: str | None = Field(None, description="address of the HTML report")
    callback: dict | None = Field(None, description="state of the callback, if one was asked for")


class Health(BaseModel):
    """Whether the service works."""

    status: str = Field(description="ok, or what does not work")
    version: str
    model: str | None
    workers: int
    threads: int = Field(description="threads of the server that live")
    queued: int | None = Field(description="null while the table cannot be read")
    running: int | None
    limit_bytes: int
    keep_seconds: float
    token: bool = Field(description="whether callers must show a token")
    urls: bool = Field(False, description="whether the server fetches addresses, as it was started")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
