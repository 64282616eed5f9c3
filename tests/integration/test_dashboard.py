"""The dashboard's files as a browser gets them: types, policy, caching, and who may have them."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from pathlib import Path

import nexus.admin
from nexus.admin.dashboard import refusal_page
from nexus.core.errors import ApiError
from tests.harness import Running, raw, running
from tests.integration.http.wire import request
from tests.process import NexusProcess

STATIC = Path(nexus.admin.__file__).parent / "static"
CSP = "content-security-policy"


async def fetch(
    run: Running, path: str, *fields: str, host: str = "127.0.0.1", method: str = "GET"
) -> tuple[int, dict[str, str], str]:
    """One answer to a request with these header lines."""
    async with raw(run.port) as client:
        lines = [f"Host: {host}".encode(), *(field.encode() for field in fields)]
        client.send(request(f"{method} {path} HTTP/1.1".encode(), *lines, host=False))
        status, headers, body = await client.response()
        return status, headers, body.decode()


async def test_the_page_and_all_that_it_names_are_served() -> None:
    """Every file that page, styles and modules refer to is there, with a type browsers accept."""
    async with running() as run:
        status, headers, page = await fetch(run, "/")
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        waiting = {f"/{path}" for path in re.findall(r'(?:href|src)="(dashboard/[^"]+)"', page)}
        assert len(waiting) >= 6
        seen: set[str] = set()
        while waiting:
            path = waiting.pop()
            seen.add(path)
            status, headers, text = await fetch(run, path)
            assert status == 200, path
            kind = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
            assert headers["content-type"] == kind.get(path.rsplit(".")[-1], "image/svg+xml")
            folder = path.rpartition("/")[0]
            for name in re.findall(r'^(?:import|export) .*?from "([^"]+)";', text, re.MULTILINE):
                full = Path(folder, name).as_posix()
                while "/../" in full:
                    full = re.sub(r"/[^/]+/\.\./", "/", full, count=1)
                waiting |= {full.replace("/./", "/")} - seen
        modules = {f"/dashboard/{f.relative_to(STATIC)}" for f in STATIC.rglob("*.js")}
        assert modules <= seen, "a module that nothing loads"


async def test_policy_and_caching() -> None:
    """Each file comes with the strict policy and a tag: it is sent again only when changed."""
    async with running() as run:
        for path in ("/", "/dashboard/app.js", "/dashboard/base.css"):
            status, headers, body = await fetch(run, path)
            assert status == 200
            policy = dict(part.strip().split(" ", 1) for part in headers[CSP].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            assert policy["connect-src"] == policy["form-action"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-cache"
            tag = headers["etag"]
            for known in (tag, f'"other", W/{tag}', "*"):
                again = await fetch(run, path, f"If-None-Match: {known}")
                assert (again[0], again[2]) == (304, "")
                assert again[1]["etag"] == tag
                assert again[1][CSP] == headers[CSP]
            changed = await fetch(run, path, 'If-None-Match: "other"')
            assert (changed[0], changed[2]) == (200, body)


async def test_only_files_of_the_dashboard() -> None:
    """What is not one of its files is 404, however the path is spelled; nothing is written to."""
    async with running() as run:
        for path in (
            "/dashboard/nothing.js",
            "/dashboard/../access.py",
            "/dashboard/%2e%2e/access.py",
            "/dashboard//etc/passwd",
            "/dashboard/vendor/README.md",
        ):
            assert (await fetch(run, path))[0] == 404, path
        assert (await fetch(run, "/", "Content-Length: 0", method="POST"))[0] == 405


async def test_the_obvious_address_leads_there() -> None:
    """``/dashboard`` is where people look first."""
    async with running() as run:
        for path, where in (("/dashboard", "."), ("/dashboard/", "..")):
            status, headers, _ = await fetch(run, path)
            assert (status, headers["location"]) == (307, where)


async def test_files_need_no_key_but_the_api_does() -> None:
    """With an admin key set the page comes without it, so that one can sign in; data does not."""
    async with running(admin_key="a-key") as run:
        assert (await fetch(run, "/"))[0] == 200
        assert (await fetch(run, "/dashboard/app.js"))[0] == 200
        assert (await fetch(run, "/admin/v1/stats"))[0] == 401


async def test_a_refusal_is_a_page_that_says_what_to_do() -> None:
    """Who may not open it reads why, and how to change it, as HTML under a policy of its own."""
    async with running() as run:
        status, headers, page = await fetch(run, "/", "X-Forwarded-For: 10.0.0.1")
        assert status == 403
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert "server.admin_key_env" in page
        assert headers[CSP].startswith("default-src 'none'; style-src 'sha256-")
        status, _, page = await fetch(run, "/", host="nexus.example")
        assert status == 403
        assert "server.allowed_hosts" in page
        status, headers, _ = await fetch(run, "/dashboard/app.js", "Origin: http://evil.example")
        assert (status, headers["content-type"]) == (403, "application/json")


def test_nothing_in_a_refusal_becomes_markup() -> None:
    """What the page quotes of a request is text."""
    page = bytes(refusal_page(ApiError.forbidden("Host '<script>&\"' is not ours.")).body).decode()
    assert "&lt;script&gt;&amp;&quot;" in page
    assert "<script" not in page


def test_the_start_names_it() -> None:
    """``nexus demo`` says where the dashboard is, and there it is."""
    with NexusProcess("demo", "--port", "0") as process:
        url = process.said("listening")["dashboard"]
        with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310 - our own
            assert b"<title>Nexus</title>" in page.read()


def test_vendored_files_are_what_the_list_says() -> None:
    """Each file of another project is unchanged: its hash is the one written beside it."""
    listed = (STATIC / "vendor" / "README.md").read_text()
    files = [file for file in (STATIC / "vendor").iterdir() if file.suffix in (".js", ".css")]
    assert files
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f"`{file.name}`" in listed
        assert digest in listed
    assert "MIT" in (STATIC / "vendor" / "uPlot.LICENSE").read_text()


def test_no_source_takes_markup_as_text() -> None:
    """None of our files has a way by which text becomes markup or code, or names another host."""
    ways = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|"
        r"setHTMLUnsafe|DOMParser|srcdoc|javascript:|style=|https?://(?!localhost)"
    )
    for file in STATIC.rglob("*"):
        if file.suffix in (".js", ".css", ".html") and file.parent.name != "vendor":
            text = file.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not ways.search(text), file
