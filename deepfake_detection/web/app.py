"""The HTTP side: the page, the JSON API and its own description, all from this machine."""

import logging
import urllib.parse
from pathlib import Path

import jinja2
from fastapi import FastAPI, HTTPException, Path as InPath, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from .. import __version__
from ..reports import html as report_html
from . import callbacks, uploads
from .service import Service
from .store import QUEUED, RUNNING, is_id, new_id

log = logging.getLogger("deepfake_detection.web")

STATIC = Path(__file__).parent / "static"

#: Sent with everything. The page loads its own files and nothing else, and cannot be framed.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin", "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware: refuses calls under a foreign name (DNS rebinding) and changes asked for by other sites' pages; adds HEADERS."""

    def __init__(self, app, hosts: tuple[str, ...]):
        self.app, self.hosts = app, frozenset(h.lower() for h in hosts)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = {k: v.decode("latin-1") for k, v in scope["headers"]}
        host = given.get(b"host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self.hosts and name.lower() not in self.hosts:
            return await _plain(send, 421, "this server is not called by that name")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin, site = given.get(b"origin"), given.get(b"sec-fetch-site")
            if (origin is not None and urllib.parse.urlsplit(origin).netloc != host) or site in ("cross-site", "same-site"):
                return await _plain(send, 403, "asked for by another site")

        async def with_headers(message):
            if message["type"] == "http.response.start":
                present = {k.lower() for k, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present)]
            await send(message)

        await self.app(scope, receive, with_headers)


async def _plain(send, status: int, text: str) -> None:
    body = ('{"detail": "%s"}' % text).encode()
    await send({"type": "http.response.start", "status": status, "headers": [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
        *((k.encode(), v.encode()) for k, v in HEADERS.items())]})
    await send({"type": "http.response.body", "body": body})


class Person(BaseModel):
    id: str
    p_real: float
    verdict: str
    first_s: float
    last_s: float
    frames: int
    interval: list[float] | None = None
    well_seen: bool = True
    faces_that_vote: int | None = Field(None, description="faces whose picture is good enough to be judged by")
    frame_range: list[float] | None = Field(None, description="p_fake of single frames, 5th and 95th percentile")
    reason: str = ""


class Result(BaseModel):
    """The same object as in `predict.py --json`."""
    video: str
    verdict: str | None = Field(None, description="REAL, FAKE, UNSURE or NO FACE")
    p_real: float | None = Field(None, description="calibrated probability that the video is real, 0..1")
    p_fake: float | None = Field(None, description="1 - p_real")
    interval: list[float] | None = Field(None, description="95 % interval of p_fake over frames: how far the frames agree")
    frames_decoded: int = 0
    frames_with_face: int = 0
    people: list[Person] = []
    seconds: float = 0.0
    model: str | None = None
    error: str | None = None
    note: str = Field("", description="what is wrong with a file that could be judged all the same")
    reason: str = Field("", description="why the verdict is UNSURE, in words")
    frame_range: list[float] | None = Field(None, description="p_fake of single frames, 5th and 95th percentile")
    stretches: list[dict] = Field([], description="parts in time that look altered: start_s, end_s, p_fake, person")
    file: dict = Field({}, description="width, height, codec, fps, bitrate, bits_per_pixel, duration_s, bytes")
    warnings: list[str] = Field([], description="about the material, for people")


class Video(BaseModel):
    id: str
    name: str
    bytes: int
    state: str = Field(description="queued, running, done or failed")
    share: float = Field(description="share of the work done, 0..1")
    stage: str = Field(description="what is being done, for people")
    ahead: int = Field(description="queued videos before this one")
    created: float = Field(description="seconds since 1970")
    finished: float | None = None
    expires: float | None = Field(None, description="when the result and the report are deleted, seconds since 1970")
    result: Result | None = None
    report: str | None = Field(None, description="address of the HTML report")
    callback: dict | None = Field(None, description="state of the callback, if one was asked for")


class Health(BaseModel):
    status: str
    version: str
    model: str | None
    workers: int
    queued: int
    running: int
    limit_bytes: int
    keep_seconds: float


class Problem(BaseModel):
    detail: str


def create_app(service: Service):
    """The ASGI application over a service that the caller starts and stops."""
    config = service.config

    app = FastAPI(title="Deepfake detection", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
                  description="Upload a video, ask for its state until it is done, read the verdict and the report.")
    app.add_middleware(Guard, hosts=config.hosts)

    def shown(row: dict) -> Video:
        share, stage = {QUEUED: (0.0, "waiting"), RUNNING: service.progress(row["id"])}.get(row["state"], (1.0, row["state"]))
        whole = row["state"] == "done"
        return Video(id=row["id"], name=row["name"], bytes=row["bytes"], state=row["state"], share=share, stage=stage,
                     ahead=service.store.ahead(row) if row["state"] == QUEUED else 0, created=row["created"], finished=row["finished"],
                     expires=row["finished"] + config.keep_s if row["finished"] else None,
                     result=Result(**{"video": row["name"], **row["result"]}) if row["result"] else None,
                     report=f"/api/videos/{row['id']}/report" if whole and service.store.report(row["id"]).exists() else None,
                     callback=service.store.callback_of(row["id"]) if row["callback"] else None)

    def found(video: str) -> dict:
        row = service.store.get(video) if is_id(video) else None
        if row is None:
            raise HTTPException(404, "no such video: never uploaded, deleted, or kept long enough")
        return row

    video_id = InPath(description="the id that the upload was answered with")
    missing = {404: {"model": Problem, "description": "No such video"}}

    @app.post("/api/videos", status_code=202, response_model=Video, tags=["videos"], summary="Upload a video",
              responses={413: {"model": Problem, "description": "Too large"}, 415: {"model": Problem, "description": "Not a video"},
                         503: {"model": Problem, "description": "The queue is full; try later"}},
              openapi_extra={"requestBody": {"required": True, "content": {
                  "multipart/form-data": {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}},
                  "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}})
    async def upload(request: Request, response: Response,
                     name: str | None = Query(None, description="what to call the video, if the body is the file itself"),
                     callback: str | None = Query(None, description="https address that is sent the signed result")):
        """The body is a form with one file, or the file itself. Answers at once; the video is then judged in its turn."""
        if callback is not None:
            try:
                callbacks.checked(callback, config.callback_hosts, config.secret)
            except callbacks.Refused as e:
                raise HTTPException(403, str(e)) from None
        if service.full():
            raise HTTPException(503, "the queue is full; try again in a minute", headers={"Retry-After": "60"})
        video = new_id()
        partial = service.store.partial(video)
        service.uploading += 1
        try:
            size, form_name = await uploads.receive(request.stream(), partial, content_type=request.headers.get("content-type", ""),
                                                    length=request.headers.get("content-length"), limit=config.limit_bytes)
            partial.rename(service.store.upload(video))
            service.store.add(video, uploads.shown_name(name or form_name), size, callback)
        except uploads.Refused as e:
            # The rest of a refused body is not read: the connection ends here.
            raise HTTPException(e.status, e.reason, headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "the upload was broken off") from None
        finally:
            service.uploading -= 1
            partial.unlink(missing_ok=True)
        service.wake()
        response.headers["Location"] = f"/api/videos/{video}"
        return shown(service.store.get(video))

    @app.get("/api/videos", response_model=list[Video], tags=["videos"], summary="All videos, newest first")
    def videos(limit: int = Query(100, ge=1, le=1000)):
        return [shown(row) for row in service.store.list(limit)]

    @app.get("/api/videos/{id}", response_model=Video, tags=["videos"], summary="State and result of one video", responses=missing)
    def video(id: str = video_id):
        return shown(found(id))

    @app.delete("/api/videos/{id}", status_code=204, tags=["videos"], summary="Delete a video, its result and its report", responses=missing)
    def delete(id: str = video_id):
        """In any state: a video that is being judged is stopped."""
        found(id)
        service.delete(id)
        return Response(status_code=204)

    @app.get("/api/videos/{id}/report", response_class=HTMLResponse, tags=["videos"], summary="The report, one self-contained page",
             responses=missing)
    def report(id: str = video_id, download: bool = Query(False, description="as a file to keep")):
        row = found(id)
        path = service.store.report(id)
        if not path.exists():
            raise HTTPException(404, "no report for this video")
        headers = {"content-security-policy": report_html.policy() + "; frame-ancestors 'none'; sandbox allow-popups"}
        if download:
            headers["content-disposition"] = "attachment; filename*=UTF-8''" + urllib.parse.quote(f"{row['name']}.report.html", safe="")
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)

    @app.get("/api/videos/{id}/report.json", tags=["videos"], summary="The numbers behind the report", responses=missing)
    def report_json(id: str = video_id):
        found(id)
        path = service.store.report(id).with_suffix(".json")
        if not path.exists():
            raise HTTPException(404, "no report for this video")
        return FileResponse(path, media_type="application/json")

    @app.get("/api/health", response_model=Health, tags=["server"], summary="Whether the server works",
             responses={503: {"model": Health, "description": "Workers do not start"}})
    def health():
        counts = service.store.counts()
        state = Health(status="ok" if service.healthy else "workers do not start", version=__version__, model=service.model, workers=config.workers,
                       queued=counts[QUEUED], running=counts[RUNNING], limit_bytes=config.limit_bytes, keep_seconds=config.keep_s)
        return JSONResponse(state.model_dump(), 200 if service.healthy else 503)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def docs():
        return HTMLResponse(_docs(app.openapi()))

    @app.get("/", include_in_schema=False)
    def page():
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    for name, kind in (("app.css", "text/css; charset=utf-8"), ("app.js", "text/javascript; charset=utf-8"), ("icon.svg", "image/svg+xml")):
        app.add_api_route(f"/static/{name}", _static(STATIC / name, kind), include_in_schema=False)
    app.add_api_route("/favicon.ico", _static(STATIC / "icon.svg", "image/svg+xml"), include_in_schema=False)
    return app


def _static(path: Path, kind: str):
    def answer():
        return FileResponse(path, media_type=kind)
    return answer


def _docs(schema: dict) -> str:
    """The API's description as a page of our own: the usual ones load their scripts from elsewhere."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(STATIC), autoescape=True, trim_blocks=True, lstrip_blocks=True)

    def type_of(s: dict) -> str:
        if "$ref" in s:
            return s["$ref"].rsplit("/", 1)[-1]
        if "anyOf" in s:
            return " or ".join(type_of(x) for x in s["anyOf"])
        if s.get("type") == "array":
            return f"list of {type_of(s.get('items', {}))}"
        return {"object": "object", "null": "null"}.get(s.get("type", ""), s.get("type", "any"))

    models = {name: model for name, model in schema["components"]["schemas"].items() if name not in ("HTTPValidationError", "ValidationError")}
    operations = [{"path": path, "method": method.upper(), **operation} for path, methods in schema["paths"].items() for method, operation in methods.items()]
    return environment.get_template("docs.html").render(operations=operations, models=models, type_of=type_of, version=schema["info"]["version"],
                                                        secret=callbacks.SECRET_VARIABLE)
