"""Fetching an address: in a process of its own that can reach public hosts only.

What yt-dlp makes of an address (redirects, names, pages, lists of parts) is judged where it ends: at the connection. An
audit hook, which no Python code can take off again, looks at every connection of the process and lets it start no
program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import socket
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..video import sandbox
from . import fetch

#: Seconds for all of it, seconds of computing, and the address space of the process.
WALL_S, CPU_S, MEMORY_BYTES = 300.0, 120, 2 << 30
#: Largest file that `fetched` takes.
MAX_BYTES = 1 << 30
#: IPv6 that stands for IPv4 addresses (NAT64), whatever these are.
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn")


def may_connect(host: object, networks: tuple = ()) -> bool:
    """Whether a connection may go to a numeric address: a public one, or one of `networks`; never to a name or a file.

    Args:
        networks: of `ipaddress.ip_network`.
    """
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return may_connect(inner, networks)
    if any(address.version == net.version and address in net for net in networks):
        return True
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _guard(networks: tuple) -> list:
    """Sets the hook. Returns the list that gets each address which was refused."""
    refused: list = []

    def look(event: str, arguments: tuple) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]
            host = address[0] if isinstance(address, tuple) and address else None
            if not may_connect(host, networks):
                refused.append(str(host))
                raise PermissionError("no public address")
        elif event in _STARTS:
            raise PermissionError("no programs here")

    sys.addaudithook(look)
    return refused


def _child(url: str, folder: str, max_bytes: int, networks: list[str], proxy: str) -> dict:
    """In the process: {"file", "title"}, or {"status", "why", perhaps "hint"}: an HTTP status, words for people."""
    sys.modules["curl_cffi"] = None  # type: ignore[assignment]  # connects by itself, past the hook
    import yt_dlp  # before the hook: while it is loaded it looks for programs

    over: list = []

    def look(state: dict) -> None:
        if max(state.get("total_bytes") or 0, state.get("downloaded_bytes") or 0) > max_bytes:
            over.append(state)
            raise yt_dlp.utils.DownloadCancelled

    refused = _guard(tuple(ipaddress.ip_network(n) for n in networks))
    own: dict[str, Any] = {"proxy": proxy, "fixup": "never", "ffmpeg_location": "/nowhere"}
    own |= {"max_filesize": None, "progress_hooks": [look]}
    limit = {"status": 413, "why": f"larger than {max_bytes // 1_000_000} MB"}
    try:
        path, title = fetch.download(url, Path(folder), max_bytes, **own)
    except UserError as e:
        if refused:
            return {"status": 403, "why": "this address leads into a private network, from which nothing is fetched"}
        if over or any(f.stat().st_size >= max_bytes for f in Path(folder).iterdir()):
            return limit
        return {"status": 502, "why": e.what, "hint": e.hint}
    if path.stat().st_size > max_bytes:
        return limit
    return {"file": path.name, "title": title}


@contextlib.contextmanager
def fetched(url: str, *, max_bytes: int = MAX_BYTES, wall_s: float = WALL_S) -> Iterator[Path]:
    """Fetches what the user asked for to a temporary folder and yields its path; the folder is removed afterwards.

    A private host is reached if the address names it by number or as `localhost`, not because a name or a redirect
    leads there. Where the surroundings name a proxy, it is asked, and what it reaches is its matter.

    Args:
        url: http or https address of a video, or of a page that yt-dlp knows how to read.
        max_bytes: a larger file is refused.
        wall_s: seconds for all of it.

    Raises:
        UserError: when the address is none, yt-dlp is not installed, or nothing could be downloaded.
    """
    fetch.must_be_address(url)
    if importlib.util.find_spec("yt_dlp") is None:
        raise UserError("--url needs yt-dlp, which is not installed", hint="pip install yt-dlp")
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    proxy = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(parts.scheme, "")
    if proxy:
        networks = _numbers(urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}").hostname or "")
    else:
        networks = _numbers(host) if host == "localhost" or host.replace(".", "").isdigit() or ":" in host else ()
    with tempfile.TemporaryDirectory(prefix="deepfake-url-") as folder:
        got = run(url, Path(folder), max_bytes, networks, wall_s, proxy)
        if "file" not in got:
            hint = (
                "download it by other means"
                if got["status"] == 403
                else got.get("hint") or "does it open in a browser?"
            )
            raise UserError(got["why"], file=url, hint=hint)
        yield Path(folder, got["file"])


def _numbers(host: str) -> tuple[str, ...]:
    """The addresses of a host, as networks."""
    try:
        return tuple({str(about[4][0]).partition("%")[0] for about in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return ()


def run(
    url: str, folder: Path, max_bytes: int, networks: tuple[str, ...] = (), wall_s: float = WALL_S, proxy: str = ""
) -> dict:
    """Fetches one video into an empty folder.

    Args:
        url: of `fetch.must_be_address`.
        networks: private networks, as 10.1.0.0/16, that may be reached besides public hosts.
        wall_s: seconds for all of it.
        proxy: address of a proxy that is asked for everything.

    Returns:
        {"file": its name in the folder, "title"}, or {"status": an HTTP status, "why": in words, perhaps "hint"}.
    """
    try:
        got = sandbox.run_limited(
            _child,
            url,
            str(folder),
            max_bytes,
            list(networks),
            proxy,
            cpu_s=CPU_S,
            memory_bytes=MEMORY_BYTES,
            wall_s=wall_s,
            file_bytes=max_bytes + 1,
            network=True,
        )
    except sandbox.LimitExceeded as e:
        what = f"took longer than {wall_s:g} s" if e.limit == "wall" else "needs more than a download may"
        return {"status": 502, "why": f"cannot download ({what})"}
    except RuntimeError:  # of a host's making, so of any kind
        return {"status": 502, "why": "cannot download (what is there cannot be read)"}
    if "file" in got:  # from a process that read what a stranger sent
        got["file"] = Path(got["file"]).name
        path = folder / got["file"]
        if path.is_symlink() or not path.is_file():
            return {"status": 502, "why": "cannot download (what came is no file)"}
    return got
