"""The admin API on a running gateway: backends seen, added, changed, drained and removed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from nexus.core.backend import BackendStatus, Source
from nexus.demo.engine import FakeEngine
from tests.harness import chat, eventually, running, spec_of

BACKENDS = "/admin/v1/backends"


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def message(answer: Any) -> str:
    text = answer.json()["error"]["message"]
    assert isinstance(text, str)
    return text


async def test_models_with_their_backends() -> None:
    """GET /models: each model once, with every backend that has it."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one, two) as run:
        (model,) = (await run.client.get("/admin/v1/models")).json()["data"]
        assert model["id"] == "demo-model"
        assert [backend["name"] for backend in model["backends"]] == ["a", "b"]


async def test_an_explained_route_goes_nowhere() -> None:
    """POST /routes/explain tells the plan; no engine hears of it and no call is counted."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one, two) as run:
        run.gateway.store.drain("b")
        heard = len(one.requests), len(two.requests)
        answer = await run.client.post("/admin/v1/routes/explain", json=chat())
        plan = answer.json()
        assert answer.status_code == 200
        assert plan["chosen"] == "a"
        assert [candidate["backend"] for candidate in plan["candidates"]] == ["a"]
        assert set(plan["candidates"][0]["parts"]) == {"priority", "load", "latency"}
        assert [(one["backend"], one["reason"]) for one in plan["dropped"]] == [("b", "draining")]
        assert plan["decision_us"] > 0
        assert (len(one.requests), len(two.requests)) == heard
        assert run.records == []


async def test_an_explained_route_of_another_endpoint() -> None:
    """``?endpoint=`` names the endpoint with or without its prefix; a wrong one is told the
    nearest."""
    async with FakeEngine(name="a") as one, running(one) as run:
        for name in ("embeddings", "/v1/embeddings"):
            answer = await run.client.post(
                f"/admin/v1/routes/explain?endpoint={name}",
                json={"model": "demo-model", "input": "x"},
            )
            assert answer.json()["profile"]["endpoint"] == "/v1/embeddings"
        wrong = await run.client.post("/admin/v1/routes/explain?endpoint=embedings", json={})
        assert wrong.status_code == 400
        assert "did you mean /v1/embeddings" in message(wrong)


async def test_a_drained_backend_gets_no_calls() -> None:
    """drain takes a backend out of routing, resume brings it back; both answer the Backend."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one, two) as run:
        answer = await run.client.post(f"{BACKENDS}/a/drain")
        assert answer.status_code == 200
        assert answer.json()["status"] == "draining"
        for _ in range(4):
            reply = await run.client.post("/v1/chat/completions", json=chat())
            assert reply.headers["x-nexus-backend"] == "b"
        assert (await run.client.post(f"{BACKENDS}/a/resume")).json()["status"] == "healthy"


async def test_approving_a_pending_backend() -> None:
    """approve lets a pending backend in and has it checked; another answers 409."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one) as run:
        found = spec_of(two, source=Source.SCAN)
        run.gateway.store.add(found, status=BackendStatus.PENDING)
        assert (await run.client.post(f"{BACKENDS}/b/approve")).json()["status"] == "unknown"
        await run.healthy("b")
        again = await run.client.post(f"{BACKENDS}/b/approve")
        assert again.status_code == 409
        assert "does not wait" in message(again)


async def test_adding_a_backend() -> None:
    """A POST with nothing but a URL finds out the engine, makes a name, and it takes calls at
    once."""
    async with FakeEngine(name="x", dialect="vllm") as one, running() as run:
        answer = await run.client.post(BACKENDS, json={"url": one.url})
        assert answer.status_code == 201
        backend = answer.json()
        assert (backend["name"], backend["source"], backend["status"]) == (
            "vllm",
            "manual",
            "healthy",
        )
        assert [model["id"] for model in backend["models"]] == ["demo-model"]
        reply = await run.client.post("/v1/chat/completions", json=chat())
        assert reply.headers["x-nexus-backend"] == "vllm"


async def test_made_up_names_are_unique() -> None:
    """The second engine of a kind is numbered."""
    engines = FakeEngine(name="x", dialect="vllm"), FakeEngine(name="y", dialect="vllm")
    async with engines[0], engines[1], running() as run:
        for engine in engines:
            assert (await run.client.post(BACKENDS, json={"url": engine.url})).is_success
        listed = (await run.client.get(BACKENDS)).json()["data"]
        assert [backend["name"] for backend in listed] == ["vllm", "vllm-2"]


async def test_the_same_server_twice() -> None:
    """409 for a name that is taken and for a server that is known, by whatever name of the host."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one) as run:
        taken = await run.client.post(BACKENDS, json={"url": two.url, "name": "a"})
        assert taken.status_code == 409
        assert "named 'a'" in message(taken)
        other = one.url.replace("127.0.0.1", "localhost")
        twin = await run.client.post(BACKENDS, json={"url": other, "name": "c"})
        assert twin.status_code == 409
        assert "same server as backend 'a'" in message(twin)
        assert len(run.gateway.store.snapshot.backends) == 1


async def test_nobody_there() -> None:
    """422 that says what was tried; with ``force`` it is taken in, and a check finds it later."""
    url = f"http://127.0.0.1:{closed_port()}"
    async with running() as run:
        answer = await run.client.post(BACKENDS, json={"url": url, "name": "later"})
        assert answer.status_code == 422
        assert "connection refused" in message(answer)
        assert "GET /v1/models" in message(answer)
        assert "force" in message(answer)
        forced = await run.client.post(BACKENDS, json={"url": url, "name": "later", "force": True})
        assert forced.status_code == 201
        assert forced.json()["status"] == "unhealthy"
        await eventually(
            lambda: run.gateway.store.snapshot.backends["later"].last_check_at_s, "a check"
        )


async def test_not_an_llm_server() -> None:
    """422 for a server that lists no models."""
    async with FakeEngine(name="a") as one, running() as run:
        answer = await run.client.post(BACKENDS, json={"url": f"{one.url}/elsewhere"})
        assert answer.status_code == 422
        assert "/v1/models" in message(answer)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "url", "is required"),
        ({"url": 7}, "url", "not empty, not a number"),
        ({"url": "ftp://x"}, "url", "must begin with http://"),
        ({"url": "http://me:pw@host"}, "url", "must not hold a user"),
        ({"url": "http://h", "prio": 1}, "prio", 'did you mean "priority"'),
        ({"url": "http://h", "priority": -1}, "priority", "a whole number of at least 0"),
        ({"url": "http://h", "type": "vlm"}, "type", 'did you mean "vllm"'),
        ({"url": "http://h", "name": "a/b"}, "name", "no slash"),
        ({"url": "http://h", "name": ""}, "name", "empty text"),
        ({"url": "http://h", "headers": {"Host": "x"}}, "headers.Host", "by the gateway itself"),
        ({"url": "http://h", "api_key_env": "NO_SUCH_KEY"}, "api_key_env", "NO_SUCH_KEY is not"),
        ({"url": "http://h", "api_key_file": "/no/such"}, "api_key_file", "cannot be read"),
        ({"url": "http://h", "save": "yes"}, "save", "true or false"),
    ],
)
async def test_fields_that_make_no_sense(fields: dict[str, Any], param: str, words: str) -> None:
    """400 with the key path, and the configuration's own words."""
    async with running() as run:
        answer = await run.client.post(BACKENDS, json=fields)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert words in message(answer)


async def test_changing_a_backend() -> None:
    """A PATCH changes what it names and nothing else: status and models stay."""
    async with FakeEngine(name="a") as one, running(one) as run:
        before = (await run.client.get(f"{BACKENDS}/a")).json()
        answer = await run.client.patch(f"{BACKENDS}/a", json={"priority": 7, "zone": "attic"})
        assert answer.status_code == 200
        after = answer.json()
        assert (after["priority"], after["zone"]) == (7, "attic")
        assert after["status"] == "healthy"
        assert after["models"] == before["models"]
        back = (await run.client.patch(f"{BACKENDS}/a", json={"priority": None})).json()
        assert (back["priority"], back["zone"]) == (50, "attic")


async def test_a_change_keeps_the_key() -> None:
    """A backend's key stays its key when something else is changed."""
    async with FakeEngine(name="a") as one, running(spec_of(one, api_key="sk-1")) as run:
        await run.client.patch(f"{BACKENDS}/a", json={"priority": 7})
        assert run.gateway.store.snapshot.backends["a"].spec.api_key == "sk-1"


async def test_credentials_stay_behind_when_a_found_backend_moves() -> None:
    """Anyone on the network can announce that a found backend is elsewhere now: what the operator
    gave for the old address does not follow, and a later change does not bring it back."""
    async with (
        FakeEngine(name="a") as one,
        FakeEngine(name="b") as two,
        running(spec_of(one, source=Source.MDNS)) as run,
    ):
        gateway = run.gateway
        given = {"headers": {"x-key": "s3cret"}, "query": {"k": "s3cret"}, "priority": 7}
        answer = await run.client.patch(
            f"{BACKENDS}/a", json={**given, "forward_authorization": True}
        )
        assert answer.status_code == 200
        gateway.move_backend("a", two.url)
        await run.client.patch(f"{BACKENDS}/a", json={"zone": "attic"})
        spec = gateway.store.snapshot.backends["a"].spec
        assert (spec.url, spec.priority, spec.zone) == (two.url, 7, "attic")
        assert (spec.headers, spec.query, spec.forwards_credentials) == ({}, {}, False)
        await eventually(lambda: two.requests, "asked at its new address")
        assert all(b"s3cret" not in str(asked.headers).encode() for asked in two.requests)


@pytest.mark.parametrize("key", ["api_key_file", "tls_ca"])
async def test_a_pipe_stops_nobody(key: str, tmp_path: Path) -> None:
    """A file that would be waited for is refused at once, and the gateway goes on."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with FakeEngine(name="a") as one, running(one) as run:
        answer = await run.client.patch(f"{BACKENDS}/a", json={key: str(pipe)})
        assert answer.status_code == 400
        assert "ordinary file" in message(answer)


async def test_changes_that_are_refused() -> None:
    """A new name, another's server, unknown keys and nobody of that name."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one, two) as run:
        for name, fields, status, words in (
            ("a", {"name": "z"}, 400, "cannot be changed"),
            ("a", {"url": two.url}, 409, "same server as backend 'b'"),
            ("a", {"priorty": 1}, 400, "priority"),
            ("aa", {"priority": 1}, 404, "Did you mean 'a'"),
        ):
            answer = await run.client.patch(f"{BACKENDS}/{name}", json=fields)
            assert answer.status_code == status
            assert words in message(answer)


async def test_removing_a_backend() -> None:
    """A backend that was added can be removed; one of the configuration file only drained."""
    async with FakeEngine(name="a") as one, FakeEngine(name="b") as two, running(one) as run:
        await run.client.post(BACKENDS, json={"url": two.url, "name": "b"})
        gone = await run.client.delete(f"{BACKENDS}/b")
        assert gone.status_code == 200
        assert gone.json()["name"] == "b"
        assert (await run.client.get(f"{BACKENDS}/b")).status_code == 404
        kept = await run.client.delete(f"{BACKENDS}/a")
        assert kept.status_code == 409
        assert "Drain it" in message(kept)
        assert "a" in run.gateway.store.snapshot.backends


async def test_a_probe() -> None:
    """POST /probe tells what answers at a URL, and that nobody does; nothing is taken in."""
    async with FakeEngine(name="a", dialect="ollama") as one, running() as run:
        seen = (await run.client.post("/admin/v1/probe", json={"url": one.url})).json()
        assert (seen["engine"], seen["reachable"]) == ("ollama", True)
        nobody = {"url": f"http://127.0.0.1:{closed_port()}"}
        missed = (await run.client.post("/admin/v1/probe", json=nobody)).json()
        assert missed["reachable"] is False
        assert "refused" in missed["reason"]
        assert run.gateway.store.snapshot.backends == {}
