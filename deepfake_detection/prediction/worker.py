"""The process that decodes and judges videos: one JSON object a line in on stdin, one a line out on stdout.

    python -P -m deepfake_detection.prediction.worker '{"settings": {...}, "limits": {...}}'

Decoders are written in C and are fed files from strangers, so decoding never happens in the process that holds the
queue, the secrets or the results. This one is started by `prediction.pool` with an environment of a few named
variables, leaves the network, sets its own limits (`video.sandbox`), loads the model, says that it is ready and then
works on what it is sent. It ends when its stdin closes or its parent dies: a parent that is killed leaves no worker
behind.

In:   {"video": path, "name": shown name, "report": path of an .html file or null, "explain": method, "annotate": path
of a video or null,
      "keep": true to keep what was found for a later job with the same video, which then makes the report}
Out:  {"ready": model} | {"refused": {what, file, hint}} once, then a job's {"share": 0..1, "stage": text} ...
      {"early": {...}} (the verdict, before the report is made, if one is) ... {"result": {...}}
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time

from ..errors import UserError
from ..video import sandbox


def main(argument: str) -> int:
    """Runs until stdin closes. Returns the exit code."""
    options = json.loads(argument)
    sandbox.die_with_parent()
    sandbox.close_in()  # as far as the system allows it; before any thread
    # Whatever a library prints must not reach the channel to the parent: keep the channel aside, point stdout at
    # stderr.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: dict) -> None:
        channel.write(json.dumps(message, allow_nan=False) + "\n")
        channel.flush()

    # Before the model is loaded: whoever made it would otherwise choose how much memory that takes.
    limits = dict(options["limits"])
    job_cpu_s = limits.pop("job_cpu_s", None)
    sandbox.limit_self(**limits)
    jobs: queue.SimpleQueue = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    try:
        from ..detector.predictor import Detector

        detector = Detector(**options["settings"])
        detector.warm()
    except UserError as e:
        send({"refused": {"what": e.what, "file": None if e.file is None else str(e.file), "hint": e.hint}})
        return 2
    except MemoryError:
        send(
            {
                "refused": {
                    "what": "the model needs more memory than a worker may take",
                    "file": str(options["settings"].get("model") or ""),
                    "hint": "is it a detector's folder?",
                }
            }
        )
        return 2
    send({"ready": detector.model})
    kept: dict = {}
    while True:
        job = jobs.get()
        if job_cpu_s is not None:
            sandbox.limit_cpu_from_now(job_cpu_s)
        send({"result": work(detector, job, send, kept)})


def work(detector, job: dict, send, kept: dict) -> dict:
    """One video. Returns the JSON object of its result; what is wrong with the file is in `error`.

    Args:
        kept: predictions of jobs with "keep", each with the version of its file, by video.
    """
    import cv2

    from ..detector.predictor import failed

    start = time.perf_counter()
    try:
        judged = JUDGED if not job.get("keep") and any(job.get(what) for what in WORDS) else 1.0
        prediction, version = kept.pop(job["video"], None) or (None, _version(job["video"]))
        if prediction is None:
            prediction = detector.predict(job["video"], progress=_part(send, 0, judged))
        result = {**prediction.to_json(), "video": job["name"]}
        if job.get("keep"):
            from ..detector.explain import slim

            kept[job["video"]] = slim(prediction), version
        elif job.get("report") or job.get("annotate"):
            send({"early": {**result, "seconds": round(time.perf_counter() - start, 3)}})
            if problems := make_outputs(detector, prediction, version, job, send):
                result = {**result, "note": "; ".join(filter(None, [result["note"], *problems])), "not_made": problems}
        return {**result, "seconds": round(time.perf_counter() - start, 3)}
    except UserError as e:
        # The name the person gave, never the path the upload lies at.
        seconds = time.perf_counter() - start
        return failed(job["name"], f"{e.what} (hint: {e.hint})", seconds=seconds, model=detector.model)
    except (MemoryError, cv2.error) as e:
        if not sandbox.out_of_memory(e):
            raise
        return failed(
            job["name"],
            "needs more memory than a worker may take (hint: is it a real video?)",
            seconds=time.perf_counter() - start,
            model=detector.model,
        )


def _part(send, start: float, width: float):
    """A progress function for a part of a job, whose share goes from `start` to `start + width` and never back."""
    furthest = 0.0

    def tell(share: float, stage: str) -> None:
        nonlocal furthest
        furthest = max(furthest, min(share, 1.0))
        send({"share": start + width * furthest, "stage": stage})

    return tell


#: Share of a job that is the verdict, where outputs follow.
JUDGED = 0.75
#: What the outputs of a job are called.
WORDS = {"report": "report", "annotate": "annotated video"}


def _version(video: str) -> tuple[int, ...] | None:
    """What changes when a file is written, replaced or removed."""
    try:
        found = os.stat(video)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def make_outputs(detector, prediction, version: tuple[int, ...] | None, job: dict, send) -> list[str]:
    """The report and annotated video that a job asks for; returns, in words, what could not be made.

    Args:
        version: of the file when it was judged: a report would state the SHA-256 of what lies there now.
    """
    import cv2

    from ..detector.annotate import write_annotated
    from ..detector.explain import write_report

    made = {
        "report": lambda tell: write_report(
            prediction, detector, job["report"], name=job["name"], method=job.get("explain") or "auto", progress=tell
        ),
        "annotate": lambda tell: write_annotated(prediction, detector, job["annotate"], progress=tell),
    }
    problems = []
    wanted = [what for what in made if job.get(what)]
    for number, what in enumerate(wanted):
        width = (1 - JUDGED) / len(wanted)
        try:
            if _version(job["video"]) != version:
                raise UserError(
                    "the video was changed or removed after it was judged", file=job["name"], hint="judge it again"
                )
            made[what](_part(send, JUDGED + number * width, width))
        except (UserError, OSError, MemoryError, cv2.error) as e:
            if isinstance(e, cv2.error) and not sandbox.out_of_memory(e):
                raise
            why = (
                e.what
                if isinstance(e, UserError)
                else getattr(e, "strerror", None) or "it needs more memory than a worker may take"
            )
            problems.append(f"the {WORDS[what]} could not be made: {why}")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
