"""A page in the browser: drop a video, get the verdict and its report. Also a JSON API for other programs.

  python serve.py                       then open http://127.0.0.1:8000
  python serve.py --port 9000 --workers 2 --keep-hours 1

  python serve.py --host 0.0.0.0 --name deepfake.example.org --token-file token.txt

Listens on this computer only, unless --host says otherwise; contacts no other machine, except hosts that
--callback-host names and, with --allow-urls, those of the addresses that callers give. The uploaded video is deleted
as soon as it has its verdict, result and report after --keep-hours. Ctrl-C ends it; videos still waiting are gone on
with at the next start.
"""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.aggregation import RULES
from deepfake_detection.errors import UserError


def options():
    p = cli.parser(__doc__, data=False, out=False, idle=("--force",))
    _add_callers(p)
    _add_work(p)
    _add_outside(p)
    cli.detector_options(p, RULES)
    p.add_argument(
        "--explain",
        choices=("auto", "occlusion", "none"),
        default="auto",
        help="what reports draw over faces (default: %(default)s)",
    )
    return p


def _add_callers(p) -> None:
    """Where the server listens, and to whom."""
    p.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s, this computer only)",
    )
    p.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    p.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a further name by which browsers may call this server; needed with --host 0.0.0.0",
    )
    p.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token that every caller must show; for servers that others reach",
    )


def _add_work(p) -> None:
    """What it keeps, and how much of it."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "deepfake_detection"
    p.add_argument(
        "--store",
        type=Path,
        default=state,
        metavar="DIR",
        help="folder of the queue, uploads and reports (default: %(default)s)",
    )
    p.add_argument(
        "--limit-mb", type=cli.positive_float, default=200, metavar="MB", help="largest upload (default: %(default)s)"
    )
    p.add_argument(
        "--queue", type=cli.positive_int, default=100, metavar="N", help="videos that may wait (default: %(default)s)"
    )
    p.add_argument(
        "--keep-hours",
        type=cli.positive_float,
        default=24,
        metavar="H",
        help="how long results are kept (default: %(default)s)",
    )
    p.add_argument(
        "--time-limit",
        type=cli.positive_float,
        default=300,
        metavar="S",
        help="longest work on one video (default: %(default)s)",
    )
    p.add_argument(
        "--memory-gb",
        type=cli.positive_float,
        default=6,
        metavar="GB",
        help="address space of a worker (default: %(default)s)",
    )


def _add_outside(p) -> None:
    """Which other machines it contacts."""
    p.add_argument(
        "--callback-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="host that may be sent results; needs a secret",
    )
    p.add_argument(
        "--callback-secret-file",
        type=Path,
        metavar="FILE",
        help="file, or /dev/fd/N, with the secret that signs callbacks (else the variable DEEPFAKE_CALLBACK_SECRET)",
    )
    p.add_argument(
        "--allow-urls",
        action="store_true",
        help="let callers name the address of a video, which this server then fetches from public hosts (needs yt-dlp)",
    )
    p.add_argument(
        "--allow-url-network",
        action="append",
        default=[],
        metavar="NET",
        help="with --allow-urls: a private network, as 10.1.0.0/16, from which it may fetch too",
    )


def main(argv=None) -> int:
    chosen = options().parse_args(argv)
    try:
        import uvicorn

        from deepfake_detection.web import access, app, callbacks, connections, service  # noqa: F401 (all that may be missing)
    except ImportError as e:
        raise UserError(
            f"the web page needs {e.name}, which is not installed",
            hint="pip install 'deepfake-detection[web]', or pip install -r requirements.txt",
        ) from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.umask(0o077)  # queue, uploads and reports are nobody else's
    secret = callback_secret(chosen, again=argv is None)
    token = access.read_secret(chosen.token_file, "access token", access.SHORTEST_TOKEN) if chosen.token_file else None
    settings = {k: getattr(chosen, k) for k in ("sampling", "frames", "aggregate", "seed")}
    if chosen.model:
        settings["model"] = str(Path(chosen.model).absolute())
    with listen(chosen.host, chosen.port) as listening:
        config = service.Config(
            store=chosen.store,
            settings=settings,
            workers=chosen.workers,
            limit_bytes=int(chosen.limit_mb * 1e6),
            queue=chosen.queue,
            keep_s=chosen.keep_hours * 3600,
            time_limit_s=chosen.time_limit,
            memory_bytes=int(chosen.memory_gb * 2**30),
            explain=chosen.explain,
            hosts=names(chosen, listening, token is not None),
            callback_hosts=tuple(chosen.callback_host),
            secret=secret,
            token=token,
            urls=chosen.allow_urls,
            url_networks=networks(chosen),
        )
        running = service.Service(config)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop is a stop like Ctrl-C
        try:
            access.hide_memory()
            connections.raise_file_limit()
            running.start()
            host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
            print(f"open http://{host}:{listening.getsockname()[1]}  (Ctrl-C ends)", flush=True)
            uvicorn.Server(
                uvicorn.Config(
                    app.create_app(running),
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    ws="none",
                    http=connections.Protocol,
                    timeout_graceful_shutdown=5,
                )
            ).run(sockets=[listening])
        finally:
            running.stop()
    return cli.EXIT_OK


def callback_secret(chosen, again: bool) -> str | None:
    """The secret of --callback-secret-file or of the environment, which is then left behind.

    What a process was started with can be read under /proc for as long as it lives, so a server that got its secret by
    the environment starts itself again (where it may: `again`) with an environment without it and the secret in a pipe.
    """
    from deepfake_detection.web import access, callbacks

    given = os.environ.pop(callbacks.SECRET_VARIABLE, None)
    if chosen.callback_secret_file:
        return access.read_secret(chosen.callback_secret_file, "callback secret", callbacks.SHORTEST_SECRET)
    if given is None and not chosen.callback_host:
        return None
    if len(given or "") < callbacks.SHORTEST_SECRET or len(given) > access.LONGEST_SECRET_FILE:
        if not chosen.callback_host:
            return None
        raise UserError(
            f"--callback-host needs a secret of {callbacks.SHORTEST_SECRET} characters or more",
            hint="name it with --callback-secret-file",
        )
    if again and sys.platform == "linux":
        read, write = os.pipe()
        os.write(write, given.encode())
        os.close(write)
        os.set_inheritable(read, True)
        try:
            os.execv(sys.executable, [*sys.orig_argv, "--callback-secret-file", f"/dev/fd/{read}"])
        except OSError as e:
            os.close(read)
            logging.warning(
                "the callback secret can still be read in /proc/%d/environ (%s): give it by --callback-secret-file",
                os.getpid(),
                e.strerror,
            )
    return given


def networks(chosen) -> tuple[str, ...]:
    """The private networks of --allow-url-network.

    Raises:
        UserError: one that is none, without --allow-urls, or no yt-dlp.
    """
    if chosen.allow_urls and importlib.util.find_spec("yt_dlp") is None:
        raise UserError("--allow-urls needs yt-dlp, which is not installed", hint="pip install yt-dlp")
    if chosen.allow_url_network and not chosen.allow_urls:
        raise UserError("--allow-url-network goes with --allow-urls", hint="give both")
    try:
        return tuple(str(ipaddress.ip_network(net)) for net in chosen.allow_url_network)
    except ValueError as e:
        raise UserError(f"--allow-url-network: {e}", hint="as in 10.1.0.0/16") from None


def names(chosen, listening: socket.socket, token: bool) -> tuple[str, ...]:
    """The names by which the server may be called.

    Raises:
        UserError: it listens on all addresses and was given no name, or a name is none.
    """
    address = ipaddress.ip_address(listening.getsockname()[0])
    address = getattr(address, "ipv4_mapped", None) or address
    for name in chosen.name:
        if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name):
            raise UserError(
                f"--name {name} is no host name",
                hint="as in the address, without http:// and port: --name deepfake.example.org",
            )
    if address.is_unspecified and not chosen.name:
        # Without a name, pages of strangers could call the server under theirs (DNS rebinding).
        raise UserError(
            f"--host {chosen.host} listens on all addresses: the server must know how it is called",
            hint="name it: --name HOST, as in the address that browsers open",
        )
    if not address.is_loopback and not token:
        logging.warning(
            "listening beyond this computer without --token-file: whoever reaches it can upload, and see and delete "
            "every result"
        )
    # Addresses as names are safe: a page that calls itself by a name of its own is what the check is against.
    return (
        "localhost",
        "127.0.0.1",
        "[::1]",
        f"[{address}]" if address.version == 6 else str(address),
        chosen.host,
        *chosen.name,
    )


def listen(host: str, port: int) -> socket.socket:
    """The socket, opened first so that a taken port is told before a model is loaded."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except (OSError, UnicodeError, OverflowError) as e:
        its_port = isinstance(e, OverflowError) or getattr(e, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        raise UserError(
            f"cannot listen on {host} port {port} ({getattr(e, 'strerror', None) or e})",
            hint="choose another with --port" if its_port else "give an address of this computer with --host",
        ) from None


if __name__ == "__main__":
    cli.run(main)
