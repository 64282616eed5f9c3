"""Who may use the control plane of a running gateway: the key, the cookie, and browsers."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import trustme

from nexus.admin.sessions import COOKIE
from tests.harness import Running, running

KEY = "planted-admin-key"
SESSION = "/admin/v1/session"
STATS = "/admin/v1/stats"


async def sign_in(run: Running, key: str = KEY) -> httpx.Response:
    return await run.client.post(SESSION, json={"key": key})


async def test_signing_in_and_out() -> None:
    """The key buys a cookie that opens the API until it is given back; it is not the key."""
    async with running(admin_key=KEY) as run:
        assert (await run.client.get(STATS)).status_code == 401
        before = await run.client.get(SESSION)
        assert before.json() == {"key_required": True, "signed_in": False}
        answer = await sign_in(run)
        assert answer.json() == {"key_required": True, "signed_in": True}
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        for part in ("HttpOnly", "SameSite=strict", "Path=/admin"):
            assert part in cookie
        assert "Secure" not in cookie
        assert KEY not in cookie
        assert (await run.client.get(STATS)).status_code == 200
        held = run.client.cookies[COOKIE]
        assert (await run.client.delete(SESSION)).json()["signed_in"] is False
        again = await run.client.get(STATS, headers={"cookie": f"{COOKIE}={held}"})
        assert again.status_code == 401


async def test_a_wrong_key_buys_nothing() -> None:
    """401 and no cookie; bad bodies are told what to send."""
    async with running(admin_key=KEY) as run:
        wrong = await sign_in(run, "planted-admin-kez")
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        for body in ({}, {"key": ""}, {"key": 1}, {"key": KEY, "x": 1}):
            answer = await run.client.post(SESSION, json=body)
            assert answer.status_code == 400
            assert '{"key": "' in answer.json()["error"]["message"]


async def test_guessing_is_slowed_down() -> None:
    """After twenty wrong keys at once even the right one waits, however it is presented; who has
    signed in does not."""
    async with running(admin_key=KEY) as run:
        await sign_in(run)
        async with httpx.AsyncClient(base_url=run.url) as guesser:
            wrong = {"authorization": "Bearer no"}
            for _ in range(30):
                answer = await guesser.get(STATS, headers=wrong)
                if answer.status_code == 429:
                    break
                assert answer.status_code == 401
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "1"
            assert (await guesser.post(SESSION, json={"key": "no"})).status_code in (401, 429)
        assert (await run.client.get(STATS)).status_code == 200


async def test_no_key_no_session() -> None:
    """Without a configured key nothing is wanted, and signing in sets no cookie."""
    async with running() as run:
        answer = await sign_in(run, "whatever")
        assert answer.json() == {"key_required": False, "signed_in": True}
        assert "set-cookie" not in answer.headers


async def test_the_cookie_is_for_tls_alone_where_there_is_tls(tmp_path: Path) -> None:
    """Secure, where the gateway speaks TLS itself."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    server = {"tls_cert": str(certificate), "tls_key": str(key)}
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        running(admin_key=KEY, server=server) as run,
        httpx.AsyncClient(base_url=run.url, verify=trusting) as client,
    ):
        answer = await client.post(SESSION, json={"key": KEY})
        assert "Secure" in answer.headers["set-cookie"]


async def test_a_cookie_from_elsewhere() -> None:
    """A good cookie does not excuse a foreign page or a name that was made to lead here."""
    async with running(admin_key=KEY) as run:
        await sign_in(run)
        for fields in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
            for method, path in (("POST", "/admin/v1/backends/x/drain"), ("GET", STATS)):
                answer = await run.client.request(method, path, headers=fields)
                assert answer.status_code == 403


async def test_the_pages_want_no_key() -> None:
    """The dashboard's pages are there to sign in at: no 401; but a foreign Host or Origin, and a
    proxy where no key is set, are refused as ever."""
    async with running(admin_key=KEY) as run, running() as keyless:
        for path in ("/", "/dashboard/app.js"):
            assert (await run.client.get(path)).status_code in (200, 404)
            for fields in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
                assert (await run.client.get(path, headers=fields)).status_code == 403
            proxied = {"x-forwarded-for": "127.0.0.1"}
            assert (await keyless.client.get(path, headers=proxied)).status_code == 403


async def test_closed_metrics() -> None:
    """``metrics_access = "admin"`` wants the key for /metrics."""
    server = {"metrics_access": "admin"}
    async with running(admin_key=KEY, server=server) as run:
        assert (await run.client.get("/metrics")).status_code == 401
        bearer = {"authorization": f"Bearer {KEY}"}
        assert (await run.client.get("/metrics", headers=bearer)).status_code != 401
    async with running(admin_key=KEY) as run:
        assert (await run.client.get("/metrics")).status_code != 401
