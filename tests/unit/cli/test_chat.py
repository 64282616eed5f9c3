"""``nexus chat``: reading a streamed answer, showing it, keeping the talk."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nexus.cli.chat_answer import Answer
from nexus.cli.chat_screen import MarkdownScreen, PlainScreen, finished_end
from nexus.cli.main import main
from tests.unit.cli.conftest import StandIn

PATH = "POST /v1/chat/completions"


def sse(*chunks: Any, done: bool = True) -> bytes:
    """A stream of these data events."""
    data = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    ending = ["[DONE]"] if done else []
    return b": keep-alive\n\n" + b"".join(b"data: %b\n\n" % one.encode() for one in data + ending)


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


@pytest.fixture
def gateway(stand_in: StandIn, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A gateway whose model thinks, then says hello."""
    assert runner
    chunks = [delta(reasoning_content="hm"), delta(content="He"), delta(content="llo\x1b[2J")]
    stand_in.answers = {PATH: (200, sse(*chunks, delta("stop")))}
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    return stand_in


def test_into_a_pipe_goes_the_bare_answer(runner: CliRunner, gateway: StandIn) -> None:
    """What the model said, unchanged, one line end, nothing else; thoughts stay out."""
    result = runner.invoke(main, ["chat", "m", "Hi", "there"])
    assert (result.exit_code, result.stdout) == (0, "Hello\x1b[2J\n")
    request = json.loads(gateway.bodies[-1])
    assert request["messages"] == [{"role": "user", "content": "Hi there"}]
    assert (request["model"], request["stream"]) == ("m", True)


def test_the_options_are_in_the_request(runner: CliRunner, gateway: StandIn) -> None:
    """Model settings and the system message are sent; what was not given is not."""
    options = ["--system", "Be brief.", "--temperature", "0", "--max-tokens", "9"]
    runner.invoke(main, ["chat", "m", "Hi", *options])
    request = json.loads(gateway.bodies[-1])
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (request["temperature"], request["max_tokens"]) == (0, 9)
    runner.invoke(main, ["chat", "m", "Hi"])
    assert not {"temperature", "max_tokens"} & set(json.loads(gateway.bodies[-1]))


def test_the_message_from_standard_input(runner: CliRunner, gateway: StandIn) -> None:
    """Without a MESSAGE what is piped in is asked; an empty one is not sent."""
    assert runner.invoke(main, ["chat", "m"], input="piped").exit_code == 0
    assert json.loads(gateway.bodies[-1])["messages"][0]["content"] == "piped"
    asked = len(gateway.seen)
    result = runner.invoke(main, ["chat", "m"], input=" \n")
    assert (result.exit_code, len(gateway.seen)) == (1, asked)
    assert "nothing to ask" in result.stderr


def test_an_error_in_the_middle(runner: CliRunner, gateway: StandIn) -> None:
    """What came is shown, then the error; exit 1."""
    broken = sse(delta(content="Half an"), {"error": {"message": "backend\x07 died"}})
    gateway.answers[PATH] = (200, broken)
    result = runner.invoke(main, ["chat", "m", "Hi"])
    assert (result.exit_code, result.stdout) == (1, "Half an\n")
    assert "nexus: backend\\x07 died" in result.stderr


def test_an_answer_that_just_ends(runner: CliRunner, gateway: StandIn) -> None:
    """Without finish reason and [DONE] it broke off; garbage in between is passed over."""
    gateway.answers[PATH] = (200, sse(delta(content="Half"), "{garbage", "[1]", done=False))
    result = runner.invoke(main, ["chat", "m", "Hi"])
    assert (result.exit_code, result.stdout) == (1, "Half\n")
    assert "broke off" in result.stderr


def test_no_model_named(runner: CliRunner, gateway: StandIn) -> None:
    """Wrong usage (2), with the names there are."""
    gateway.answers["/v1/models"] = (200, {"data": [{"id": "a"}, {"id": "b"}]})
    result = runner.invoke(main, ["chat"])
    assert result.exit_code == 2
    assert "Name a MODEL: a, b." in result.stderr
    gateway.answers["/v1/models"] = (200, {"data": []})
    assert "nexus backends list" in runner.invoke(main, ["chat"]).stderr


def test_the_summary_of_an_answer() -> None:
    """Who answered, how long and how fast it was, and what to know about it."""
    answer = Answer()
    answer.take_head({"x-nexus-backend": "g%20pu", "x-nexus-engine": "vllm"})
    answer.take(delta(content="a"))
    answer.take(delta("length", content="b"))
    answer.take({"choices": [], "usage": {"completion_tokens": 21, "prompt_tokens": True}})
    answer.first_s, answer.seconds = 0.5, 2.5
    assert (
        answer.summary()
        == "g pu (vllm), 21 tokens, 10 tokens/s, first after 0.5 s, cut at the token limit"
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "content", "usage", "completion_tokens"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_no_chunk_raises(chunk: object) -> None:
    """Whatever an engine streams, reading it raises nothing."""
    answer = Answer()
    if isinstance(chunk, dict):
        answer.take(chunk)
    answer.summary()


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("one line", ""),
        ("one\n\n", ""),  # an indented line may follow
        ("one\n\ntwo", "one\n\n"),
        ("one\n \t\ntwo\n\nthree", "one\n \t\ntwo\n\n"),
        ("- item\n\n  its second paragraph", ""),
        ("```\ncode\n\nmore", ""),
        ("```\ncode\n\nmore\n```\n\nafter", "```\ncode\n\nmore\n```\n\n"),
        ("````\n```\n\nstill\n````\n\nafter", "````\n```\n\nstill\n````\n\n"),
        ("", ""),
    ],
)
def test_what_is_finished(text: str, finished: str) -> None:
    """Blocks end at a blank line that no fence holds and no indented line follows."""
    assert text[: finished_end(text)] == finished


@given(st.text("ab \n`-", max_size=60), st.integers(1, 7))
def test_what_is_finished_stays_finished(text: str, step: int) -> None:
    """However the text is cut, the finished part of a beginning is one of the whole."""
    whole = finished_end(text)
    for cut in range(0, len(text), step):
        assert finished_end(text[:cut]) <= max(whole, 0)


def screen(width: int = 40) -> tuple[MarkdownScreen, io.StringIO]:
    """A terminal of that width and what is written to it."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=6, color_system=None)
    return MarkdownScreen(console), out


def test_markdown_is_rendered() -> None:
    """Marks become layout; blocks keep their blank line; nothing steers the terminal."""
    shown, out = screen()
    for piece in ("# Ti", "tle\n\nA **bo", "ld** word\x1b]0;x\x07.\n\n- one\n- two\n"):
        shown.text(piece)
    shown.end()
    text = out.getvalue()
    assert "**bold" not in text
    assert "]0;x" in text
    assert "\x1b]0" not in text
    assert "bold word" in text
    assert " • one" in text


def test_a_long_block_does_not_flood_the_screen() -> None:
    """Of an unfinished block that is higher than the screen its end is drawn."""
    shown, out = screen()
    shown._drawn_s = -1.0
    shown.text("```\n" + "\n".join(f"line {number}" for number in range(50)))
    drawn = out.getvalue()
    assert "line 49" in drawn
    assert "line 40" not in drawn
    shown.end()
    assert "line 0 " in out.getvalue()


def test_thoughts_are_shown_until_the_answer_begins() -> None:
    """While a model only thinks, that is shown; it is not part of what stays."""
    shown, out = screen()
    shown.wait()
    assert "..." in out.getvalue()
    shown._drawn_s = -1.0
    shown.thought("pondering")
    assert "pondering" in out.getvalue()
    begun = len(out.getvalue())
    shown.text("Yes.")
    shown.end()
    assert "pondering" not in out.getvalue()[begun:]
    assert "Yes." in out.getvalue()[begun:]


def test_a_plain_screen_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are left out there; the joiners and blanks of other scripts stay."""
    plain = PlainScreen(terminal=True)
    plain.text("a\x1b[2Jb\x9b\u202ec \u200d\u00a0\n\td")
    plain.end()
    assert capsys.readouterr().out == "a[2Jbc \u200d\u00a0\n\td\n"
