"""Commands as a person sees them: colours, the live view, a talk with a model."""

from __future__ import annotations

import contextlib
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.e2e.stage import NEXUS, Stage, engines_running, gateway_running
from tests.e2e.terminal import Terminal, terminal
from tests.processes import until


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway whose ``quick`` model answers in Markdown, and whose ``endless`` one goes on for
    minutes."""
    quick = FakeEngine(dialect="openai", name="quick", models=("quick",), answer="A **bold** word.")
    pace = Speed(tokens_per_s=20.0, tokens=100_000)
    endless = FakeEngine(dialect="vllm", name="endless", models=("endless",), settings=pace)
    home = tmp_path_factory.mktemp("stage")
    with engines_running(quick, endless) as engines, gateway_running(home, engines) as running:
        yield running


@contextlib.contextmanager
def typed(
    stage: Stage, *arguments: str, width: int = 100, height: int = 30, **variables: str
) -> Iterator[Terminal]:
    """``nexus ARGUMENTS`` on a terminal."""
    environment = {**stage.environment, "TERM": "xterm-256color", **variables}
    with terminal(
        NEXUS, *arguments, environment=environment, cwd=stage.home, width=width, height=height
    ) as screen:
        yield screen


def in_flight(stage: Stage) -> int:
    """Calls under way."""
    return int(stage.admin("/stats")["requests"]["in_flight"])


def test_colours(stage: Stage) -> None:
    """A terminal gets colours, unless NO_COLOR is set."""
    with typed(stage, "backends", "list") as screen:
        assert screen.ends() == 0
        assert "\x1b[32mhealthy" in screen.screen
    with typed(stage, "backends", "list", NO_COLOR="1") as screen:
        assert screen.ends() == 0
        assert "healthy" in screen.screen
        assert "\x1b" not in screen.screen


def test_a_talk(stage: Stage) -> None:
    """Answers are rendered and signed by their backend; the model is told what was said before;
    Ctrl-D leaves, exit 0; the history is the owner's alone."""
    with typed(stage, "chat", "quick", "--system", "Be brief.") as screen:
        screen.shows(">>> ")
        screen.types("First\n")
        answer = screen.shows(r"quick \(\w+\), \d+ tokens")
        assert "A \x1b[1mbold\x1b[0m word." in answer
        screen.shows(">>> ")
        screen.types('"""Second\nhas two lines"""\n')
        screen.shows(r"quick \(\w+\)")
        screen.shows(">>> ")
        screen.types("\x04")
        assert screen.ends() == 0
    body = stage.engines["quick"].requests[-1].body
    for said in (b"Be brief.", b"First", b"A **bold** word.", b"Second\\nhas two lines"):
        assert said in body
    history = stage.home / ".local" / "state" / "nexus" / "chat_history"
    assert "First" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_commands_of_a_talk(stage: Stage) -> None:
    """/help, /new, /model and /exit; a typo is not sent to the model; an error does not end the
    talk."""
    with typed(stage, "chat", "nobody", NO_COLOR="1") as screen:
        screen.shows(">>> ")
        screen.types("Hi\n")
        screen.shows("'nobody' not found.*quick")
        screen.types("/modle\n")
        screen.shows("there is no /modle")
        screen.types("/model quick\n")
        screen.shows("talking to quick")
        screen.types("Hi\n")
        screen.shows(r"quick \(\w+\)")
        screen.types("/new\n")
        screen.shows("forgotten")
        screen.types("Fresh\n")
        screen.shows(r"quick \(\w+\)")
        screen.types("/help\n")
        screen.shows("/exit")
        screen.shows(">>> ")
        screen.types("/exit\n")
        assert screen.ends() == 0
    body = stage.engines["quick"].requests[-1].body
    assert b"Fresh" in body
    assert b"Hi" not in body


def test_ctrl_c_stops_the_answer_then_leaves(stage: Stage) -> None:
    """The first Ctrl-C ends the answer, at the backend too, and the talk goes on; at the prompt
    it ends the talk."""
    with typed(stage, "chat", "endless") as screen:
        screen.shows(">>> ")
        screen.types("Go on\n")
        screen.shows("fleet answers")
        assert in_flight(stage) == 1
        screen.types("\x03")
        screen.shows("stopped; endless")
        screen.shows(">>> ")
        until(lambda: in_flight(stage) == 0, "the call is cancelled")
        screen.types("\x03")
        assert screen.ends() == 0
        assert "Traceback" not in screen.screen
        assert "Aborted" not in screen.screen
    newest = stage.nexus("history", "--limit", "1", "--json").json["data"][0]
    assert newest["outcome"] == "cancelled"


def test_ctrl_c_ends_a_single_question(stage: Stage) -> None:
    """Exit 130, as for any command that Ctrl-C ends; the cursor is back."""
    with typed(stage, "chat", "endless", "Go on") as screen:
        screen.shows("fleet answers")
        screen.types("\x03")
        assert screen.ends() == 130
        assert "Traceback" not in screen.screen
        assert screen.screen.rindex("\x1b[?25h") > screen.screen.rindex("\x1b[?25l")


def test_a_plain_terminal(stage: Stage) -> None:
    """--plain, and a terminal that cannot do more, get the text as it is."""
    for arguments, term in ((["--plain"], "xterm-256color"), ([], "dumb")):
        with typed(stage, "chat", "quick", "Hi", *arguments, TERM=term) as screen:
            assert screen.ends() == 0
            assert "A **bold** word." in screen.screen


def leaves_by(screen: Terminal, key: str) -> int:
    """Presses a key once the live view is there; the exit code."""
    screen.shows(r"2/2 backends")
    screen.types("\x1b[A")  # an arrow is no Escape
    screen.shows(r"2/2 backends")  # drawn again: it lives
    screen.shows(r"2/2 backends")
    screen.types(key)
    return screen.ends()


@pytest.mark.parametrize("key", ["q", "\x03", "\x1b"])
def test_top_lives_until_a_key(stage: Stage, key: str) -> None:
    """It draws itself again and again on a screen of its own, and gives the old one back."""
    with typed(stage, "top", "--interval", "0.1") as screen:
        assert leaves_by(screen, key) == 0
        assert "\x1b[?1049h" in screen.screen
        assert screen.screen.rindex("\x1b[?1049l") > screen.screen.rindex("\x1b[?1049h")
        assert "Traceback" not in screen.screen


def test_top_on_a_small_terminal(stage: Stage) -> None:
    """Fewer columns, no broken lines."""
    with typed(stage, "top", "--interval", "0.1", width=50, height=14, NO_COLOR="1") as screen:
        assert leaves_by(screen, "q") == 0
        assert "BUSY" in screen.screen
        assert "ENGINE" not in screen.screen


def test_top_survives_its_gateway(tmp_path: Path) -> None:
    """A gateway that goes away is told in the view, which goes on; SIGTERM gives the screen
    back."""
    with (
        engines_running(FakeEngine(dialect="openai", name="a", models=("m",))) as engines,
        gateway_running(tmp_path, engines) as passing,
        typed(passing, "top", "--interval", "0.1") as screen,
    ):
        screen.shows("1/1 backends")
        assert passing.process.end() == 0
        screen.shows("no gateway is running")
        screen.kill(signal.SIGTERM)
        assert screen.ends() == 128 + signal.SIGTERM
        assert screen.screen.endswith("\x1b[?1049l") or "\x1b[?1049l" in screen.screen[-200:]
