"""The process that decodes and judges videos: one JSON object a line in on stdin, one a line out on stdout.

    python -P -m deepfake_detection.detector.worker '{"settings": {...}, "limits": {...}}'

Decoders are written in C and are fed files from strangers, so decoding never happens in the process that holds the queue, the
secrets or the results. This one is started by `detector.pool` with an environment of a few named variables, leaves the network,
sets its own limits (`video.sandbox`), loads the model, says that it is ready and then works on what it is sent. It ends when its
stdin closes or its parent dies: a parent that is killed leaves no worker behind.

In:   {"video": path, "name": shown name, "report": path of an .html file or null, "explain": method}
Out:  {"ready": model} | {"refused": {what, file, hint}} once, then a job's {"share": 0..1, "stage": text} ...
      {"early": {...}} (the verdict, before the report is made, if one is) ... {"result": {...}}
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading

from ..errors import UserError
from ..video import sandbox

def main(argument: str) -> int:
    """Runs until stdin closes. Returns the exit code."""
    options = json.loads(argument)
    sandbox.die_with_parent()
    sandbox.leave_network()         # where the system allows it; before any thread
    # Whatever a library prints must not reach the channel to the parent: keep the channel aside, point stdout at stderr.
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
        from .predictor import Detector
        detector = Detector(**options["settings"])
        detector.warm()
    except UserError as e:
        send({"refused": {"what": e.what, "file": None if e.file is None else str(e.file), "hint": e.hint}})
        return 2
    except MemoryError:
        send({"refused": {"what": "the model needs more memory than a worker may take", "file": str(options["settings"].get("model") or ""),
                          "hint": "is it a detector's folder?"}})
        return 2
    send({"ready": detector.model})
    while True:
        job = jobs.get()
        if job_cpu_s is not None:
            sandbox.limit_cpu_from_now(job_cpu_s)
        send({"result": work(detector, job, send)})


def work(detector, job: dict, send) -> dict:
    """One video. Returns the JSON object of its result; what is wrong with the file is in `error`."""
    import time

    import cv2

    from .predictor import failed
    start = time.perf_counter()
    try:
        prediction = detector.predict(job["video"], progress=lambda share, stage: send({"share": share, "stage": stage}))
        result = prediction.to_json()
        result["video"] = job["name"]
        if job.get("report"):
            send({"early": {**result, "seconds": round(time.perf_counter() - start, 3)}})
            from .explain import write_report
            try:
                write_report(prediction, detector, job["report"], name=job["name"], method=job.get("explain") or "auto",
                             progress=lambda share, stage: send({"share": 0.75 + 0.25 * share, "stage": stage}))
            except (UserError, OSError, MemoryError) as e:      # the verdict stands without it
                why = e.what if isinstance(e, UserError) else getattr(e, "strerror", None) or "no memory"
                result["note"] = "; ".join(filter(None, (result["note"], f"the report could not be made: {why}")))
        result["seconds"] = round(time.perf_counter() - start, 3)
        return result
    except UserError as e:
        # The name the person gave, never the path the upload lies at.
        return failed(job["name"], f"{e.what} (hint: {e.hint})", seconds=time.perf_counter() - start, model=detector.model)
    except (MemoryError, cv2.error) as e:
        if not sandbox.out_of_memory(e):
            raise
        return failed(job["name"], "needs more memory than a worker may take (hint: is it a real video?)",
                      seconds=time.perf_counter() - start, model=detector.model)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
