"""Logging: one shape for our lines and the libraries', no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from nexus.telemetry.logs import configure_logging, get_logger, is_pretty
from nexus.telemetry.text import printable


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Logging is the process's: put it back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("nexus")
    handlers, level, our_level = list(root.handlers), root.level, ours.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)
    for name in logging.Logger.manager.loggerDict:
        if name.startswith("nexus."):
            logging.getLogger(name).setLevel(logging.NOTSET)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_json_line() -> None:
    """Our line has time, level, component, event and its fields."""
    out = io.StringIO()
    configure_logging("info", "json", {}, out)
    get_logger("health").info("backend_healthy", backend="gpu", ms=1.5)
    (line,) = lines(out)
    assert list(line)[:4] == ["timestamp", "level", "component", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "component": "health",
        "event": "backend_healthy",
        "backend": "gpu",
        "ms": 1.5,
    }


def test_a_librarys_line_has_the_same_shape() -> None:
    """What libraries say through ``logging`` comes out by the same handler, in the same form."""
    out = io.StringIO()
    configure_logging("info", "json", {}, out)
    logging.getLogger("asyncio").warning("slow callback: %s", "tick")
    logging.getLogger("asyncio").info("chatter")
    (line,) = lines(out)
    assert (line["level"], line["component"], line["event"]) == (
        "warning",
        "asyncio",
        "slow callback: tick",
    )


def test_structlogs_own_loggers_have_the_same_shape() -> None:
    """What is logged through ``structlog.get_logger`` comes out by the same handler too."""
    out = io.StringIO()
    configure_logging("info", "json", {}, out)
    structlog.get_logger("nexus.demo").info("listens", url="http://x")
    structlog.get_logger("nexus.demo").debug("quiet")
    (line,) = lines(out)
    assert (line["component"], line["event"], line["url"]) == ("demo", "listens", "http://x")


def test_levels_by_component() -> None:
    """One component may be louder, another quieter than the rest."""
    out = io.StringIO()
    configure_logging("info", "json", {"proxy": "debug", "health": "error"}, out)
    for component in ("proxy", "health", "registry"):
        get_logger(component).debug("d")
        get_logger(component).info("i")
        get_logger(component).error("e")
    assert [(line["component"], line["event"]) for line in lines(out)] == [
        ("proxy", "d"),
        ("proxy", "i"),
        ("proxy", "e"),
        ("health", "e"),
        ("registry", "i"),
        ("registry", "e"),
    ]


def test_configuring_again_replaces() -> None:
    """A second configuration (reload) leaves no second handler and no old level behind."""
    first, second = io.StringIO(), io.StringIO()
    log = get_logger("proxy")
    configure_logging("info", "json", {"proxy": "debug"}, first)
    log.debug("one")
    configure_logging("info", "json", {}, second)
    log.debug("two")
    log.warning("three")
    assert [line["event"] for line in lines(first)] == ["one"]
    assert [line["event"] for line in lines(second)] == ["three"]
    assert log.enabled(logging.INFO)
    assert not log.enabled(logging.DEBUG)


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_no_secret_leaves(format: Any) -> None:  # noqa: A002
    """Secrets are masked by field name and by shape, nested and in tracebacks."""
    out = io.StringIO()
    configure_logging("debug", format, {}, out)
    log = get_logger("proxy")
    log.info(
        "headers Authorization: Bearer s3cret-a",
        api_key="s3cret-b",
        headers={"authorization": "s3cret-c", "accept": "*/*", "x-api-key": "s3cret-h"},
        admin_key="s3cret-d",
        Cookie="s3cret-e",
        text="key sk-s3cret-f0000",
        problems=["Bearer s3cret-i", {"password": "s3cret-j"}],
    )
    try:
        raise ValueError("Bearer s3cret-g is refused")
    except ValueError:
        log.exception("fault")
    assert "s3cret" not in out.getvalue()
    assert "***" in out.getvalue()
    assert "*/*" in out.getvalue()
    assert "Traceback" in out.getvalue()


def test_figures_about_tokens_are_no_secrets() -> None:
    """Fields such as ``prompt_tokens`` stay readable."""
    out = io.StringIO()
    configure_logging("info", "json", {}, out)
    get_logger("proxy").info("usage", prompt_tokens=3, tokens={"prompt": 3})
    (line,) = lines(out)
    assert line["prompt_tokens"] == 3
    assert line["tokens"] == {"prompt": 3}


def test_pretty_lines_cannot_be_broken_from_outside() -> None:
    """A backend's name or error with line feeds and escapes stays on one line."""
    out = io.StringIO()
    configure_logging("info", "pretty", {}, out)
    log = get_logger("health")
    log.warning("backend_unhealthy", error="a\nb\x1b[2Jc", backend="g\r\nu", all=["\x1b[2Jd"])
    assert out.getvalue().count("\n") == 1
    try:
        raise ValueError("\x1b[2J\x9b2J\u202e it said")
    except ValueError:
        log.exception("fault")
    assert "it said" in out.getvalue()
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(out.getvalue())


def test_odd_values_are_written_somehow() -> None:
    """A value that JSON does not know, or invalid Unicode, still makes a line."""
    out = io.StringIO()
    configure_logging("info", "json", {}, out)
    get_logger("x").info("odd", value=object(), text="a\ud800", number=10**400)
    (line,) = lines(out)
    assert "object object" in line["value"]


def test_an_unknown_level_is_refused() -> None:
    """A level that does not exist raises, naming it."""
    with pytest.raises(ValueError, match="loud"):
        configure_logging("loud", "json", {}, io.StringIO())


def test_auto_depends_on_the_terminal() -> None:
    """``auto`` is pretty on a terminal and JSON elsewhere."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert is_pretty("auto", Terminal())
    assert not is_pretty("auto", io.StringIO())
    assert is_pretty("pretty", io.StringIO())
    assert not is_pretty("json", Terminal())


def test_structlog_is_imported_with_the_first_line() -> None:
    """Importing the module, making loggers and dropping quiet lines costs no structlog."""
    code = (
        "import sys; from nexus.telemetry.logs import get_logger; log = get_logger('x');"
        "log.debug('quiet'); sys.exit('structlog' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_structlog_comes_without_rich() -> None:
    """Rich would be most of what a log costs to start; everybody else can still have it."""
    code = (
        "import sys; from nexus.telemetry.logs import configure_logging; configure_logging();"
        "loaded = any(name.partition('.')[0] == 'rich' for name in sys.modules);"
        "import rich.console; sys.exit(loaded)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_printable_leaves_good_text_alone() -> None:
    """Only what cannot be printed is escaped."""
    assert printable("llama3:8b ü→") == "llama3:8b ü→"
    assert printable("a\n\x1b\u202e") == "a\\n\\x1b\\u202e"


def test_the_name_of_a_changed_setting_is_no_secret() -> None:
    """A reload says which settings changed; a bare ``key`` elsewhere is still masked."""
    out = io.StringIO()
    configure_logging("info", "json", {}, out)
    changed = [{"key": "routing.max_retries", "before": 2, "after": 7}]
    get_logger("config").info("config_reloaded", settings=changed, other={"key": "s3cret"})
    (line,) = lines(out)
    assert line["settings"] == changed
    assert line["other"] == {"key": "***"}
