"""``nexus route explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from tests.unit.cli.conftest import StandIn

PATH = "/admin/v1/routes/explain"
PLAN: dict[str, Any] = {
    "requested_model": "gpt-4",
    "model": "llama3:70b",
    "alias_chain": ["gpt-4", "llama3:70b"],
    "profile": {
        "estimated_tokens": 12,
        "stream": True,
        "needs_tools": True,
        "needs_vision": False,
        "max_output_tokens": 100,
    },
    "chosen": "gpu",
    "reason": "capability-match",
    "candidates": [
        {
            "backend": "gpu",
            "score": 0.8125,
            "parts": {"priority": 0.5, "load": 1.0, "latency": 0.25},
            "ignored": [],
            "behind": [],
        },
        {
            "backend": "mac",
            "score": 0.9,
            "parts": {"priority": 0.9, "load": 1.0, "latency": None},
            "ignored": ["n"],
            "behind": ["ignored", "unknown"],
        },
    ],
    "dropped": [{"backend": "old", "reason": "context", "detail": "needs 12, has 8"}],
    "fallback_model": None,
    "error": None,
    "decision_us": 14.6,
}


@pytest.fixture
def gateway(stand_in: StandIn, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A gateway with one plan for everything."""
    assert runner
    stand_in.answers = {f"POST {PATH}": (200, PLAN)}
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    return stand_in


def test_the_plan_in_words(runner: CliRunner, gateway: StandIn) -> None:
    """Alias, needs, choice and why; every candidate with its score's parts; every other backend
    with the reason it is left out for."""
    assert gateway
    result = runner.invoke(main, ["route", "explain", "--model", "gpt-4"])
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "model: gpt-4 -> llama3:70b (alias)",
        "request: about 12 tokens in, up to 100 out, streamed, needs tools",
        "chosen: gpu (capability-match: the best of those that can do it)",
        "decided: in 15 µs",
        "",
        "BACKEND SCORE PRIORITY LOAD LATENCY NOTES",
        "1 gpu 0.812 0.500 1.000 0.250",
        "2 mac 0.900 0.900 1.000 - behind: ignores fields: n; capabilities not known",
        "",
        "LEFT OUT BECAUSE OF",
        "old context needs 12, has 8",
    ]


def test_no_plan(runner: CliRunner, gateway: StandIn) -> None:
    """Without a candidate: what the request would be answered; that is an explanation, exit 0."""
    error = {"status": 404, "code": "model_not_found", "message": "Model 'x' not found."}
    plan = {**PLAN, "chosen": None, "reason": None, "candidates": [], "error": error}
    gateway.answers[f"POST {PATH}"] = (200, plan)
    result = runner.invoke(main, ["route", "explain", "--model", "x"])
    assert result.exit_code == 0
    assert "none; the answer would be 404 model_not_found: Model 'x' not found." in result.stdout


def test_a_whole_body_goes_as_it_is(runner: CliRunner, gateway: StandIn) -> None:
    """From a file or standard input, byte for byte; ``--json`` prints the plan itself."""
    body = b'{ "model": "m",\t"messages": [], "x": 1.0 }\n'
    Path("body.json").write_bytes(body)
    result = runner.invoke(main, ["route", "explain", "body.json", "--json"])
    assert json.loads(result.stdout) == PLAN
    runner.invoke(main, ["route", "explain", "-"], input=body)
    assert gateway.bodies == [body, body]


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (None, "messages"),
        ("/v1/chat/completions", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/embeddings", "input"),
        ("/v1/responses", "input"),
        ("/v1/rerank", "query"),
        ("/v1/images/generations", "prompt"),
    ],
)
def test_a_body_is_made_for_the_endpoint(
    runner: CliRunner, gateway: StandIn, endpoint: str | None, field: str
) -> None:
    """--message stands where that endpoint has its text; the endpoint is told."""
    query = "" if endpoint is None else "?endpoint=" + endpoint.replace("/", "%2F")
    gateway.answers[f"POST {PATH}{query}"] = (200, PLAN)
    options = [] if endpoint is None else ["--endpoint", endpoint]
    arguments = ["route", "explain", "--model", "m", "--message", "Hello there", *options]
    assert runner.invoke(main, arguments).exit_code == 0
    body = json.loads(gateway.bodies[-1])
    assert body["model"] == "m"
    assert "Hello there" in json.dumps(body[field])


@pytest.mark.parametrize(
    "arguments", [[], ["--message", "x"], ["body.json", "--model", "m"], ["-", "--message", "x"]]
)
def test_either_a_body_or_a_model(
    runner: CliRunner, gateway: StandIn, arguments: list[str]
) -> None:
    """Neither or both is wrong usage (2), before anybody is asked."""
    assert runner.invoke(main, ["route", "explain", *arguments]).exit_code == 2
    assert gateway.seen == []


def test_a_file_that_is_not_there(runner: CliRunner, gateway: StandIn) -> None:
    """Says which file and why; exit 1."""
    assert gateway
    result = runner.invoke(main, ["route", "explain", "absent.json"])
    assert result.exit_code == 1
    assert "absent.json cannot be read: No such file" in result.stderr
