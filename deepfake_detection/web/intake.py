"""A new video's way into the queue: whole, or nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from . import uploads
from .service import MOST_UPLOADS, MOST_UPLOADS_OF_ONE, Service
from .store import Full, Unavailable, new_id

#: How often a new upload's row is tried to be written, and the seconds between.
ADD_TRIES, ADD_WAIT_S = 12, 0.25


async def received(
    service: Service,
    request: Request,
    receive: Callable[[Path], Awaitable[tuple[int, str | None]]],
    callback: str | None,
    explain: str | None,
) -> str:
    """Takes a video into the queue, or leaves nothing of it. Returns its id.

    Args:
        receive: writes the file to a path, whole or not at all, and returns its bytes and its name.
    """
    store, video = service.store, new_id()
    headers = {"Retry-After": "60", "Connection": "close"}
    busy = HTTPException(503, "the queue is full; try again in a minute", headers=headers)
    caller = request.client.host if request.client else ""
    of_one = sum(c == caller for c in service.arriving.values())
    if len(service.arriving) >= MOST_UPLOADS or of_one >= MOST_UPLOADS_OF_ONE or await run_in_threadpool(service.full):
        raise busy
    partial, whole = store.partial(video), store.upload(video)
    service.arriving[video] = caller
    try:
        size, name = await receive(partial)
        partial.rename(whole)
        await _added(service, video, uploads.shown_name(name), size, callback, explain)
    except BaseException as e:
        whole.unlink(missing_ok=True)
        if isinstance(e, Full):
            raise busy from None
        if isinstance(e, uploads.Refused):
            # The rest of a refused body is not read: the connection ends here.
            raise HTTPException(e.status, e.reason, headers={"Connection": "close"}) from None
        if isinstance(e, ClientDisconnect):
            raise HTTPException(400, "the upload was broken off") from None
        raise
    finally:
        partial.unlink(missing_ok=True)
        service.arriving.pop(video, None)
    return video


async def _added(service: Service, video: str, name: str, size: int, callback: str | None, explain: str | None) -> None:
    """Writes the row, also to a table that is locked for a moment."""
    for left in reversed(range(ADD_TRIES)):
        try:
            return await run_in_threadpool(
                service.store.add, video, name, size, callback, explain, most=service.config.queue
            )
        except Unavailable as e:
            if not left or e.full:
                raise
            await asyncio.sleep(ADD_WAIT_S)
