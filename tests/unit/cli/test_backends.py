"""Commands that change the gateway's backends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from tests.unit.cli.conftest import StandIn

GPU: dict[str, Any] = {
    "name": "gpu",
    "url": "http://10.0.0.2:8000",
    "engine": "vllm",
    "engine_version": "0.9.1",
    "status": "healthy",
    "reason": "answers",
    "in_flight": 0,
    "models": [{"id": f"m{number}"} for number in range(7)],
}
PATH = "/admin/v1/backends"


@pytest.fixture
def gateway(stand_in: StandIn, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A gateway that takes in whatever it is told."""
    assert runner
    stand_in.answers = {f"POST {PATH}": (201, GPU)}
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    return stand_in


def test_add_sends_what_was_given_and_tells_what_was_found(
    runner: CliRunner, gateway: StandIn
) -> None:
    """Only what was given is sent, http:// is the default; engine, status and models are told."""
    result = runner.invoke(main, ["backends", "add", "10.0.0.2:8000"])
    assert result.exit_code == 0
    assert json.loads(gateway.bodies[-1]) == {"url": "http://10.0.0.2:8000"}
    assert result.stdout.splitlines() == [
        "added gpu: vllm 0.9.1 at http://10.0.0.2:8000, healthy, 7 models: m0, m1, m2, m3, m4, ...",
        "it is forgotten when the gateway ends: --save keeps it",
    ]


def test_add_with_everything(runner: CliRunner, gateway: StandIn) -> None:
    """Every option has its key in the request; with --save it says so."""
    options = "--name gpu --type vllm --priority 0 --max-concurrency 4 --api-key-env K --zone z"
    models = "--model a --model b --save --force"
    arguments = ["backends", "add", "https://x/v1", *options.split(), *models.split()]
    result = runner.invoke(main, arguments)
    assert result.exit_code == 0
    assert "saved" in result.stdout
    assert json.loads(gateway.bodies[-1]) == {
        "url": "https://x/v1",
        "name": "gpu",
        "type": "vllm",
        "priority": 0,
        "max_concurrency": 4,
        "api_key_env": "K",
        "zone": "z",
        "models": ["a", "b"],
        "save": True,
        "force": True,
    }


def test_add_says_why_a_forced_one_is_not_used_yet(runner: CliRunner, gateway: StandIn) -> None:
    """The status that is not healthy comes with its reason, made printable."""
    found = {**GPU, "status": "unhealthy", "reason": "refused\x1b[2J", "models": []}
    gateway.answers[f"POST {PATH}"] = (201, found)
    result = runner.invoke(main, ["backends", "add", "http://x", "--force"])
    assert "unhealthy (refused\\x1b[2J), 0 models\n" in result.stdout


def test_add_shows_the_gateways_refusal(runner: CliRunner, gateway: StandIn) -> None:
    """What the gateway says of a URL that is no inference server is passed on; exit 1."""
    error = {"error": {"message": "nobody answers at http://x", "code": "unprocessable"}}
    gateway.answers[f"POST {PATH}"] = (422, error)
    result = runner.invoke(main, ["backends", "add", "http://x"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "422: nobody answers at http://x" in result.stderr


@pytest.mark.parametrize("verb", ["drain", "resume", "approve"])
def test_a_change_is_a_post_to_the_backend(runner: CliRunner, gateway: StandIn, verb: str) -> None:
    """The name is one segment of the path; ``--json`` prints the backend as it is now."""
    gateway.answers[f"POST {PATH}/a%2Fb%20c/{verb}"] = (200, GPU)
    result = runner.invoke(main, ["backends", verb, "a/b c"])
    assert result.exit_code == 0
    assert "a/b c" in result.stdout
    as_json = runner.invoke(main, ["backends", verb, "a/b c", "--json"])
    assert json.loads(as_json.stdout) == GPU


def test_remove(runner: CliRunner, gateway: StandIn) -> None:
    """A DELETE; with --save it asks for the file, too."""
    gateway.answers[f"DELETE {PATH}/gpu"] = (200, GPU)
    gateway.answers[f"DELETE {PATH}/gpu?save=true"] = (200, GPU)
    assert runner.invoke(main, ["backends", "remove", "gpu"]).stdout == "removed gpu\n"
    result = runner.invoke(main, ["backends", "remove", "gpu", "--save", "--json"])
    assert json.loads(result.stdout) == GPU


def test_drain_waits(runner: CliRunner, gateway: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --wait it returns when nothing runs there any more."""
    monkeypatch.setattr("nexus.cli.backend_changes.time.sleep", lambda _s: None)
    gateway.answers[f"POST {PATH}/gpu/drain"] = (200, {**GPU, "in_flight": 2})
    gateway.answers[f"{PATH}/gpu"] = (200, GPU)
    result = runner.invoke(main, ["backends", "drain", "gpu"])
    assert result.stdout == "gpu is draining, 2 still running there\n"
    result = runner.invoke(main, ["backends", "drain", "gpu", "--wait"])
    assert result.stdout == "gpu is draining\n"


def test_drain_gives_up_waiting(
    runner: CliRunner, gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After --timeout it fails, saying how many still run."""
    monkeypatch.setattr("nexus.cli.backend_changes.time.sleep", lambda _s: None)
    busy = (200, {**GPU, "in_flight": 2})
    gateway.answers = {f"POST {PATH}/gpu/drain": busy, f"{PATH}/gpu": busy}
    result = runner.invoke(main, ["backends", "drain", "gpu", "--wait", "--timeout", "0.01"])
    assert result.exit_code == 1
    assert "2 still run on gpu" in result.stderr
