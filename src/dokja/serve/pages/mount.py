"""The pages as a part of the server: their paths, the door where a key is asked for, and what browsers are told."""

from __future__ import annotations

import html
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from nicegui import app as pages_app
from nicegui import ui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dokja.serve.limits import Limits
from dokja.serve.pages.chat import chat_page
from dokja.serve.pages.endpoint import EndpointError, HttpEndpoint
from dokja.serve.pages.frame import Pages, Visitor
from dokja.serve.pages.runs import runs_page
from dokja.serve.pages.strings import say
from dokja.serve.pages.writing import Desk
from dokja.serve.threads import Threads

BASE = "/ui"
_KEPT = "private, max-age=31536000, immutable"
_PATIENCE = 20.0
"""Seconds that a page may take to ask which models there are."""
_MONTH = 30 * 86_400
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Nothing is ever loaded from elsewhere, whatever a model writes. nicegui's templates are compiled in the browser."""
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()), (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]  # fmt: skip
_ASSET = re.compile(r"/_nicegui/[\d.]+/(?!dynamic_resources/)")
_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='9' fill='#2b6a6c'/>"
    "<path d='M10 9v14M10 16h8a4.5 4.5 0 0 1 0 7h-8' fill='none' stroke='#fff' stroke-width='2.6' "
    "stroke-linecap='round' stroke-linejoin='round'/></svg>"
)


def mount(app: FastAPI, pages: Pages) -> None:
    """Puts the pages of `pages` at its `base` into the server, and sends whoever asks for / there. The app's lifespan
    starts and ends them."""
    add_paths(pages)
    pages_app.on_shutdown(pages.desk.close)
    pages_app.add_middleware(_Told)
    app.add_api_route("/", lambda: RedirectResponse(f"{pages.base}/"), include_in_schema=False)
    ui.run_with(
        app, mount_path=pages.base, title="dokja", favicon=_ICON, tailwind=False, reconnect_timeout=20.0,
        show_welcome_message=False,
    )  # fmt: skip


def add_paths(pages: Pages) -> None:
    """The paths of the pages."""

    @ui.page("/", response_timeout=_PATIENCE)
    async def new(request: Request) -> Response | None:
        return await chat_page(pages, request, None)

    @ui.page("/t/{thread}", response_timeout=_PATIENCE)
    async def thread(request: Request, thread: str) -> Response | None:
        return await chat_page(pages, request, thread)

    @ui.page("/runs", response_timeout=_PATIENCE)
    async def runs(request: Request) -> Response | None:
        return await runs_page(pages, request, None)

    @ui.page("/runs/{name}", response_timeout=_PATIENCE)
    async def run(request: Request, name: str) -> Response | None:
        return await runs_page(pages, request, name)

    @pages_app.get("/pictures/{name}", include_in_schema=False)
    def picture(request: Request, name: str) -> Response:
        try:
            kind, content = pages.threads.picture(Visitor.of(request).owner, name)
        except KeyError:
            return Response(status_code=404)
        return Response(content, media_type=kind, headers={"cache-control": _KEPT})

    @pages_app.get("/maths.ttf", include_in_schema=False)
    def maths() -> Response:
        font = resources.files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
        return Response(font.read_bytes(), media_type="font/ttf", headers={"cache-control": _KEPT})

    @pages_app.get("/enter", include_in_schema=False)
    def door(request: Request) -> Response:
        return _door(Visitor.of(request), pages.base)

    @pages_app.post("/enter", include_in_schema=False)
    async def enter(request: Request) -> Response:
        form = await request.form()
        key = str(form.get("key", "")).strip()
        try:
            await pages.endpoint(key).models()
        except (EndpointError, ValueError):  # ValueError: no header can hold it
            return _door(Visitor.of(request), pages.base, wrong=True)
        answer = RedirectResponse(f"{pages.base}/", status_code=303)
        answer.set_cookie(
            "dokja_key", key, max_age=_MONTH, path=pages.base or "/", httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    @pages_app.get("/leave", include_in_schema=False)
    def leave() -> Response:
        answer = RedirectResponse(f"{pages.base}/enter", status_code=303)
        answer.delete_cookie("dokja_key", path=pages.base or "/")
        return answer


def _door(visitor: Visitor, base: str, wrong: bool = False) -> Response:
    """Where a key is asked for; plain HTML."""
    words = {k: html.escape(say(k, visitor.language)) for k in ("login", "login_more", "key", "enter", "wrong_key")}
    css = (Path(__file__).parent / "look.css").read_text(encoding="utf-8")
    dark = "body--dark" if visitor.dark else ""
    auto = "" if visitor.dark is not None else _AUTO
    note = f'<p class="note bad" role="alert">{words["wrong_key"]}</p>' if wrong else ""
    page = (
        f'<!doctype html><html lang="{visitor.language}"><meta charset="utf-8"><title>dokja</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style>'
        f'<body class="door {dark}"><form method="post" action="{base}/enter"><h1>{words["login"]}</h1>'
        f'<p>{words["login_more"]}</p>{note}<label>{words["key"]}<input class="field" type="password" name="key" '
        f'autocomplete="current-password" autofocus required></label>'
        f'<button class="solid">{words["enter"]}</button></form>{auto}</body></html>'
    )
    return HTMLResponse(page, status_code=403 if wrong else 200)


_AUTO = (
    '<script>matchMedia("(prefers-color-scheme: dark)").matches && document.body.classList.add("body--dark")</script>'
)


class _Told:
    """ASGI middleware: what browsers may load and do on the pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *_HEADERS]
                if _ASSET.search(scope["path"]):  # its version is in the path; nicegui overlooks that below a base
                    headers = [h for h in headers if h[0] != b"cache-control"] + [(b"cache-control", _KEPT.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)


def make_pages(host: str, port: int, threads: str | Path, runs: Path, locked: bool, limits: Limits) -> Pages:
    """Pages of the server that listens here. Raises DataError where conversations cannot be kept at `threads`."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # from any address, to oneself
    url = f"http://{f'[{near}]' if ':' in near else near}:{port}/v1"
    kept = Threads(threads)

    @lru_cache(256)
    def endpoint(key: str | None) -> HttpEndpoint:
        return HttpEndpoint(url, key)

    return Pages(endpoint, kept, Desk(kept), runs, BASE, locked, limits.image_bytes, limits.image_pixels)
