"""The gate: who is let in, with the state that it needs."""

from __future__ import annotations

import pytest

from nexus.admin.gate import Gate

API = "/admin/v1/events"


def status(headers: dict[str, str], path: str = API, key: str = "") -> int:
    gate = Gate(key, (), ())
    fields = {"host": "127.0.0.1:8000", **headers}
    refusal = gate.check(peer="127.0.0.1", headers=fields, path=path, now_s=0.0)
    return 0 if refusal is None else refusal.status


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("kind", ["image", "script", "iframe", "empty", "document"])
def test_what_a_foreign_page_embeds_is_refused(site: str, kind: str) -> None:
    """An image's or a frame's request has no Origin: it must not take up places of listeners. A
    link that a person follows leads on."""
    mode = "navigate" if kind in ("iframe", "document") else "no-cors"
    fields = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": kind}
    assert status(fields) == (0 if kind == "document" else 403)
    assert status(fields, "/") == 0
    assert status({**fields, "sec-fetch-site": "same-origin"}) == 0
    assert status({**fields, "sec-fetch-site": "none"}) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/admin/v1/backends",
        "/admin/v1/session/x",
        "/admin/v1/%73ession",
        "/dashboard",
        "/dashboard/../admin/v1/stats",
    ],
)
def test_only_pages_and_the_sign_in_are_free(path: str) -> None:
    """With a key set, whatever is no page of the dashboard wants it."""
    assert status({}, path, "key") == (0 if path.startswith("/dashboard") else 401)
