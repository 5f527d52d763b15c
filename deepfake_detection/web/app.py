"""The HTTP side: the page, the JSON API and its own description, all from this machine."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import urllib.parse
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from .. import __version__, files
from ..reports import html as report_html
from . import access, addresses, callbacks, uploads
from .schema import Health, Problem, Report, Result, Video
from .service import MOST_UPLOADS, MOST_UPLOADS_OF_ONE, Service
from .store import DONE, QUEUED, RUNNING, Full, Unavailable, is_id, new_id

log = logging.getLogger("deepfake_detection.web")

STATIC = Path(__file__).parent / "static"
#: Seconds in which a shown token must arrive, and after which a wrong one is answered; its form's most bytes.
LOGIN_S, WRONG_S, LOGIN_BYTES = 10.0, 1.0, 4096
#: How often a new upload's row is tried to be written, and the seconds between.
ADD_TRIES, ADD_WAIT_S = 12, 0.25


Explain = Annotated[
    Literal["auto", "occlusion", "none"] | None, Query(description="what the report draws over faces; none is faster")
]
Callback = Annotated[str | None, Query(description="https address that is sent the signed result")]


class OldVideo(Video):
    """As `Video`, with times in seconds since 1970."""

    created: float = 0.0
    finished: float | None = None
    expires: float | None = None


def create_app(service: Service):
    """The ASGI application over a service that the caller starts and stops."""
    token = access.Token(service.config.token) if service.config.token else None
    app = FastAPI(
        title="Deepfake detection",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        description="Upload a video, ask for its state until it is done, read the verdict and the report.",
    )
    app.add_middleware(access.Guard, hosts=service.config.hosts, token=token, ask=lambda wanted: _login_page(wanted))

    @app.exception_handler(Unavailable)
    def unavailable(request: Request, error: Unavailable):
        status, text = (
            (507, "the server's disk is full; try later")
            if error.full
            else (503, "the queue cannot be reached now; try again in a minute")
        )
        return JSONResponse({"detail": text}, status, headers={"Retry-After": "60"})

    room = uploads.Room(service.store.uploads)
    app.include_router(_api(service, room, "/api/v1", Video))
    # The addresses of before versions had numbers.
    app.include_router(_api(service, room, "/api", OldVideo), deprecated=True)
    app.add_api_route("/api/openapi.json", lambda: JSONResponse(app.openapi()), include_in_schema=False)
    app.include_router(_pages(app, token))
    return app


def _api(service: Service, room: uploads.Room, prefix: str, model: type[Video]) -> APIRouter:
    """The JSON API below one address."""
    config, store, router = service.config, service.store, APIRouter(prefix=prefix)
    video_id = InPath(description="the id that the upload was answered with")
    missing = {404: {"model": Problem, "description": "No such video"}}

    def when(seconds: float | None):
        return seconds if model is OldVideo or seconds is None else datetime.fromtimestamp(seconds, UTC)

    def shown(row: dict) -> Video:
        share, stage = {QUEUED: (0.0, "waiting"), RUNNING: service.progress(row["id"])}.get(
            row["state"], (1.0, row["state"])
        )
        there = row["state"] == DONE and _is_report(store.report(row["id"]))
        return model(
            id=row["id"],
            name=row["name"],
            bytes=row["bytes"],
            state=row["state"],
            share=share,
            stage=stage,
            ahead=store.ahead(row) if row["state"] == QUEUED else 0,
            created=when(row["created"]),
            finished=when(row["finished"]),
            expires=when(row["finished"] + config.keep_s if row["finished"] else None),
            result=_result(row),
            report=f"{prefix}/videos/{row['id']}/report" if there else None,
            callback=store.callback_of(row["id"]) if row["callback"] else None,
        )

    def checked_callback(callback: str | None) -> str | None:
        try:
            return callback if callback is None else callbacks.checked(callback, config.callback_hosts, config.secret)
        except callbacks.Refused as e:
            raise HTTPException(403, str(e)) from None

    async def queued(request: Request, response: Response, receive, callback: str | None, explain: str | None) -> Video:
        video = await _received(service, request, receive, callback, explain)
        service.wake()
        response.headers["Location"] = f"{prefix}/videos/{video}"
        return shown(await run_in_threadpool(found, video))

    def found(video: str) -> dict:
        row = store.get(video) if is_id(video) else None
        if row is None:
            raise HTTPException(404, "no such video: never uploaded, deleted, or kept long enough")
        return row

    @router.post(
        "/videos",
        status_code=202,
        response_model=model,
        tags=["videos"],
        summary="Upload a video or a picture",
        responses={
            400: {"model": Problem, "description": "Broken off, or a form that cannot be read"},
            408: {"model": Problem, "description": "Too slow"},
            413: {"model": Problem, "description": "Too large"},
            415: {"model": Problem, "description": "Neither a video nor a JPEG, PNG or WebP picture"},
            503: {"model": Problem, "description": "The queue is full; try later"},
            507: {"model": Problem, "description": "The server's disk is full; try later"},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "properties": {"file": {"type": "string", "format": "binary"}},
                            "required": ["file"],
                        }
                    },
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                },
            }
        },
    )
    async def upload(
        request: Request,
        response: Response,
        name: str | None = Query(None, description="what to call the video, if the body is the file itself"),
        explain: Explain = None,
        callback: Callback = None,
    ):
        """The body is a form with one file, or the file itself. Answers at once; it is then judged in its turn, a
        picture (JPEG, PNG, WebP) as a video of one frame: weaker evidence."""
        callback = checked_callback(callback)

        async def receive(partial: Path):
            size, form_name = await uploads.receive(
                request.stream(),
                partial,
                content_type=request.headers.get("content-type", ""),
                length=request.headers.get("content-length"),
                limit=config.limit_bytes,
                room=room,
            )
            return size, name or form_name

        return await queued(request, response, receive, callback, explain)

    @router.post(
        "/videos/from-url",
        status_code=202,
        response_model=model,
        tags=["videos"],
        summary="Judge the video at an address",
        responses={
            400: {"model": Problem, "description": "Not an http or https address"},
            403: {"model": Problem, "description": "This server fetches no addresses, or the address is not public"},
            413: {"model": Problem, "description": "Too large"},
            415: {"model": Problem, "description": "Neither a video nor a JPEG, PNG or WebP picture is there"},
            502: {"model": Problem, "description": "Nothing can be downloaded from there"},
            503: {"model": Problem, "description": "The queue is full; try later"},
            507: {"model": Problem, "description": "The server's disk is full; try later"},
        },
    )
    async def from_url(
        request: Request,
        response: Response,
        url: str = Query(description="of a video, or of a page that shows one; public hosts only"),
        explain: Explain = None,
        callback: Callback = None,
    ):
        """Answers when the video is here; it is then judged in its turn. Only where the server was started with
        `--allow-urls`."""
        if not config.urls:
            raise HTTPException(403, "this server fetches no addresses (it is started with --allow-urls if it should)")
        callback = checked_callback(callback)
        if len(service.fetching) >= addresses.MOST_AT_ONCE:
            raise HTTPException(503, "other addresses are being fetched; try again in a minute", {"Retry-After": "60"})

        async def receive(partial: Path):
            service.fetching.add(partial)
            try:
                return await addresses.receive(
                    url, partial, limit=config.limit_bytes, room=room, networks=config.url_networks
                )
            finally:
                service.fetching.discard(partial)

        return await queued(request, response, receive, callback, explain)

    @router.get("/videos", response_model=list[model], tags=["videos"], summary="All videos, newest first")
    def videos(limit: int = Query(100, ge=1, le=1000)):
        return [shown(row) for row in store.list(limit)]

    @router.get("/videos.csv", tags=["videos"], summary="All videos as a table, newest first", response_class=Response)
    def table(limit: int = Query(1000, ge=1, le=100_000)):
        return Response(
            _csv(store.list(limit)),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": 'attachment; filename="verdicts.csv"'},
        )

    @router.get(
        "/videos/{id}",
        response_model=model,
        tags=["videos"],
        summary="State and result of one video",
        responses=missing,
    )
    def video(id: str = video_id):
        return shown(found(id))

    @router.delete(
        "/videos/{id}",
        status_code=204,
        tags=["videos"],
        summary="Delete a video, its result and its report",
        responses=missing,
    )
    def delete(id: str = video_id):
        """In any state: a video that is being judged is stopped."""
        found(id)
        service.delete(id)
        return Response(status_code=204)

    @router.get(
        "/videos/{id}/report",
        response_class=HTMLResponse,
        tags=["videos"],
        summary="The report, one self-contained page",
        responses=missing,
    )
    def report(id: str = video_id, download: bool = Query(False, description="as a file to keep")):
        row, path = found(id), store.report(id)
        if not _is_report(path):
            raise HTTPException(404, "no report for this video")
        headers = {"content-security-policy": report_html.policy() + "; frame-ancestors 'none'; sandbox allow-popups"}
        if download:
            headers["content-disposition"] = "attachment; filename*=UTF-8''" + urllib.parse.quote(
                f"{row['name']}.report.html", safe=""
            )
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)

    @router.get(
        "/videos/{id}/report.json",
        tags=["videos"],
        summary="The numbers behind the report",
        responses={200: {"model": Report}, **missing},
    )
    def report_json(id: str = video_id):
        found(id)
        path = store.report(id).with_suffix(".json")
        if not _is_report(path):
            raise HTTPException(404, "no report for this video")
        return FileResponse(path, media_type="application/json")

    @router.get(
        "/health",
        response_model=Health,
        tags=["server"],
        summary="Whether the server works",
        responses={503: {"model": Health, "description": "Something does not work; `status` says what"}},
    )
    def health():
        problems, counts = service.problems(), {QUEUED: None, RUNNING: None}
        try:
            counts = store.counts()
        except Unavailable as e:
            problems.append(str(e))
        state = Health(
            status="; ".join(dict.fromkeys(problems)) or "ok",
            version=__version__,
            model=service.model,
            workers=config.workers,
            threads=service.threads,
            queued=counts[QUEUED],
            running=counts[RUNNING],
            limit_bytes=config.limit_bytes,
            keep_seconds=config.keep_s,
            token=config.token is not None,
            urls=config.urls,
        )
        return JSONResponse(state.model_dump(), 503 if problems else 200)

    return router


async def _received(
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
    busy = HTTPException(
        503, "the queue is full; try again in a minute", headers={"Retry-After": "60", "Connection": "close"}
    )
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


def _result(row: dict) -> Result | None:
    """The stored result; one of another form (an older server's, a damaged table's) hides no other video."""
    if row["result"] is None:
        return None
    try:
        return Result(**{"video": row["name"], **row["result"]})
    except (ValidationError, TypeError):
        return Result(video=row["name"], error="the stored result cannot be read (hint: upload the video again)")


def _is_report(path: Path) -> bool:
    # Written by a worker, which may have been taken over: nothing but a plain file is opened.
    return path.is_file() and not path.is_symlink()


def _csv(rows: list[dict]) -> str:
    """A line a video; no cell is a formula."""
    columns = (
        "name",
        "state",
        "verdict",
        "p_fake",
        "interval_low",
        "interval_high",
        "people",
        "frames_with_face",
        "frames_decoded",
        "created",
        "finished",
        "model",
        "note",
        "error",
        "id",
    )
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\r\n").writerow
    write(columns)
    for row in rows:
        r = _result(row) or Result(video=row["name"])
        low, high = r.interval or (None, None)
        times = (
            "" if s is None else datetime.fromtimestamp(s, UTC).isoformat(timespec="seconds")
            for s in (row["created"], row["finished"])
        )
        write(
            [
                files.csv_name(row["name"]),
                row["state"],
                r.verdict,
                r.p_fake,
                low,
                high,
                len(r.people),
                r.frames_with_face,
                r.frames_decoded,
                *times,
                r.model,
                *(files.csv_name(text or "") for text in (r.note, r.error)),
                row["id"],
            ]
        )
    return out.getvalue()


def _pages(app: FastAPI, token: access.Token | None) -> APIRouter:
    """What a browser shows."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs", response_class=HTMLResponse)
    def docs(request: Request):
        return HTMLResponse(
            _docs(app.openapi(), f"{request.url.scheme}://{request.headers['host']}", token is not None)
        )

    @router.get("/")
    def page():
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    @router.get("/login", response_class=HTMLResponse)
    def login():
        return HTMLResponse(_login_page("/")) if token else RedirectResponse("/", 303)

    @router.post("/login")
    async def show_token(request: Request):
        """The form's answer: a session for who shows the token."""
        data = bytearray()
        try:
            async with asyncio.timeout(LOGIN_S):
                async for piece in request.stream():
                    data += piece
                    if len(data) > LOGIN_BYTES:
                        raise HTTPException(413, "too long", headers={"Connection": "close"})
        except TimeoutError:
            raise HTTPException(408, "too slow", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "broken off") from None
        given = urllib.parse.parse_qs(data.decode("utf-8", "replace"), max_num_fields=10)
        wanted = access.local(given.get("next", ["/"])[0])
        if token is None:
            return RedirectResponse("/", 303)
        if not token.is_it(given.get("token", [""])[0].strip()):
            await asyncio.sleep(WRONG_S)
            return HTMLResponse(_login_page(wanted, wrong=True), 403)
        answer = RedirectResponse(wanted, 303)
        answer.set_cookie(
            access.COOKIE,
            token.session(),
            max_age=access.SESSION_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.post("/logout")
    def logout():
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(access.COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    for name, kind in (
        ("app.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ):
        router.add_api_route(f"/static/{name}", _static(STATIC / name, kind))
    router.add_api_route("/favicon.ico", _static(STATIC / "icon.svg", "image/svg+xml"))
    return router


def _static(path: Path, kind: str):
    def answer():
        return FileResponse(path, media_type=kind)

    return answer


def _template(name: str, **values) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(**values)


def _login_page(wanted: str, wrong: bool = False) -> str:
    return _template("login.html", wanted=access.local(wanted), wrong=wrong)


def _docs(schema: dict, address: str, token: bool) -> str:
    """The API's description as a page of our own: the usual ones load their scripts from elsewhere."""

    def type_of(s: dict) -> str:
        if "$ref" in s:
            return s["$ref"].rsplit("/", 1)[-1]
        if "anyOf" in s:
            return " or ".join(type_of(x) for x in s["anyOf"])
        if "enum" in s:
            return " or ".join(map(str, s["enum"]))
        if s.get("type") == "array":
            return f"list of {type_of(s.get('items', {}))}"
        return {"object": "object", "null": "null"}.get(s.get("type", ""), s.get("format") or s.get("type", "any"))

    models = {
        name: model
        for name, model in schema["components"]["schemas"].items()
        if name not in ("HTTPValidationError", "ValidationError", "OldVideo")
    }
    operations = [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return _template(
        "docs.html",
        operations=[op for op in operations if not op.get("deprecated")],
        models=models,
        type_of=type_of,
        old=sorted({op["path"] for op in operations if op.get("deprecated")}),
        version=schema["info"]["version"],
        address=address,
        token=token,
    )
