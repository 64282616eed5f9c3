"""The generated files are current and true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nexus.config.fields import settings, show_path
from nexus.config.parse import parse_config
from nexus.config.reference import example_toml, main, reference_markdown
from nexus.config.schema import Config

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_files_are_current() -> None:
    """What is in the repository is what the schema says."""
    assert (ROOT / "nexus.example.toml").read_text(encoding="utf-8") == example_toml()
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference_markdown()


def test_the_example_is_all_defaults() -> None:
    """Copied as it is, the example file changes nothing."""
    assert parse_config(example_toml(), source="example") == Config()


def unset_lines() -> list[tuple[str, str]]:
    """Each table that is commented out, with each one of its keys."""
    found, title = [], ""
    for line in example_toml().splitlines():
        if line.startswith("#["):
            title = line[1:]
        elif re.match(r"#\w", line):
            found.append((title, line[1:]))
    return found


@pytest.mark.parametrize(("title", "line"), unset_lines())
def test_each_unset_line_is_valid_when_it_is_set(title: str, line: str) -> None:
    """Whoever removes the # has a working file."""
    required = 'name = "gpu"\nurl = "http://h"\n' if title == "[[backends]]" else ""
    if line.startswith(("name =", "url =")):
        required = re.sub(rf"(?m)^{line.split()[0]} =.*\n", "", required)
    config = parse_config(f"{title}\n{required}{line}\n", source="example")
    assert config != Config()


def test_each_shown_example_is_valid() -> None:
    """What stands behind "for example" can be put in front of it."""
    text = re.sub(r"(?m)^(\w+) = .*  # for example (.*)$", r"\1 = \2", example_toml())
    config = parse_config(text, source="example")
    assert config.routing.fallbacks == {"llama3:70b": ("qwen2:72b",)}
    assert config.server.tls_key == "key.pem"


def test_the_example_shows_every_key() -> None:
    """There is nothing to set that the file does not show."""
    text = example_toml()
    for path, _ in settings():
        assert re.search(rf"(?m)^#?{path[-1]} = ", text), show_path(path)


def test_the_reference_has_every_key() -> None:
    """There is nothing to set that the page does not explain."""
    text = reference_markdown()
    for path, _ in settings():
        assert f"| `{path[-1]}` |" in text, show_path(path)


def test_rows_of_the_reference_have_four_cells() -> None:
    """No value breaks a table."""
    rows = [line for line in reference_markdown().splitlines() if line.startswith("| ")]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_stale_files_are_found_and_rewritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check fails on what is missing or old and says what to run; --write mends it."""
    assert main(["--check"], root=tmp_path) == 1
    assert "nexus.example.toml is stale" in capsys.readouterr().err
    assert main(["--write"], root=tmp_path) == 0
    assert main(["--check"], root=tmp_path) == 0
    (tmp_path / "docs/configuration.md").write_text("old")
    assert main(["--check"], root=tmp_path) == 1


def test_other_arguments_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written by accident."""
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
