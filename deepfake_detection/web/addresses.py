"""A video by its address: fetched by a process of its own, and taken like an upload."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from ..prediction import fetch, fetch_apart
from . import uploads

#: Addresses that may be fetched at once; more are refused for the moment.
MOST_AT_ONCE = 4
#: Longest address that is taken, characters.
LONGEST = 2000


async def receive(
    url: str, target: Path, *, limit: int, room: uploads.Room, networks: tuple[str, ...] = ()
) -> tuple[int, str | None]:
    """Fetches the video of an address to `target`; the file is there whole and synced, or not at all.

    Args:
        url: http or https.
        limit: bytes of the largest file.
        room: shared by all uploads to one disk.
        networks: private networks that may be reached, see `fetch_apart.run`.

    Returns:
        (bytes of the file, what to call it).

    Raises:
        uploads.Refused: no address, not reachable or not public, no video or picture there, too large, or no room.
    """
    must_be_address(url)
    room.promise(target, limit)
    folder = target.with_suffix(".fetch")
    try:
        folder.mkdir(mode=0o700)
        got = await _in_thread(lambda: fetch_apart.run(url, folder, limit, networks))
        if "file" not in got:
            hint = f" (hint: {got['hint']})" if "hint" in got else ""
            raise uploads.Refused(got["status"], got["why"] + hint)
        path = folder / got["file"]
        uploads.check_kind(path)
        await asyncio.to_thread(_sync, path)
        path.rename(target)
        return target.lstat().st_size, name_of(url, got["title"])
    finally:
        room.done(target)
        shutil.rmtree(folder, ignore_errors=True)


def must_be_address(url: str) -> None:
    """Raises Refused (400) unless it is an http or https address without a password in it."""
    try:
        fetch.must_be_address(url)
        plain = len(url) <= LONGEST and url.isprintable() and urllib.parse.urlsplit(url).username is None
    except UserError as e:
        raise uploads.Refused(400, e.what) from None
    if not plain:
        raise uploads.Refused(400, "not a plain address: too long, or with a name and password in it")


def name_of(url: str, title: str) -> str:
    """What the video is called: its title, else the last part of the address, and the host."""
    parts = urllib.parse.urlsplit(url)
    last = title.strip() or urllib.parse.unquote(parts.path.rstrip("/").rpartition("/")[2])
    host = f"({parts.hostname})"
    return f"{last[: uploads.NAME_LENGTH - len(host) - 1]} {host}".strip().replace("/", "-").replace("\\", "-")


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


async def _in_thread(work: Callable[[], dict]) -> dict:
    """Waits for `work` in a thread that keeps no server from ending: its process ends with it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future = loop.create_future()

    def tell(how: Callable, value) -> None:
        if not done.done():
            how(value)

    def live() -> None:
        try:
            answer = (done.set_result, work())
        except BaseException as e:
            answer = (done.set_exception, e)
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, *answer)

    threading.Thread(target=live, name="address", daemon=True).start()
    return await done
