"""Keys are found, or their absence fails, and they are never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexus.config.problem import ProblemList
from nexus.config.schema import BackendConfig, Config, ServerConfig
from nexus.config.secrets import read_admin_key, read_backend_keys


def new_problems() -> ProblemList:
    """An empty list."""
    return ProblemList(lambda path: ("f", None))


def read_keys(env: dict[str, str], **backend: str) -> tuple[str, str]:
    """The key of one backend and what was told, one of them empty."""
    found = new_problems()
    config = Config(backends=(BackendConfig(name="a", url="http://h", **backend),))  # type: ignore[arg-type]
    (key,) = read_backend_keys(config, env, found.report)
    return key, "\n".join(map(str, found.problems))


def test_a_key_is_read_from_its_variable() -> None:
    """Surrounding white space, as `$(cat file)` leaves it, is no part of a key."""
    assert read_keys({"GPU_KEY": " sk-1 \n"}, api_key_env="GPU_KEY") == ("sk-1", "")


def test_a_backend_without_a_key_has_none() -> None:
    """No name, no key, no problem."""
    assert read_keys({}) == ("", "")


@pytest.mark.parametrize(
    ("env", "state"),
    [({}, "is not set"), ({"GPU_KEY": ""}, "is empty"), ({"GPU_KEY": " \n"}, "is empty")],
)
def test_a_named_variable_must_hold_something(env: dict[str, str], state: str) -> None:
    """Unset and empty both fail, and say which."""
    _, told = read_keys(env, api_key_env="GPU_KEY")
    assert told == f"f: backends[0].api_key_env: the environment variable GPU_KEY {state}"


@pytest.mark.parametrize("mistake", ["sk-s3cret", "gsk_s3cret", "S3CRET" * 20])
def test_a_key_in_place_of_a_name_is_not_repeated(mistake: str) -> None:
    """Who writes the key itself does not find it in the log."""
    _, told = read_keys({}, api_key_env=mistake)
    assert "variable of this name is not set" in told
    assert mistake not in told


def test_a_key_that_no_header_can_carry_fails() -> None:
    """A line break inside a key would split the header; the key is not repeated."""
    _, told = read_keys({"K": "s3cret\nX: 1"}, api_key_env="K")
    assert told.endswith("the environment variable K holds characters that a header cannot carry")


def test_a_key_is_read_from_its_file(tmp_path: Path) -> None:
    """The last line break of a file is no part of the key."""
    (tmp_path / "key").write_text("sk-1\n")
    assert read_keys({}, api_key_file=str(tmp_path / "key")) == ("sk-1", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"a\nb", "holds characters that a header cannot carry"),
    ],
)
def test_a_key_file_must_hold_a_key(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file that is missing, empty or no key fails with the reason."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    _, told = read_keys({}, api_key_file=str(tmp_path / "key"))
    assert told == f"f: backends[0].api_key_file: the file {message}"


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    """What cannot be opened is told, not raised."""
    _, told = read_keys({}, api_key_file=str(tmp_path))
    assert "cannot be read" in told


def test_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    """Nobody waits for its writer: the gateway's loop would stand still."""
    os.mkfifo(tmp_path / "key")
    _, told = read_keys({}, api_key_file=str(tmp_path / "key"))
    assert "ordinary file" in told


def test_the_admin_key_is_read_from_its_variable() -> None:
    """Named and set: the key. Not named: none."""
    found = new_problems()
    config = Config(server=ServerConfig(admin_key_env="K"))
    assert read_admin_key(config, {"K": "k"}, found.report) == "k"
    assert read_admin_key(Config(), {"K": "k"}, found.report) == ""
    assert found.problems == []


def test_a_named_admin_key_must_be_set() -> None:
    """A gateway that was to be protected does not start open."""
    found = new_problems()
    read_admin_key(Config(server=ServerConfig(admin_key_env="K")), {}, found.report)
    assert [problem.key for problem in found.problems] == ["server.admin_key_env"]
