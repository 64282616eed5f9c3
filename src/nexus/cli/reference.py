"""The page of the command line, generated from the commands themselves.

``python -m nexus.cli.reference --check`` fails when ``docs/cli.md`` is stale, ``--write`` rewrites
it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from nexus.cli.lazy import LazyGroup
from nexus.cli.main import main as nexus

__all__ = ["cli_markdown", "commands", "main"]

_FILE = "docs/cli.md"
_SHARED = ("gateway", "ca", "insecure", "as_json")
"""Parameters that are explained once, on top."""

_HEAD = """\
# Command line

Generated from the commands: make changes in `src/nexus/cli/`.

`nexus serve` runs the gateway, `nexus demo` one with made-up engines behind it. All other commands
talk to a running gateway, except those that say that they need none. `nexus COMMAND --help` shows
what is here, too.

## Which gateway

The one that `--gateway URL` names, else the variable `NEXUS_GATEWAY`, else the host and port (or
Unix socket) that the configuration resolves to: `nexus.toml` here or in `~/.config/nexus`, and the
`NEXUS_*` variables. `URL` is `http://host:port`, `https://host:port`, `host:port` or
`unix:/path/of.sock`.

| Option | Meaning |
|---|---|
| `--gateway URL` | the gateway to ask |
| `--ca FILE` | an authority (PEM) to trust for https, besides the system's (`SSL_CERT_FILE`) |
| `--insecure` | do not check the certificate |
| `--json` | print what the admin API answers, for scripts; every command that reads has it |

A gateway that the configuration names with `tls_cert` is known by that very certificate: neither
option is needed beside the file.

Where the gateway asks for an admin key, put it into the variable `NEXUS_ADMIN_KEY`; beside the
configuration, the variable that `server.admin_key_env` names does, too.

## What it prints

On a terminal tables have colours, unless `NO_COLOR` is set; in a pipe they are plain. Errors go to
standard error and say what to do. What backends and models say is shown with its control characters
escaped.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | it could not be done: no gateway there, refused, not found, a configuration with problems |
| 2 | wrong usage; the nearest right name is suggested |
| 130 | ended by Ctrl-C |
"""


def cli_markdown() -> str:
    """The text of ``docs/cli.md``."""
    parts = [_HEAD, "\n## Commands\n\n| Command | Does |\n|---|---|\n"]
    found = list(commands())
    for path, command in found:
        if not isinstance(command, click.Group):
            anchor = "-".join(["nexus", *path])
            parts.append(f"| [`nexus {' '.join(path)}`](#{anchor}) | {_short(path)} |\n")
    for path, command in found:
        if not isinstance(command, click.Group):
            parts.append(_section(path, command))
    return "".join(parts)


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command by its path, groups before what is in them."""
    yield from _below(nexus, ())


def _below(
    group: click.Group, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _below(command, (*path, name))


def _short(path: tuple[str, ...]) -> str:
    """What the list of commands in ``--help`` says."""
    group: click.Command = nexus
    for name in path[:-1]:
        assert isinstance(group, click.Group)
        found = group.get_command(click.Context(group), name)
        assert found is not None
        group = found
    assert isinstance(group, LazyGroup)
    return group.table[path[-1]][1]


def _section(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command)
    usage = " ".join(["nexus", *path, *command.collect_usage_pieces(context)])
    text = f"\n### nexus {' '.join(path)}\n\n```\n{usage}\n```\n\n{_help(command)}\n"
    options = [one for one in command.params if isinstance(one, click.Option)]
    own = [one for one in options if one.name not in _SHARED]
    if own:
        text += "\n| Option | Meaning |\n|---|---|\n"
        text += "".join(_row(option, context) for option in own)
    shared = [f"`{one.opts[0]}`" for one in options if one.name in _SHARED]
    if shared:
        text += f"\n{'Also ' if own else 'Options: '}{', '.join(shared)}.\n"
    return text


def _help(command: click.Command) -> str:
    """The help text; what it keeps as it stands (after a line of ``\\b``) becomes a block."""
    paragraphs = (command.help or "").split("\n\n")
    shown = []
    for paragraph in paragraphs:
        if paragraph.startswith("\b\n"):
            shown.append(f"```\n{paragraph[2:]}\n```")
        else:
            shown.append(" ".join(paragraph.split()))
    return "\n\n".join(shown)


def _row(option: click.Option, context: click.Context) -> str:
    names, meaning = option.get_help_record(context) or ("", "")
    cells = (f"`{' '.join(names.split())}`", " ".join(meaning.split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def main(arguments: list[str], *, root: Path | None = None) -> int:
    """``--write`` the page under ``root`` (default: this checkout), or ``--check`` that it is what
    the commands say. Returns the exit status."""
    if arguments not in (["--check"], ["--write"]):
        sys.stderr.write("usage: python -m nexus.cli.reference --check|--write\n")
        return 2
    page = (Path(__file__).resolve().parents[3] if root is None else root) / _FILE
    text = cli_markdown()
    if arguments == ["--write"]:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    elif not page.is_file() or page.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{_FILE} is stale: python -m nexus.cli.reference --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
