"""The example file and the reference page, generated from the schema.

``python -m nexus.config.reference --check`` fails when the committed ones are stale, ``--write``
rewrites them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nexus.config.environment import variable_name
from nexus.config.fields import Field, KeyPath, describe, fields_of, show_path
from nexus.config.schema import Config

__all__ = ["example_toml", "main", "reference_markdown"]

_WIDTH = 96
_EXAMPLE_FILE = "nexus.example.toml"
_REFERENCE_FILE = "docs/configuration.md"

_EXAMPLE_HEAD = """\
# Every setting of Nexus with its default. A file needs only what it changes; without any file
# `nexus serve` works too. What begins with #name = is unset: remove the # to set it.
# Generated from the schema: make changes in src/nexus/config/schema.py.
"""

_REFERENCE_HEAD = """\
# Configuration

Generated from the schema (`src/nexus/config/schema.py`). Every key has a default; what a gateway
needs is its `[[backends]]`.

**The file** is TOML: the one that `--config` names, else the one that `NEXUS_CONFIG` names, else
`nexus.toml` in the working directory, else `$XDG_CONFIG_HOME/nexus/nexus.toml` (by default
`~/.config/nexus/nexus.toml`). A complete one with all defaults is
[`nexus.example.toml`](../nexus.example.toml). Relative file names in it are relative to its
directory.

**Precedence**: flag, then environment, then file, then default.

**Environment**: `NEXUS_SECTION__KEY` sets a key, deeper ones likewise
(`NEXUS_ROUTING__WEIGHTS__LOAD=40`). Values are read as TOML where they are TOML
(`NEXUS_DISCOVERY__SCAN_PORTS='[11434, 8080]'`), else as text. Short forms: `NEXUS_HOST`,
`NEXUS_PORT`, `NEXUS_LOG_LEVEL`. A `NEXUS_PORT` that begins with `tcp://`, as Kubernetes sets it,
and other `NEXUS_*` names without `__` are ignored. Backends are set in the file only.

**Keys** never stand in the file: it names the environment variable (`api_key_env`,
`admin_key_env`) or the file (`api_key_file`) that holds one. A named variable or file that is
missing or empty fails the start.

**Mistakes**: an unknown key, a wrong type, a duplicate name, a bad URL and the like are told all
at once, each with file, line, key and the nearest valid name, and nothing is started.
`nexus config check` looks without starting.

**Changes while it runs**: the file is read again when it changes (also by a rename or a swapped
link), on SIGHUP, and by `nexus config reload`. All of it counts or nothing: with a mistake in it,
the configuration that ran before stays in force, and the log tells why. Calls under way are not
touched; backends that are as they were keep health, connections and figures, and so does one that
only got another name or priority. What the admin API or discovery added stays, unless the file now
names the same server: then it is the file's. `host`, `port`, `unix`, `tls_cert`, `tls_key`,
`[discovery]` and `logging.format` wait for a restart, which the log says. A file that is gone
changes nothing. The [admin API](admin-api.md#changes-that-last) can save its own changes to the
file.
"""

_TITLES: dict[KeyPath, str] = {
    ("backends",): "[[backends]]",
    ("models",): '[models."name"]',
}


def example_toml() -> str:
    """The text of ``nexus.example.toml``; parsed, it is all defaults."""
    parts = [_EXAMPLE_HEAD]
    for path, struct, _ in _tables():
        commented = path in _TITLES
        mark = "#" if commented else ""
        parts.append(f"\n{_comment(_summary(struct))}{mark}{_title(path)}\n")
        for field in fields_of(struct).values():
            if field.shape.struct is None:
                parts.append(_setting(field, commented=commented))
    return "".join(parts)


def reference_markdown() -> str:
    """The text of ``docs/configuration.md``."""
    parts = [_REFERENCE_HEAD]
    for path, struct, by_variable in _tables():
        parts.append(f"\n## `{_title(path)}`\n\n{_summary(struct)}\n\n")
        parts.append("| Key | Value | Default | Meaning |\n|---|---|---|---|\n")
        for field in fields_of(struct).values():
            if field.shape.struct is None:
                parts.append(_row(field))
        if by_variable:
            first = next(iter(fields_of(struct)))
            parts.append(f"\nAs variables: `{variable_name((*path, first))}` and so on.\n")
    return "".join(parts)


def _tables(
    struct: type[msgspec.Struct] = Config, path: KeyPath = ()
) -> Iterator[tuple[KeyPath, type[msgspec.Struct], bool]]:
    """Every table with a closed set of keys, outer before inner: its path, its schema, and whether
    variables can set its keys by a fixed name."""
    for name, field in fields_of(struct).items():
        inner = field.shape.struct
        if inner is not None:
            yield (*path, name), inner, True
            yield from _tables(inner, (*path, name))
        elif isinstance(field.shape.item, type) and issubclass(field.shape.item, msgspec.Struct):
            yield (*path, name), field.shape.item, False


def _title(path: KeyPath) -> str:
    return _TITLES.get(path, f"[{show_path(path)}]")


def _summary(struct: type[msgspec.Struct]) -> str:
    return " ".join((struct.__doc__ or "").replace("``", "`").split())


def _setting(field: Field, *, commented: bool) -> str:
    """``key = default`` under its description; unset keys, and all of a table that is only an
    example, are commented out with the example's value."""
    shown = field.default
    unset = shown is None
    if (commented or unset) and field.example is not None:
        shown = field.example
    mark = "#" if commented or unset else ""
    line = f"{mark}{field.name} = {_toml(shown)}"
    if not mark and field.example is not None:
        line += f"  # for example {_toml(field.example)}"
    choices = f" {describe(field.type).capitalize()}." if field.shape.choices else ""
    return f"{_comment(field.description + choices)}{line}\n"


def _row(field: Field) -> str:
    default = "required" if field.required else "unset"
    if field.default is not None:
        default = f"`{_toml(field.default)}`"
    cells = [f"`{field.name}`", describe(field.type), default, field.description]
    if field.example is not None:
        cells[-1] += f" Example: `{_toml(field.example)}`"
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _comment(text: str) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "".join(f"# {line}\n" for line in lines)


def _toml(value: Any) -> str:
    """A value as TOML writes it. JSON's spelling of text is TOML's, too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        pairs = [f"{_toml_key(key)} = {_toml(inner)}" for key, inner in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def main(arguments: list[str], *, root: Path | None = None) -> int:
    """``--write`` the files under ``root`` (default: this checkout), or ``--check`` that they are
    what the schema says. Returns the exit status."""
    if arguments not in (["--check"], ["--write"]):
        sys.stderr.write("usage: python -m nexus.config.reference --check|--write\n")
        return 2
    base = Path(__file__).resolve().parents[3] if root is None else root
    status = 0
    files = {_EXAMPLE_FILE: example_toml(), _REFERENCE_FILE: reference_markdown()}
    for name, text in files.items():
        path = base / name
        if arguments == ["--write"]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{name} is stale: python -m nexus.config.reference --write\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
