"""Configuration text, its edits, and the fields of an admin request."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from nexus.admin.control import FieldProblemsError
from nexus.config.edit import EditError, add_backend, change_backend, remove_backend
from nexus.config.loader import load_config, masked
from nexus.config.parse import build_backend
from nexus.config.problem import ConfigError, ProblemList
from nexus.config.specs import backend_config, backend_spec
from nexus.core.backend import Source
from nexus.runtime.admin import read_backend_fields, saved_table
from nexus.runtime.settings import health_settings, plane_limits, routing_settings, server_limits
from tests.fuzz.target import Target

__all__ = ["ADMIN", "CONFIG", "EDIT"]

_FILE = Path("/nowhere/nexus.toml")
_SECRET = "s3cr3t-value"


def _run_config(data: bytes) -> None:
    """Any text is a configuration that runs or a list of problems, each in words."""
    text = data.decode("utf-8", "replace").replace("api_key_file", "api_key_fil_")
    try:
        loaded = load_config(path=_FILE, env={"KEY": _SECRET}, text=text)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem)
            assert _SECRET not in str(problem)
        return
    config = loaded.config
    health_settings(config.health_check)
    plane_limits(config)
    routing_settings(config.routing)
    server_limits(config.server, 1024)
    shown = repr(loaded) + repr(loaded.backends) + repr(masked(config))
    assert _SECRET not in shown + msgspec.json.encode(masked(config)).decode()
    for spec in loaded.backends:
        assert spec.url.lower().startswith(("http://", "https://"))


def _comments(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.lstrip().startswith("#")]


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


_TABLE = {"name": "new", "url": "http://n:1", "headers": {"X-A": 'b"\n'}, "priority": 7}
_CHANGES: dict[str, Any] = {"priority": 9, "url": "http://c:2", "zone": None, "models": ["a", "b"]}


def _run_edit(data: bytes) -> None:
    """An edit is refused, or the new text holds the change, everything else, and every comment that
    is not the removed backend's."""
    text = data.decode("utf-8", "replace")
    raw = _read(text)
    names = [one.get("name") for one in _tables(raw)]
    first = next((name for name in names if isinstance(name, str)), "nobody")
    for kind in ("add", "change", "remove"):
        try:
            if kind == "add":
                new = add_backend(text, _TABLE)
            elif kind == "change":
                new = change_backend(text, first, _CHANGES)
            else:
                new = remove_backend(text, first)
        except EditError as error:
            assert str(error)
            continue
        assert raw is not None
        read = _read(new)
        assert read is not None
        wanted = list(_tables(raw))
        if kind == "add":
            wanted.append(_TABLE)
        elif kind == "change":
            at = names.index(first)
            merged = {**wanted[at], **_CHANGES}
            wanted[at] = {key: value for key, value in merged.items() if value is not None}
        else:
            del wanted[names.index(first)]
        assert list(_tables(read)) == wanted
        rest = {key: value for key, value in read.items() if key != "backends"}
        assert rest == {key: value for key, value in raw.items() if key != "backends"}
        assert new.startswith("\ufeff") == text.startswith("\ufeff")
        if kind == "add" and '"""' not in text and "'''" not in text:
            assert _comments(new) == _comments(text)


def _tables(raw: dict[str, Any] | None) -> list[dict[str, Any]]:
    found = (raw or {}).get("backends", [])
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _run_admin(data: bytes) -> None:
    """Fields of a request are refused in words, or make a backend that a file can hold and that is
    read from there again as it was."""
    try:
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    fields = {key: value for key, value in fields.items() if key not in ("api_key_file", "tls_ca")}
    try:
        config, _ = read_backend_fields({"name": "unnamed", **fields})
    except FieldProblemsError as error:
        assert all(str(problem) for problem in error.problems)
        return
    spec = backend_spec(config, source=Source.MANUAL)
    assert backend_spec(backend_config(spec), source=Source.MANUAL) == spec
    msgspec.json.encode(msgspec.to_builtins(config))
    text = add_backend(
        '# kept\n[server]\nport = 1\n[[backends]]\nname = "x"\n', saved_table(config)
    )
    assert text.startswith('# kept\n[server]\nport = 1\n[[backends]]\nname = "x"\n')
    found = ProblemList(lambda _: ("test", None))
    assert build_backend(tomllib.loads(text)["backends"][1], found) == config
    assert not found.problems


_EXAMPLE = (Path(__file__).parents[2] / "nexus.example.toml").read_bytes()
_BLOCKS = (b"9" * 5000, b"[" * 500, b"a." * 300)
CONFIG = Target(
    name="config",
    run=_run_config,
    seeds=tuple(part for part in _EXAMPLE.split(b"\n\n") if len(part) < 1500),
    blocks=_BLOCKS,
)
EDIT = Target(name="edit", run=_run_edit, blocks=_BLOCKS)
ADMIN = Target(name="admin", run=_run_admin, blocks=(b"x" * 300,))
