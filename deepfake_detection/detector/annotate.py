"""A copy of a video for people to look at: boxes around the faces, the names of the people, and the score so far in
words and numbers.

H.264 without sound, every frame of the source that was judged, at most LONGEST_SIDE pixels wide or high. Only some
frames were judged: between two of them a box moves evenly, where they are close in time; elsewhere it is shown around
the judged moment only.
"""

from __future__ import annotations

import bisect
import contextlib
import mmap
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from .. import files, labels
from ..errors import UserError
from ..reports.people import person_name
from ..video.sampling import EVEN, Sampling

LONGEST_SIDE = 1920
#: Longer side of the frame in a report, px.
FRAME_SIDE = 1000
#: A box moves from one judged frame to the next where they are no further apart than this; else it stays for SHOWN_S
#: around each.
BETWEEN_S, SHOWN_S = 1.0, 0.3
#: BGR; orange and blue are told apart by colour-blind eyes, and the word stands beside.
COLOURS = {
    labels.VERDICT_FAKE: (20, 90, 240),
    labels.VERDICT_REAL: (240, 130, 40),
    labels.VERDICT_UNSURE: (40, 200, 240),
}
GREY = (170, 170, 170)
MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
#: Time stamps a second.
TICKS = 90_000

#: The comment in every copy, by which a later run knows it.
MARK = "annotated by deepfake_detection; not the original video"


class Track:
    """One person's boxes and running score.

    Args:
        person: `Person`; faces: its `FaceScore`s in time order; rule: from an array of p_real to one; thresholds: score
            -> word.
    """

    def __init__(self, person, faces: list, rule: Callable, thresholds):
        self._person, self._faces, self._thresholds = person, faces, thresholds
        self._times = [f.time_s for f in faces]
        voting, scores = [], []
        for face in faces:
            if face.votes:
                voting.append(face.p_real)
            scores.append(float(rule(np.array(voting))) if voting else None)
        self._scores = scores
        self.name = person_name(person.id)

    def box(self, time_s: float) -> tuple[float, float, float, float] | None:
        """x, y, width, height at this time in pixels of the judged (resized) frame, or None where not seen."""
        after = bisect.bisect_right(self._times, time_s)
        before = after - 1
        if 0 <= before and after < len(self._faces):
            a, b = self._faces[before], self._faces[after]
            if b.frame - a.frame == 1 and b.time_s - a.time_s <= BETWEEN_S:
                part = (time_s - a.time_s) / (b.time_s - a.time_s)
                return tuple(u + (v - u) * part for u, v in zip(a.box, b.box))
        near = [f for f in self._faces[max(before, 0) : after + 1] if abs(f.time_s - time_s) <= SHOWN_S]
        return min(near, key=lambda f: abs(f.time_s - time_s)).box if near else None

    def score(self, time_s: float) -> tuple[str, float | None]:
        """(word, fake probability) from what was seen up to this time."""
        p_real = self._scores[max(bisect.bisect_right(self._times, time_s) - 1, 0)]
        if p_real is None or not self._person.well_seen:
            return "not judged", None
        word = self._thresholds.verdict(p_real)
        # Where the whole is UNSURE for a reason (faces too small, ...) no moment of it is FAKE or REAL.
        held = (
            self._person.verdict == labels.VERDICT_UNSURE
            and self._thresholds.verdict(self._person.p_real) != labels.VERDICT_UNSURE
        )
        return (labels.VERDICT_UNSURE if held else word), 1 - p_real


def is_annotated(path: str | Path) -> bool:
    """Whether a file is such a copy. Nothing is decoded: it may be a stranger's."""
    try:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(MARK.encode()) >= 0
    except (OSError, ValueError):  # empty
        return False


def write_annotated(
    prediction, detector, path: str | Path, *, progress: Callable[[float, str], None] | None = None
) -> None:
    """Writes the annotated copy to `path` (written aside, renamed when whole).

    Raises:
        UserError: no frame can be decoded, or the file cannot be written.
    """
    import av

    from ..video.decode import FrameReader

    path = Path(path)
    if prediction.file.get("still"):
        raise UserError("this is a still picture", file=prediction.video, hint="its report shows the boxes: --report")
    reader = FrameReader(
        Path(prediction.video),
        Sampling(EVEN, 1 << 40, detector.settings.max_seconds),
        scale=1,
        threads=detector.settings.threads,
    )
    tracks = [
        Track(p, own, detector._rule, detector.thresholds)
        for p in prediction.people
        if (own := [f for f in prediction.faces if f.person == p.id and not f.again])
    ]
    with files.atomic_path(path) as partial:
        try:
            with av.open(
                str(partial),
                "w",
                format=MUXERS[path.suffix.lower()],
                options={} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"},
            ) as out:
                out.metadata["comment"] = MARK
                _encode(out, reader, tracks, prediction, detector, progress)
        except av.FFmpegError as e:
            raise UserError(
                f"the annotated video cannot be written ({e.strerror})", file=path, hint="is there room on the disk?"
            ) from None


def _encode(out, reader, tracks: list[Track], prediction, detector, progress) -> None:
    """Draws on every frame and writes it into the container."""
    import av

    from ..video.resize import scale_for, scaled_size

    stream, last = None, -1
    for frame in reader:
        if stream is None:
            source = frame.image.shape[1], frame.image.shape[0]
            judged = scaled_size(*source, scale_for(detector.resolved["scale"], source[0]))
            size = _size(*source)
            stream = _stream(out, size, reader.info.fps, detector.settings.threads)
        image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA) if size != source else frame.image.copy()
        draw(image, tracks, frame.time_s, (size[0] / judged[0], size[1] / judged[1]), prediction)
        picture = av.VideoFrame.from_ndarray(image, format="bgr24")
        last = max(last + 1, round(frame.time_s * TICKS))
        picture.pts, picture.time_base = last, Fraction(1, TICKS)
        out.mux(stream.encode(picture))
        if progress:
            progress(frame.number / max(len(reader.wanted), 1), "drawing the boxes")
    if stream is None:
        raise UserError("no frame of this video can be decoded", file=prediction.video, hint="is it whole?")
    out.mux(stream.encode(None))


def _size(width: int, height: int) -> tuple[int, int]:
    """Even, and at most LONGEST_SIDE."""
    factor = min(1.0, LONGEST_SIDE / max(width, height))
    return max(2, int(width * factor) // 2 * 2), max(2, int(height * factor) // 2 * 2)


def _stream(container, size: tuple[int, int], fps: float, threads: int):
    stream = container.add_stream(
        "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "21", "preset": "veryfast"}
    )
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS)
    stream.codec_context.thread_count = threads
    return stream


def draw(image: np.ndarray, tracks: list[Track], time_s: float, factors: tuple[float, float], prediction) -> None:
    """Draws into uint8 BGR (H, W, 3): a box and a label a person, and a line about the whole video at the bottom.

    Args:
        factors: pixels of `image` for a pixel of the judged frame, across and down.
    """
    height, width = image.shape[:2]
    unit = max(0.45, min(width, height) / 750)
    for track in tracks:
        box = track.box(time_s)
        if box is None:
            continue
        x, y, w, h = box[0] * factors[0], box[1] * factors[1], box[2] * factors[0], box[3] * factors[1]
        word, p_fake = track.score(time_s)
        colour = COLOURS.get(word, GREY)
        corners = (round(x), round(y)), (round(x + w), round(y + h))
        cv2.rectangle(image, *corners, colour, max(1, round(2.5 * unit)), cv2.LINE_AA)
        text = f"{track.name}: {word}" + ("" if p_fake is None else f" {shown_percent(p_fake)}")
        label(image, text, (round(x), round(y)), unit, colour)
    whole = f"{int(time_s // 60)}:{time_s % 60:04.1f}   whole video: {prediction.verdict}"
    if prediction.p_fake is not None:
        whole += f", fake probability {shown_percent(prediction.p_fake)}"
    label(image, whole, (0, height), unit, (235, 235, 235))


def frame_picture(prediction, detector) -> dict | None:
    """The frame that shows the people best, with their boxes and names: {"picture": data URI, "time_s", "index",
    "people": names}; None without a face, or where it cannot be decoded a second time."""
    from .explain import data_uri

    if not prediction.faces:
        return None
    seen: dict[int, list] = {}
    known = {p.id: p for p in prediction.people}
    for face in prediction.faces:
        if face.person in known:  # a few bad pictures are nobody
            seen.setdefault(face.frame, []).append(face)
    first = prediction.people[0].id
    # Most of those who count, the one who decides among them, then where this one is most suspicious.
    best = max(
        seen.values(),
        key=lambda faces: (
            sum(known[f.person].well_seen for f in faces),
            any(f.person == first for f in faces),
            -min((f.p_real for f in faces if f.person == first), default=1.0),
        ),
    )
    frame = _frame_again(prediction, detector, best[0].index)
    if frame is None:
        return None
    longest = max(frame.image.shape[:2])
    factor = FRAME_SIDE / longest if longest > FRAME_SIDE else max(1.0, FRAME_SIDE / 2 / longest)
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    image = (
        cv2.resize(frame.image, None, fx=factor, fy=factor, interpolation=kind) if factor != 1 else frame.image.copy()
    )
    unit = max(0.7, max(image.shape[:2]) / 850)
    for face in best:
        person = known[face.person]
        colour = COLOURS.get(person.verdict if person.well_seen else "", GREY)
        x, y, w, h = (round(v * factor) for v in face.box)
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, max(2, round(2.5 * unit)), cv2.LINE_AA)
        text = f"{person_name(person.id)}: {person.verdict if person.well_seen else 'not judged'}"
        label(image, text, (x, y), unit, colour)
    return {
        "picture": data_uri(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)),
        "time_s": frame.time_s,
        "index": frame.index,
        "people": [person_name(f.person) for f in best],
    }


def _frame_again(prediction, detector, index: int):
    """A judged frame, decoded a second time; None where it cannot be."""
    from ..video.decode import FrameReader
    from . import stills

    scale = detector.resolved["scale"]
    try:
        if prediction.file.get("still"):
            return next(iter(stills.read(prediction.video, scale)))
        reader = FrameReader(
            prediction.video, Sampling(EVEN), scale=scale, threads=detector.settings.threads, wanted=[index]
        )
        with contextlib.closing(reader):
            return next(reader, None)
    except UserError:
        return None


def shown_percent(p_fake: float) -> str:
    """ "54 %", never 0 or 100, as in the report but in ASCII."""
    from ..reports.html import percent

    return percent(p_fake).replace("\u00a0", " ")


def label(image: np.ndarray, text: str, at: tuple[int, int], unit: float, colour: tuple[int, int, int]) -> None:
    """A dark plate with coloured text, its lower left corner at `at`, moved inside the picture."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale, thick, pad = 0.65 * unit, max(1, round(1.5 * unit)), round(6 * unit)
    (w, h), base = cv2.getTextSize(text, font, scale, thick)
    while w + 2 * pad > image.shape[1] and scale > 0.25:
        scale *= 0.85
        (w, h), base = cv2.getTextSize(text, font, scale, thick)
    x = min(max(0, at[0]), max(0, image.shape[1] - w - 2 * pad))
    bottom = min(max(h + base + 2 * pad, at[1]), image.shape[0])
    plate = image[bottom - h - base - 2 * pad : bottom, x : x + w + 2 * pad]
    plate[:] = plate // 5
    cv2.putText(image, text, (x + pad, bottom - base - pad), font, scale, colour, thick, cv2.LINE_AA)
