"""Commands that change the gateway's configuration file, and those that have it read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.demo.engine import FakeEngine
from tests.e2e.stage import Stage, engines_running, gateway_running
from tests.processes import until


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A gateway of its own for each test: they change its file."""
    one = FakeEngine(dialect="vllm", name="one", models=("m",))
    settings = "# Mine.\n[server]\nport = 0  # any\n[routing]\nmax_retries = 1\n"
    with (
        engines_running(one) as engines,
        gateway_running(tmp_path, engines, settings=settings) as running,
    ):
        yield running


def edit(stage: Stage, old: str, new: str) -> None:
    """Changes the file as a person would."""
    file = stage.home / "gateway.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_what_is_saved_is_in_the_file(stage: Stage, tmp_path: Path) -> None:
    """--save keeps comments and everything else; what is not saved is not there; removing takes it
    out again."""
    file = stage.home / "gateway.toml"
    before = file.read_text()
    two = FakeEngine(dialect="llamacpp", name="two", models=("n",))
    with engines_running(two):
        added = stage.nexus("backends", "add", two.url, "--name", "two")
        assert "--save keeps it" in added.out
        assert file.read_text() == before
        assert stage.nexus("backends", "remove", "two").code == 0

        saved = stage.nexus(
            "backends", "add", two.url, "--name", "two", "--zone", "attic", "--save"
        )
        assert "saved" in saved.out, saved
        text = file.read_text()
        assert text.startswith(before.rstrip())
        assert 'zone = "attic"' in text
        assert stage.nexus("config", "check", str(file)).code == 0

        assert stage.nexus("backends", "remove", "two").code == 1
        assert stage.nexus("backends", "remove", "two", "--save").out == "removed two\n"
        assert "two" not in file.read_text()
        assert "# Mine." in file.read_text()


def test_reload(stage: Stage) -> None:
    """A changed file: each change is told, and is in effect; what needs a restart says so."""
    edit(stage, "max_retries = 1", "max_retries = 3")
    edit(stage, "port = 0", "port = 1")
    # The file is watched, too: whoever is first, the gateway has it in the end.
    done = stage.nexus("config", "reload")
    assert done.code == 0, done
    assert done.out in (
        "~ routing.max_retries 1 -> 3\n! server.port 0 -> 1: only after a restart\n",
        "! server.port 0 -> 1: only after a restart\n",
        "read again: nothing has changed\n",
    )
    shown = stage.nexus("config", "show", "--changed")
    assert ["routing.max_retries", "3"] in [row[:2] for row in shown.rows]


def test_a_broken_file_changes_nothing(stage: Stage) -> None:
    """All problems at once, each with its line and the nearest name; the gateway goes on as it
    was."""
    edit(stage, "max_retries = 1", 'max_retrys = 3\nstrategy = "smrt"')
    done = stage.nexus("config", "reload")
    assert (done.code, done.out) == (1, "")
    assert 'did you mean "max_retries"?' in done.err
    assert 'did you mean "smart"?' in done.err
    assert stage.nexus("health").code == 0
    shown = stage.nexus("config", "show", "--json").json
    assert shown["config"]["routing"]["max_retries"] == 1


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """A planted key is in no output of any command."""
    one = FakeEngine(dialect="vllm", name="one", models=("m",), api_key="sesame-1")
    settings = "[server]\nport = 0\n[telemetry]\nhistory_size = 10\n"
    with engines_running(one) as engines:
        file = tmp_path / "gateway.toml"
        with gateway_running(tmp_path, {}, settings=settings, KEY="sesame-1") as stage:
            with file.open("a") as out:
                out.write(
                    f'[[backends]]\nname = "one"\nurl = "{engines["one"].url}?k=sesame-2"\n'
                    'api_key_env = "KEY"\nheaders = { "X-Key" = "sesame-3" }\n'
                )
            said = [stage.nexus("config", "reload")]
            until(lambda: stage.healthy() == 1, "the backend with a key is healthy")
            for command in (
                "config show",
                "config show --json",
                "backends list",
                "backends list --json",
                "models --json",
                "route explain --model m --json",
                "chat m Hi",
                "chat m Hi --backend nobody",
                "history --json",
                "top --once",
            ):
                said.append(stage.nexus(*command.split()))
            assert said[-4].code == 0, "the call went through with the key"
            for done in said:
                assert "sesame" not in done.out + done.err
            assert "sesame" not in stage.process.output
