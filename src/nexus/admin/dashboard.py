"""The dashboard's files, out of memory: the page at ``/``, what it loads below ``/dashboard/``.

The files are what is checked in under ``static/``: no build, nothing from other hosts. They hold
no data, so they need no key; the page asks the admin API, which has its own rules. The content
security policy is the second line of defence behind a page that only ever writes text nodes.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nexus.core.errors import ApiError

__all__ = ["dashboard_routes", "refusal_page"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_FIELDS = {  # the server adds X-Content-Type-Options to every answer of ours
    # Ask each time, transfer only what changed: a new version never meets old files.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:38em;margin:12vh auto;padding:0 1.5em}"
    "h1{font-size:1.4em}:root{color-scheme:light dark}"
)
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


class _File(msgspec.Struct, frozen=True):
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str


@cache
def _files() -> dict[str, _File]:
    """Every file by its path below ``static/``, read once."""
    found: dict[str, _File] = {}

    def read(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            media_type = _TYPES.get(entry.name[entry.name.rfind(".") :])
            if entry.is_dir():
                read(entry, f"{prefix}{entry.name}/")
            elif media_type is not None:
                body = entry.read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
                found[f"{prefix}{entry.name}"] = _File(body, media_type, etag)

    read(files("nexus.admin") / "static", "")
    return found


def dashboard_routes() -> list[Route]:
    """``/`` and ``/dashboard/...``."""

    async def page(request: Request) -> Response:
        return _send(request, "index.html")

    async def asset(request: Request) -> Response:
        return _send(request, request.path_params["path"])

    async def home(request: Request) -> Response:
        # Relative, so that it also leads home below a path of a proxy.
        return RedirectResponse(".." if request.url.path.endswith("/") else ".")

    return [
        Route("/", page, methods=["GET"]),
        Route("/dashboard", home, methods=["GET"]),
        Route("/dashboard/", home, methods=["GET"]),
        Route("/dashboard/{path:path}", asset, methods=["GET"]),
    ]


def refusal_page(error: ApiError) -> Response:
    """What a person sees who may not open the dashboard: the rule, and how to change it."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Nexus</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>The dashboard is closed to this browser</h1><p>{escape(error.message)}</p>"
        "</main></body></html>\n"
    )
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"
    return Response(
        text,
        status_code=error.status,
        headers={**_FIELDS, "Cache-Control": "no-store", "Content-Security-Policy": policy},
        media_type=_TYPES[".html"],
    )


def _send(request: Request, path: str) -> Response:
    """One file, or 304 when the browser has it (RFC 9110 § 13.1.2). 404."""
    file = _files().get(path)
    if file is None:
        raise ApiError.not_found(request.url.path)
    fields = {**_FIELDS, "ETag": file.etag}
    known = [tag.strip().removeprefix("W/") for tag in _if_none_match(request).split(",")]
    if file.etag in known or known == ["*"]:
        return Response(status_code=304, headers=fields)
    return Response(file.body, headers=fields, media_type=file.media_type)


def _if_none_match(request: Request) -> str:
    return ",".join(request.headers.getlist("if-none-match"))
