"""The ASGI application: the API at both of its addresses, the pages, and who may call them."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from .. import __version__
from . import access, uploads
from .api import Api, OldVideo
from .pages import login_page, pages
from .schema import Video
from .service import Service
from .store import Unavailable


def create_app(service: Service):
    """The application over a service that the caller starts and stops."""
    token = access.Token(service.config.token) if service.config.token else None
    app = FastAPI(
        title="Deepfake detection",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        description="Upload a video, ask for its state until it is done, read the verdict and the report.",
    )
    app.add_middleware(access.Guard, hosts=service.config.hosts, token=token, ask=login_page)

    @app.exception_handler(Unavailable)
    def unavailable(request: Request, error: Unavailable):
        status, text = 503, "the queue cannot be reached now; try again in a minute"
        if error.full:
            status, text = 507, "the server's disk is full; try later"
        return JSONResponse({"detail": text}, status, headers={"Retry-After": "60"})

    room = uploads.Room(service.store.uploads)
    app.include_router(Api(service, room, "/api/v1", Video).router())
    # The addresses of before versions had numbers.
    app.include_router(Api(service, room, "/api", OldVideo).router(), deprecated=True)
    app.add_api_route("/api/openapi.json", lambda: JSONResponse(app.openapi()), include_in_schema=False)
    app.include_router(pages(app, token))
    return app
