"""Every command that talks to a gateway, typed against a running one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from nexus.demo.engine import FakeEngine
from tests.e2e.stage import NEXUS, Stage, engines_running
from tests.processes import until

READS = {
    "health": None,
    "models": "/models",
    "backends list": "/backends",
    "stats": "/stats",
    "stats --window 5m": "/stats?window=5m",
    "config show": "/config",
    "history": "/history?limit=20",
    "history --limit 1 --outcome ok": "/history?limit=1&outcome=ok",
}
"""Commands that read, and the path of the admin API whose answer ``--json`` prints."""
MOVING = {"uptime_seconds", "last_check", "ttft_ms"}
"""What differs from one look to the next."""


def ask(stage: Stage, model: str = "llama") -> httpx.Response:
    """A chat completion."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return httpx.post(f"{stage.url}/v1/chat/completions", json=body, timeout=20, trust_env=False)


@pytest.fixture(scope="module", autouse=True)
def calls(stage: Stage) -> None:
    """Two calls that went well and one that was refused."""
    assert [ask(stage, model).status_code for model in ("llama", "llava-vision", "nope")] == [
        200,
        200,
        404,
    ]


def still(value: object) -> object:
    """``value`` without what moves."""
    if isinstance(value, dict):
        return {key: still(inner) for key, inner in value.items() if key not in MOVING}
    return [still(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("command", READS)
def test_json_is_what_the_gateway_answers(stage: Stage, command: str) -> None:
    """``--json`` of every command that reads prints the admin API's answer, exit 0."""
    told = stage.nexus(*command.split(), "--json").json
    path = READS[command]
    if path is None:
        wanted = httpx.get(f"{stage.url}/health", timeout=10, trust_env=False).json()
    else:
        wanted = stage.admin(path)
    assert still(told) == still(wanted)


@pytest.mark.parametrize("command", READS)
def test_what_people_see_in_a_pipe(stage: Stage, command: str) -> None:
    """A table without an escape, exit 0, nothing on standard error."""
    done = stage.nexus(*command.split())
    assert done.rows
    assert "\x1b" not in done.out
    assert "None" not in done.out


def test_what_the_tables_say(stage: Stage) -> None:
    """The fleet, its models and the calls are all there."""
    assert ["backends", "2", "of", "2", "healthy"] in stage.nexus("health").rows
    backends = {row[0]: row[1:3] for row in stage.nexus("backends", "list").rows}
    assert backends["fast"] == ["vllm", "healthy"]
    assert backends["slow"] == ["ollama", "healthy"]
    assert "llava-vision:latest" in stage.nexus("models").out
    assert ["client", "error", "1"] in stage.nexus("stats").rows
    newest = stage.nexus("history", "--limit", "1", "--outcome", "client_error").rows
    assert [row[:2] for row in newest] == [["TIME", "MODEL"], [newest[1][0], "nope"]]
    assert "404" in newest[1]


def test_history_can_be_narrowed(stage: Stage) -> None:
    """By backend, model and outcome; with nothing left it says so."""
    of_slow = stage.nexus("history", "--backend", "slow", "--json").json["data"]
    assert [call["model"] for call in of_slow if call["model"] == "llava-vision"]
    assert {call["backend"] for call in of_slow} == {"slow"}
    assert stage.nexus("history", "--outcome", "timeout").out == "no such calls\n"


def test_route_explain(stage: Stage) -> None:
    """For a model, a request from a file and one on standard input: the plan, and as JSON just
    what the gateway answers."""
    plan = stage.nexus("route", "explain", "--model", "llama", "--json").json
    assert plan["chosen"] in ("fast", "slow")
    assert {one["backend"] for one in plan["candidates"]} == {"fast", "slow"}

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {"model": "llava-vision", "messages": [{"role": "user", "content": [image]}]}
    (stage.home / "body.json").write_text(json.dumps(body))
    for arguments in (["body.json"], ["-"]):
        done = stage.nexus("route", "explain", *arguments, stdin=json.dumps(body))
        assert "needs vision" in done.out
        assert "chosen:   slow" in done.out

    done = stage.nexus("route", "explain", "-", stdin="{}")
    assert done.code == 1
    assert "model" in done.err


def test_route_explain_says_why_not(stage: Stage) -> None:
    """A backend that is left out comes with its reason."""
    assert stage.nexus("backends", "drain", "fast").code == 0
    try:
        lines = stage.nexus("route", "explain", "--model", "llama").rows
        assert lines[-1][:2] == ["fast", "draining"]
    finally:
        assert stage.nexus("backends", "resume", "fast").code == 0


def test_drain_and_resume(stage: Stage) -> None:
    """A drained backend gets nothing until it is resumed; its name must be right."""
    assert stage.nexus("backends", "drain", "slow", "--wait").out == "slow is draining\n"
    refused = ask(stage, "llava-vision")
    assert refused.status_code == 503
    resumed = stage.nexus("backends", "resume", "slow", "--json").json
    assert (resumed["name"], resumed["status"]) == ("slow", "healthy")
    assert ask(stage, "llava-vision").status_code == 200
    unknown = stage.nexus("backends", "drain", "nobody")
    assert unknown.code == 1
    assert "'nobody' does not exist" in unknown.err


@pytest.fixture
def spare() -> Iterator[FakeEngine]:
    """A server that the gateway does not know."""
    with engines_running(FakeEngine(dialect="llamacpp", name="spare", models=("spare",))) as named:
        yield named["spare"]


def test_add_use_and_remove(stage: Stage, spare: FakeEngine) -> None:
    """What is added is told with engine and models, serves at once, and is gone when removed."""
    address = spare.url.removeprefix("http://")
    added = stage.nexus("backends", "add", address, "--name", "extra", "--priority", "7")
    assert added.code == 0, added
    assert added.out.startswith("added extra: llamacpp")
    assert "1 model: spare" in added.out
    assert ask(stage, "spare").headers["x-nexus-backend"] == "extra"

    again = stage.nexus("backends", "add", spare.url)
    assert again.code == 1
    assert "extra" in again.err

    removed = stage.nexus("backends", "remove", "extra", "--json").json
    assert (removed["name"], removed["priority"]) == ("extra", 7)
    until(lambda: ask(stage, "spare").status_code == 404, "its model is gone")


def test_add_what_does_not_answer(stage: Stage, spare: FakeEngine) -> None:
    """Nobody there: refused with what was tried; --force takes it all the same."""
    nowhere = "http://127.0.0.1:1"
    refused = stage.nexus("backends", "add", nowhere)
    assert (refused.code, refused.out) == (1, "")
    assert "refused" in refused.err
    assert "--force" in refused.err
    forced = stage.nexus("backends", "add", nowhere, "--force", "--name", "later", "--json").json
    assert forced["status"] == "unhealthy"
    assert stage.nexus("backends", "approve", "later").code == 1
    assert stage.nexus("backends", "remove", "later").out == "removed later\n"
    assert spare.url not in stage.nexus("backends", "list").out


def test_remove_what_the_file_names(stage: Stage) -> None:
    """It would come back: refused, with what would do it."""
    done = stage.nexus("backends", "remove", "fast")
    assert done.code == 1
    assert "nexus backends remove fast --save" in done.err


def test_probe(stage: Stage, spare: FakeEngine) -> None:
    """Needs no gateway."""
    told = stage.nexus("backends", "probe", spare.url, "--json", NEXUS_GATEWAY="127.0.0.1:1").json
    assert told["engine"] == "llamacpp"
    assert told["reachable"] is True


def test_chat_in_a_pipe(stage: Stage) -> None:
    """The bare answer goes to standard output, from an argument and from standard input."""
    for arguments, stdin in ((("Hello",), ""), ((), "Hello")):
        done = stage.nexus("chat", "llama", *arguments, "--max-tokens", "3", stdin=stdin)
        assert done.code == 0, done
        assert len(done.out.split()) == 3
        assert done.err == ""
    unknown = stage.nexus("chat", "lama", "Hello")
    assert (unknown.code, unknown.out) == (1, "")
    assert "'lama' not found" in unknown.err
    assert "llama" in unknown.err
    nameless = stage.nexus("chat")
    assert nameless.code == 2
    assert "llava-vision" in nameless.err


def test_chat_asks_one_backend(stage: Stage) -> None:
    """--backend has that one answer, or nobody."""
    assert stage.nexus("chat", "llama", "Hi", "--backend", "slow").code == 0
    newest = stage.nexus("history", "--limit", "1", "--json").json["data"][0]
    assert newest["backend"] == "slow"
    assert stage.nexus("chat", "llama", "Hi", "--backend", "nobody").code == 1


def test_top_in_a_pipe(stage: Stage) -> None:
    """One plain frame."""
    done = stage.nexus("top", "--once")
    assert done.code == 0, done
    assert "2/2 backends" in done.out
    assert "\x1b" not in done.out


def test_a_reader_that_leaves(stage: Stage) -> None:
    """``nexus ... | head -1``: no traceback, nothing said."""
    for command in ("backends list", "history --json", "chat llama Hi"):
        script = f'"$0" {command} | head -c 1'
        done = subprocess.run(
            ["bash", "-c", script, NEXUS],
            env=stage.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (len(done.stdout), done.stderr) == (1, "")


def test_nothing_listens(stage: Stage) -> None:
    """Every command says so and how to start one, exit 1."""
    commands = [*READS, "route explain --model x", "backends drain x", "chat m hi", "top --once"]
    for command in (*commands, "backends add http://x", "config reload"):
        done = stage.nexus(*command.split(), "--gateway", "http://127.0.0.1:1")
        assert (done.code, done.out) == (1, ""), done
        assert "no gateway is running at http://127.0.0.1:1" in done.err
        assert "nexus serve" in done.err


def test_an_engine_is_no_gateway(stage: Stage) -> None:
    """An address that is an engine's is told apart from a gateway's."""
    for command in ("health", "backends list", "stats", "top --once"):
        done = stage.nexus(*command.split(), "--gateway", stage.engines["slow"].url)
        assert done.code == 1
        assert "is not a Nexus gateway" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("statz", "Did you mean 'stats'?"),
        ("backends lst", "Did you mean 'list'?"),
        ("history --limit 0", "--limit"),
        ("history --outcome bad", "client_error"),
        ("stats --window 2m", "5m"),
        ("route explain", "--model"),
        ("backends add", "URL"),
        ("backends add x --type vlm", "vllm"),
        ("health --gateway ftp://x", "http"),
        ("health --jso", "--json"),
        ("completions", "fish"),
    ],
)
def test_wrong_usage(stage: Stage, arguments: str, said: str) -> None:
    """Exit 2, nothing on standard output, and what would be right."""
    done = stage.nexus(*arguments.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err
