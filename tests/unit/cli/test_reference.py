"""``docs/cli.md`` is what the commands say."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli.reference import cli_markdown, commands, main

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date() -> None:
    """It is what ``python -m nexus.cli.reference --write`` makes of the commands."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == cli_markdown()


def test_every_command_and_option_is_told() -> None:
    """None is without a section, none of its options without a meaning."""
    page = cli_markdown()
    told = {" ".join(path): command for path, command in commands()}
    assert {"serve", "backends add", "config reload", "completions"} <= set(told)
    for name, command in told.items():
        if isinstance(command, click.Group):
            continue
        section = page.split(f"\n### nexus {name}\n", 1)[1].split("\n### ", 1)[0]
        assert command.help
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"
                assert option.opts[0] in section


def test_check_and_write(tmp_path: Path) -> None:
    """--check fails for a stale page, --write mends it; anything else is wrong usage."""
    assert main(["--check"], root=tmp_path) == 1
    assert main(["--write"], root=tmp_path) == 0
    assert main(["--check"], root=tmp_path) == 0
    (tmp_path / "docs" / "cli.md").write_text("old")
    assert main(["--check"], root=tmp_path) == 1
    assert main([]) == 2
