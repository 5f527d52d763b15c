"""What a browser shows: the page, the form for the token, the description of the API, all from this machine."""

from __future__ import annotations

import asyncio
import urllib.parse
from pathlib import Path

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.requests import ClientDisconnect

from . import access

STATIC = Path(__file__).parent / "static"
#: Seconds in which a shown token must arrive, and after which a wrong one is answered; its form's most bytes.
LOGIN_S, WRONG_S, LOGIN_BYTES = 10.0, 1.0, 4096


def pages(app: FastAPI, token: access.Token | None) -> APIRouter:
    """What a browser shows."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs", response_class=HTMLResponse)
    def docs(request: Request):
        address = f"{request.url.scheme}://{request.headers['host']}"
        return HTMLResponse(_docs(app.openapi(), address, token is not None))

    @router.get("/")
    def page():
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    @router.get("/login", response_class=HTMLResponse)
    def login():
        return HTMLResponse(login_page("/")) if token else RedirectResponse("/", 303)

    @router.post("/login")
    async def show_token(request: Request):
        """The form's answer: a session for who shows the token."""
        given = await _form(request)
        wanted = access.local(given.get("next", ["/"])[0])
        if token is None:
            return RedirectResponse("/", 303)
        if not token.is_it(given.get("token", [""])[0].strip()):
            await asyncio.sleep(WRONG_S)
            return HTMLResponse(login_page(wanted, wrong=True), 403)
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


async def _form(request: Request) -> dict[str, list[str]]:
    """The fields of a small form that arrives soon."""
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
    return urllib.parse.parse_qs(data.decode("utf-8", "replace"), max_num_fields=10)


def _static(path: Path, kind: str):
    def answer():
        return FileResponse(path, media_type=kind)

    return answer


def _template(name: str, **values) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(**values)


def login_page(wanted: str, wrong: bool = False) -> str:
    """The form that asks for the token, from the address that was wanted."""
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
