"""A look at a URL (``nexus backends probe``, ``POST /admin/v1/probe``), over real sockets."""

from __future__ import annotations

import ssl
from time import monotonic

import pytest
import trustme

from nexus.core.backend import EngineKind
from nexus.demo.engine import DialectName, FakeEngine
from nexus.engines.adapter import Health
from nexus.runtime.probing import identify, probe_url
from tests.integration.replying import Replying, capture, endless, hanging
from tests.integration.scripted import plain

LISTING = plain({"object": "list", "data": [{"id": "m", "object": "model"}]})


@pytest.mark.parametrize("dialect", ["openai", "ollama", "llamacpp", "vllm"])
async def test_an_engine_is_found_out_with_its_models(dialect: DialectName) -> None:
    """Kind, models and the answer that told which engine it is, without being told the type."""
    async with FakeEngine(dialect=dialect, models=("llama3:8b",)) as engine:
        report = await probe_url(engine.url)
        found = await identify(engine.url)
    wanted = EngineKind(dialect)
    assert (report.engine, report.usable) == (wanted, True)
    assert report.result.models is not None
    assert [model.id for model in report.result.models] == ["llama3:8b"]
    assert report.result.evidence["engine"]
    assert (found.engine, found.label) == (wanted, report.label)


async def test_live_load_is_told_where_the_engine_has_it() -> None:
    """vLLM's own figures of running and waiting requests."""
    async with FakeEngine(dialect="vllm", models=("m",)) as engine:
        report = await probe_url(engine.url)
    assert (report.result.running, report.result.waiting) == (0, 0)


async def test_a_told_engine_is_not_fingerprinted() -> None:
    """With the type given only that engine's own paths are asked."""
    async with Replying({"/v1/models": LISTING}) as server:
        report = await probe_url(server.url, engine=EngineKind.GENERIC)
    assert server.asked == ["/v1/models"]
    assert report.found is None
    assert report.result.evidence["engine"] == "as told"


async def test_nobody_there() -> None:
    """A refused connection says so and is not reachable."""
    async with Replying({}) as server:
        url = server.url
    report = await probe_url(url)
    assert (report.engine, report.usable, report.reachable) == (None, False, False)
    assert report.result.health is Health.LOST
    assert "connection refused" in report.result.reason


async def test_a_web_server_is_no_llm_server() -> None:
    """A page of HTML everywhere: named for what it is not, in a sentence without the page."""
    page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 22\r\n\r\n"
    async with Replying({}, default=page + b"<html><p>hello</html>\n") as server:
        report = await probe_url(server.url)
        found = await identify(server.url)
    assert (report.engine, report.reachable) == (None, False)
    assert "not an LLM server" in report.result.reason
    assert "<" not in report.result.reason
    assert found.engine is None


async def test_a_server_that_hangs_is_given_up() -> None:
    """Half an answer, then silence: a reason within the timeout, not a wait without end."""
    async with Replying({}, default=hanging) as server:
        began_s = monotonic()
        report = await probe_url(server.url, timeout_s=0.2)
    assert monotonic() - began_s < 5
    assert not report.reachable
    assert "no answer within 0.2 s" in report.result.reason


async def test_a_body_without_end_is_not_read() -> None:
    """Reading stops at the bound and says so."""
    async with Replying({}, default=endless) as server:
        report = await probe_url(server.url)
    assert not report.reachable
    assert "larger than" in report.result.reason


async def test_a_missing_key_is_told_apart() -> None:
    """The engine is known by the way it refuses; with the key it answers, and only then."""
    refusal = capture("llama-server-lifecycle/apikey_models_without")
    async with Replying(
        {"/v1/models": refusal, "/health": capture("llama-server/get_health")}, default=refusal
    ) as server:
        without = await probe_url(server.url)
        await probe_url(server.url, api_key="s3cret")
    assert (without.engine, without.reachable, without.usable) == (EngineKind.LLAMACPP, True, False)
    assert without.result.health is Health.CREDENTIALS
    keyed = [b"authorization: Bearer s3cret" in head for head in server.heads]
    assert True in keyed
    assert keyed == sorted(keyed)


async def test_a_loading_engine_is_not_a_failure() -> None:
    """llama.cpp says 503 to everything until its model is there."""
    loading = capture("llama-server-lifecycle/loading_models")
    async with Replying({}, default=loading) as server:
        report = await probe_url(server.url)
    assert (report.engine, report.reachable, report.usable) == (EngineKind.LLAMACPP, True, False)
    assert report.result.health is Health.LOADING


async def test_tls_mistakes_say_what_to_do() -> None:
    """An unknown authority, and TLS to a server that speaks none: each with a hint."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Replying({"/v1/models": LISTING}, tls=context) as secure:
        untrusted = await probe_url(secure.url)
        trusted = await probe_url(secure.url, tls_verify=False)
    async with Replying({"/v1/models": LISTING}) as clear:
        mistaken = await probe_url(clear.url.replace("http:", "https:"))
    assert "not trusted" in untrusted.result.reason
    assert "tls_ca" in untrusted.result.reason
    assert trusted.usable
    assert "try http://" in mistaken.result.reason


async def test_another_gateway_is_told_apart() -> None:
    """Nexus knows its own kind, so that nobody adds a loop without noticing."""
    listing = plain(
        {"object": "list", "data": [{"id": "m", "owned_by": "nexus", "capabilities": {}}]},
        "server: nexus",
    )
    async with Replying({"/v1/models": listing}) as server:
        report = await probe_url(server.url)
        found = await identify(server.url)
    assert report.found is not None
    assert report.found.nexus
    assert (found.nexus, found.engine) == (True, None)


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://a b", "http://u:p@host"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Before anything is sent, as a ``ValueError`` that says what is wrong."""
    with pytest.raises(ValueError, match="URL"):
        await probe_url(url)
    with pytest.raises(ValueError, match="URL"):
        await identify(url)


async def test_identifying_costs_at_most_three_requests() -> None:
    """Even a server that tells nothing is not asked more."""
    async with Replying({"/v1/models": plain({"object": "list", "data": []})}) as server:
        await identify(server.url)
    assert len(server.asked) <= 3
