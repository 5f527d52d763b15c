"""A page in the browser: drop a video, get the verdict and its report. Also a JSON API for other programs.

  python serve.py                       then open http://127.0.0.1:8000
  python serve.py --port 9000 --workers 2 --keep-hours 1

Listens on this computer only, unless --host says otherwise; contacts no other machine, except hosts that --callback-host names.
The uploaded video is deleted as soon as it has its verdict, result and report after --keep-hours. Ctrl-C ends it; videos still
waiting are gone on with at the next start.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.errors import UserError


def options():
    p = cli.parser(__doc__, data=False, out=False)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "deepfake_detection"
    p.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s, this computer only)")
    p.add_argument("--port", type=int, default=8000, metavar="N", help="port to listen on, 0 for a free one (default: %(default)s)")
    p.add_argument("--name", action="append", default=[], metavar="HOST", help="a further name by which browsers may call this server")
    p.add_argument("--store", type=Path, default=state, metavar="DIR", help="folder of the queue, uploads and reports (default: %(default)s)")
    p.add_argument("--limit-mb", type=cli.positive_float, default=200, metavar="MB", help="largest upload (default: %(default)s)")
    p.add_argument("--queue", type=cli.positive_int, default=100, metavar="N", help="videos that may wait (default: %(default)s)")
    p.add_argument("--keep-hours", type=cli.positive_float, default=24, metavar="H", help="how long results are kept (default: %(default)s)")
    p.add_argument("--time-limit", type=cli.positive_float, default=300, metavar="S", help="longest work on one video (default: %(default)s)")
    p.add_argument("--memory-gb", type=cli.positive_float, default=6, metavar="GB", help="address space of a worker (default: %(default)s)")
    p.add_argument("--callback-host", action="append", default=[], metavar="HOST[:PORT]",
                   help="host that may be sent results; needs DEEPFAKE_CALLBACK_SECRET in the environment")
    p.add_argument("--model", metavar="DIR", help="folder with detector.onnx and detector.json (default: the shipped one)")
    p.add_argument("--sampling", choices=("even", "per-second", "keyframes"), help="which frames (default: as the model says)")
    p.add_argument("--frames", type=cli.positive_int, metavar="N", help="how many frames a video at most (default: as the model says)")
    p.add_argument("--aggregate", metavar="RULE", help="from faces to a verdict (default: as the model says)")
    p.add_argument("--explain", choices=("auto", "occlusion", "none"), default="auto", help="what reports draw over faces (default: %(default)s)")
    return p


def main(argv=None) -> int:
    chosen = options().parse_args(argv)
    try:
        import uvicorn
        from deepfake_detection.web import app, callbacks, service
    except ImportError as e:
        raise UserError(f"the web page needs {e.name}, which is not installed", hint="pip install -r requirements.txt") from None
    secret = os.environ.pop(callbacks.SECRET_VARIABLE, None)
    if chosen.callback_host and len(secret or "") < callbacks.SHORTEST_SECRET:
        raise UserError(f"--callback-host needs a secret of {callbacks.SHORTEST_SECRET} characters or more",
                        hint=f"set {callbacks.SECRET_VARIABLE} in the environment")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        loopback = ipaddress.ip_address(chosen.host).is_loopback
    except ValueError:
        loopback = chosen.host == "localhost"
    names = ("localhost", "127.0.0.1", "[::1]", f"[{chosen.host}]" if ":" in chosen.host else chosen.host, *chosen.name)
    if not loopback:
        logging.warning("listening beyond this computer: whoever reaches it can upload, and see and delete every result")
    settings = {k: getattr(chosen, k) for k in ("sampling", "frames", "aggregate", "seed")}
    if chosen.model:
        settings["model"] = str(Path(chosen.model).absolute())
    config = service.Config(store=chosen.store, settings=settings, workers=chosen.workers, limit_bytes=int(chosen.limit_mb * 1e6), queue=chosen.queue,
                            keep_s=chosen.keep_hours * 3600, time_limit_s=chosen.time_limit, memory_bytes=int(chosen.memory_gb * 2**30), explain=chosen.explain,
                            # A server on all addresses without a name cannot know how it is called.
                            hosts=names if loopback or chosen.name else (), callback_hosts=tuple(chosen.callback_host), secret=secret)
    with listen(chosen.host, chosen.port) as listening:
        running = service.Service(config)
        signal.signal(signal.SIGTERM, signal.default_int_handler)       # a service manager's stop is a stop like Ctrl-C
        try:
            running.start()
            host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
            print(f"open http://{host}:{listening.getsockname()[1]}  (Ctrl-C ends)", flush=True)
            uvicorn.Server(uvicorn.Config(app.create_app(running), log_level="warning", access_log=False, server_header=False,
                                          timeout_graceful_shutdown=5)).run(sockets=[listening])
        finally:
            running.stop()
    return cli.EXIT_OK


def listen(host: str, port: int) -> socket.socket:
    """The socket, opened first so that a taken port is told before a model is loaded."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)
    except OSError as e:
        raise UserError(f"cannot listen on {host} port {port} ({e.strerror})", hint="choose another with --port") from None


if __name__ == "__main__":
    cli.run(main)
