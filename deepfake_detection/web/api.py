"""The JSON API below one address: videos go in, their state, verdict and report come out."""

from __future__ import annotations

import csv
import io
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from .. import __version__, files
from ..reports import html as report_html
from . import addresses, callbacks, uploads
from .intake import received
from .schema import Health, Problem, Report, Result, Video
from .service import Service
from .store import DONE, QUEUED, RUNNING, Unavailable, is_id

Explain = Annotated[
    Literal["auto", "occlusion", "none"] | None, Query(description="what the report draws over faces; none is faster")
]
Callback = Annotated[str | None, Query(description="https address that is sent the signed result")]
Id = Annotated[str, InPath(description="the id that the upload was answered with")]

#: The columns of the table of verdicts.
COLUMNS = (
    *("name", "state", "verdict", "p_fake", "interval_low", "interval_high", "people", "frames_with_face"),
    *("frames_decoded", "created", "finished", "model", "note", "error", "id"),
)


class OldVideo(Video):
    """As `Video`, with times in seconds since 1970."""

    created: float = 0.0
    finished: float | None = None
    expires: float | None = None


def _problems(**said: str) -> dict:
    """The refusals of a call, by status ("_404"), as its description states them."""
    return {int(status[1:]): {"model": Problem, "description": text} for status, text in said.items()}


_MISSING = _problems(_404="No such video")
_NO_ROOM = _problems(_503="The queue is full; try later", _507="The server's disk is full; try later")
_FILE = {"type": "string", "format": "binary"}
_UPLOAD_BODY = {
    "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}},
    "application/octet-stream": {"schema": _FILE},
}


class Api:
    """The calls below one address, over a service that the caller starts and stops.

    Args:
        room: on the disk, shared with the other addresses.
        model: what a video is shown as: `Video` or `OldVideo`.
    """

    def __init__(self, service: Service, room: uploads.Room, prefix: str, model: type[Video]):
        self.service, self.config, self.store = service, service.config, service.store
        self.room, self.prefix, self.model = room, prefix, model

    def router(self) -> APIRouter:
        router, model = APIRouter(prefix=self.prefix), self.model

        def call(method: str, path: str, answer, summary: str, *, tag: str = "videos", **more) -> None:
            router.add_api_route(path, answer, methods=[method], tags=[tag], summary=summary, **more)

        call(
            "POST",
            "/videos",
            self.upload,
            "Upload a video or a picture",
            status_code=202,
            response_model=model,
            responses=_problems(
                _400="Broken off, or a form that cannot be read",
                _408="Too slow",
                _413="Too large",
                _415="Neither a video nor a JPEG, PNG or WebP picture",
            )
            | _NO_ROOM,
            openapi_extra={"requestBody": {"required": True, "content": _UPLOAD_BODY}},
        )
        call(
            "POST",
            "/videos/from-url",
            self.from_url,
            "Judge the video at an address",
            status_code=202,
            response_model=model,
            responses=_problems(
                _400="Not an http or https address",
                _403="This server fetches no addresses, or the address is not public",
                _413="Too large",
                _415="Neither a video nor a JPEG, PNG or WebP picture is there",
                _502="Nothing can be downloaded from there",
            )
            | _NO_ROOM,
        )
        call("GET", "/videos", self.videos, "All videos, newest first", response_model=list[model])
        call("GET", "/videos.csv", self.table, "All videos as a table, newest first", response_class=Response)
        one, missing = "/videos/{id}", {"responses": _MISSING}
        call("GET", one, self.video, "State and result of one video", response_model=model, **missing)
        call("DELETE", one, self.delete, "Delete a video, its result and its report", status_code=204, **missing)
        shown = {"response_class": HTMLResponse, **missing}
        call("GET", f"{one}/report", self.report, "The report, one self-contained page", **shown)
        numbers = {"responses": {200: {"model": Report}, **_MISSING}}
        call("GET", f"{one}/report.json", self.report_json, "The numbers behind the report", **numbers)
        state = {503: {"model": Health, "description": "Something does not work; `status` says what"}}
        whether = "Whether the server works"
        call("GET", "/health", self.health, whether, tag="server", response_model=Health, responses=state)
        return router

    # -- videos go in --------------------------------------------------------------------------------------------------
    async def upload(
        self,
        request: Request,
        response: Response,
        name: str | None = Query(None, description="what to call the video, if the body is the file itself"),
        explain: Explain = None,
        callback: Callback = None,
    ):
        """The body is a form with one file, or the file itself. Answers at once; it is then judged in its turn, a
        picture (JPEG, PNG, WebP) as a video of one frame: weaker evidence."""

        async def receive(partial: Path):
            size, form_name = await uploads.receive(
                request.stream(),
                partial,
                content_type=request.headers.get("content-type", ""),
                length=request.headers.get("content-length"),
                limit=self.config.limit_bytes,
                room=self.room,
            )
            return size, name or form_name

        return await self._queued(request, response, receive, self._checked(callback), explain)

    async def from_url(
        self,
        request: Request,
        response: Response,
        url: str = Query(description="of a video, or of a page that shows one; public hosts only"),
        explain: Explain = None,
        callback: Callback = None,
    ):
        """Answers when the video is here; it is then judged in its turn. Only under `--allow-urls`."""
        config, fetching = self.config, self.service.fetching
        if not config.urls:
            raise HTTPException(403, "this server fetches no addresses (it is started with --allow-urls if it should)")
        callback = self._checked(callback)
        if len(fetching) >= addresses.MOST_AT_ONCE:
            raise HTTPException(503, "other addresses are being fetched; try again in a minute", {"Retry-After": "60"})

        async def receive(partial: Path):
            fetching.add(partial)
            try:
                return await addresses.receive(
                    url, partial, limit=config.limit_bytes, room=self.room, networks=config.url_networks
                )
            finally:
                fetching.discard(partial)

        return await self._queued(request, response, receive, callback, explain)

    def _checked(self, callback: str | None) -> str | None:
        if callback is None:
            return None
        try:
            return callbacks.checked(callback, self.config.callback_hosts, self.config.secret)
        except callbacks.Refused as e:
            raise HTTPException(403, str(e)) from None

    async def _queued(self, request: Request, response: Response, receive, callback: str | None, explain: str | None):
        video = await received(self.service, request, receive, callback, explain)
        self.service.wake()
        response.headers["Location"] = f"{self.prefix}/videos/{video}"
        return self._shown(await run_in_threadpool(self._found, video))

    # -- what became of them -------------------------------------------------------------------------------------------
    def _found(self, video: str) -> dict:
        row = self.store.get(video) if is_id(video) else None
        if row is None:
            raise HTTPException(404, "no such video: never uploaded, deleted, or kept long enough")
        return row

    def _shown(self, row: dict) -> Video:
        share, stage = {QUEUED: (0.0, "waiting"), RUNNING: self.service.progress(row["id"])}.get(
            row["state"], (1.0, row["state"])
        )
        finished = row["finished"]
        there = row["state"] == DONE and _is_report(self.store.report(row["id"]))
        return self.model(
            **{key: row[key] for key in ("id", "name", "bytes", "state")},
            share=share,
            stage=stage,
            ahead=self.store.ahead(row) if row["state"] == QUEUED else 0,
            created=self._when(row["created"]),
            finished=self._when(finished),
            expires=self._when(finished and finished + self.config.keep_s),
            result=_result(row),
            report=f"{self.prefix}/videos/{row['id']}/report" if there else None,
            callback=self.store.callback_of(row["id"]) if row["callback"] else None,
        )

    def _when(self, seconds: float | None):
        return seconds if self.model is OldVideo or seconds is None else datetime.fromtimestamp(seconds, UTC)

    def videos(self, limit: int = Query(100, ge=1, le=1000)):
        return [self._shown(row) for row in self.store.list(limit)]

    def table(self, limit: int = Query(1000, ge=1, le=100_000)):
        name = {"content-disposition": 'attachment; filename="verdicts.csv"'}
        return Response(_csv(self.store.list(limit)), media_type="text/csv; charset=utf-8", headers=name)

    def video(self, id: Id):
        return self._shown(self._found(id))

    def delete(self, id: Id):
        """In any state: a video that is being judged is stopped."""
        self._found(id)
        self.service.delete(id)
        return Response(status_code=204)

    def _report_of(self, video: str, suffix: str) -> tuple[dict, Path]:
        row, path = self._found(video), self.store.report(video).with_suffix(suffix)
        if not _is_report(path):
            raise HTTPException(404, "no report for this video")
        return row, path

    def report(self, id: Id, download: bool = Query(False, description="as a file to keep")):
        row, path = self._report_of(id, ".html")
        headers = {"content-security-policy": report_html.policy() + "; frame-ancestors 'none'; sandbox allow-popups"}
        if download:
            name = urllib.parse.quote(f"{row['name']}.report.html", safe="")
            headers["content-disposition"] = f"attachment; filename*=UTF-8''{name}"
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)

    def report_json(self, id: Id):
        return FileResponse(self._report_of(id, ".json")[1], media_type="application/json")

    # -- the server ----------------------------------------------------------------------------------------------------
    def health(self):
        config, problems, counts = self.config, self.service.problems(), {QUEUED: None, RUNNING: None}
        try:
            counts = self.store.counts()
        except Unavailable as e:
            problems.append(str(e))
        state = Health(
            status="; ".join(dict.fromkeys(problems)) or "ok",
            version=__version__,
            model=self.service.model,
            workers=config.workers,
            threads=self.service.threads,
            queued=counts[QUEUED],
            running=counts[RUNNING],
            limit_bytes=config.limit_bytes,
            keep_seconds=config.keep_s,
            token=config.token is not None,
            urls=config.urls,
        )
        return JSONResponse(state.model_dump(), 503 if problems else 200)


def _is_report(path: Path) -> bool:
    # Written by a worker, which may have been taken over: nothing but a plain file is opened.
    return path.is_file() and not path.is_symlink()


def _result(row: dict) -> Result | None:
    """The stored result; one of another form (an older server's, a damaged table's) hides no other video."""
    if row["result"] is None:
        return None
    try:
        return Result(**{"video": row["name"], **row["result"]})
    except (ValidationError, TypeError):
        return Result(video=row["name"], error="the stored result cannot be read (hint: upload the video again)")


def _csv(rows: list[dict]) -> str:
    """A line a video; no cell is a formula."""
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    table.writeheader()
    for row in rows:
        result = _result(row) or Result(video=row["name"])
        low, high = result.interval or (None, None)
        same = ("verdict", "p_fake", "frames_with_face", "frames_decoded", "model")
        table.writerow(
            {key: row[key] for key in ("state", "id")}
            | {key: getattr(result, key) for key in same}
            | {key: _time(row[key]) for key in ("created", "finished")}
            | {key: files.csv_name(getattr(result, key) or "") for key in ("note", "error")}
            | {"name": files.csv_name(row["name"]), "people": len(result.people)}
            | {"interval_low": low, "interval_high": high}
        )
    return out.getvalue()


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
