"""Sources in order, secrets resolved, everything wrong told at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexus.config.loader import ConfigError, Loaded, find_config, load_config
from nexus.config.mask import masked
from nexus.config.schema import Config
from nexus.core.backend import EngineKind, Source


def write(path: Path, text: str) -> Path:
    """A file of this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def failure(**arguments: object) -> ConfigError:
    """What loading fails with."""
    with pytest.raises(ConfigError) as caught:
        load_config(**arguments)  # type: ignore[arg-type]
    return caught.value


def test_without_any_source_all_is_default(tmp_path: Path) -> None:
    """Zero configuration: no file, no path, every origin "default"."""
    loaded = load_config(path=None, env={}, cwd=tmp_path)
    assert loaded.config == Config()
    assert loaded.path is None
    assert loaded.backends == ()
    assert loaded.admin_key == ""
    assert set(loaded.origins.values()) == {"default"}
    assert {"server.port", "routing.weights.load", "routing.aliases", "backends"} <= set(
        loaded.origins
    )


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Behaviour § 8's order of precedence, each with its origin."""
    text = "[server]\nport = 1\nhost = 'file'\nkeep_alive_seconds = 1\n"
    file = write(tmp_path / "nexus.toml", text)
    loaded = load_config(
        path=None,
        env={"NEXUS_SERVER__PORT": "2", "NEXUS_SERVER__HOST": "env"},
        overrides={"server.port": 3, "logging.level": None},
        cwd=tmp_path,
    )
    server = loaded.config.server
    assert (server.port, server.host, server.keep_alive_seconds) == (3, "env", 1.0)
    assert loaded.origins["server.port"] == "flag"
    assert loaded.origins["server.host"] == "env NEXUS_SERVER__HOST"
    assert loaded.origins["server.keep_alive_seconds"] == f"file {file}"
    assert loaded.origins["server.drain_timeout_seconds"] == "default"
    assert loaded.origins["logging.level"] == "default"


def test_a_long_name_beats_its_short_form(tmp_path: Path) -> None:
    """NEXUS_PORT may be anybody's, NEXUS_SERVER__PORT is ours."""
    env = {"NEXUS_PORT": "1", "NEXUS_SERVER__PORT": "2"}
    assert load_config(path=None, env=env, cwd=tmp_path).config.server.port == 2


def test_what_kubernetes_injects_changes_nothing(tmp_path: Path) -> None:
    """A service that is named nexus does not break its own pods."""
    env = {"NEXUS_PORT": "tcp://10.0.0.1:80", "NEXUS_PORT_80_TCP": "x", "NEXUS_SERVICE_HOST": "x"}
    assert load_config(path=None, env=env, cwd=tmp_path).config == Config()


def test_the_file_is_looked_for_in_order(tmp_path: Path) -> None:
    """Flag, NEXUS_CONFIG, working directory, XDG directory, home directory."""
    home = write(tmp_path / "home/.config/nexus/nexus.toml", "")
    env = {"HOME": str(tmp_path / "home")}
    assert find_config(path=None, env=env, cwd=tmp_path) == home
    env["XDG_CONFIG_HOME"] = "relative"
    assert find_config(path=None, env=env, cwd=tmp_path) == home
    xdg = write(tmp_path / "xdg/nexus/nexus.toml", "")
    env["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert find_config(path=None, env=env, cwd=tmp_path) == xdg
    here = write(tmp_path / "nexus.toml", "")
    assert find_config(path=None, env=env, cwd=tmp_path) == here
    env["NEXUS_CONFIG"] = "named.toml"
    assert find_config(path=None, env=env, cwd=tmp_path) == tmp_path / "named.toml"
    explicit = Path("flag.toml")
    assert find_config(path=explicit, env=env, cwd=tmp_path) == tmp_path / "flag.toml"


def test_a_place_that_cannot_be_looked_at_holds_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service user whose HOME is closed to it starts with the defaults."""

    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert find_config(path=None, env={"HOME": "/root"}, cwd=tmp_path) is None


@pytest.mark.parametrize(
    ("path", "env"), [(Path("gone.toml"), {}), (None, {"NEXUS_CONFIG": "gone.toml"})]
)
def test_a_named_file_must_exist(tmp_path: Path, path: Path | None, env: dict[str, str]) -> None:
    """An explicit file that is missing is an error, not a search."""
    error = failure(path=path, env=env, cwd=tmp_path)
    assert str(error) == f"{tmp_path / 'gone.toml'}: cannot be read: No such file or directory"


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    (tmp_path / "nexus.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    assert load_config(path=None, env={}, cwd=tmp_path).config.server.port == 1


def test_what_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    (tmp_path / "nexus.toml").write_bytes(b"# a\n# \xff\n")
    (problem,) = failure(path=None, env={}, cwd=tmp_path).problems
    assert (problem.line, problem.message) == (2, "not valid UTF-8")


def test_problems_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    """File, environment, flags and secrets each have their say, with their source."""
    file = write(
        tmp_path / "nexus.toml",
        "[server]\nadmin_key_env = 'ADMIN'\nprot = 1\n"
        "[[backends]]\nname = 'a'\nurl = 'x'\napi_key_env = 'GPU'\n"
        "[[backends]]\nname = 'a'\nurl = 'http://h'\napi_key_file = 'gone'\n",
    )
    error = failure(
        path=None,
        env={"NEXUS_ROUTING__STRATEGY": "clever", "NEXUS_ROUTING__STRATEGIE": "smart"},
        overrides={"server.port": 70000, "sever.host": "h"},
        cwd=tmp_path,
    )
    assert {(problem.source, problem.line, problem.key) for problem in error.problems} == {
        (str(file), 2, "server.admin_key_env"),
        (str(file), 3, "server.prot"),
        (str(file), 6, "backends[0].url"),
        (str(file), 7, "backends[0].api_key_env"),
        (str(file), 9, "backends[1].name"),
        (str(file), 11, "backends[1].api_key_file"),
        ("env NEXUS_ROUTING__STRATEGY", None, "routing.strategy"),
        ("env NEXUS_ROUTING__STRATEGIE", None, "routing.strategie"),
        ("flag", None, "server.port"),
        ("flag", None, "sever"),
    }


def test_a_broken_file_does_not_hide_the_environment(tmp_path: Path) -> None:
    """A syntax mistake and a variable that means nothing are told together."""
    write(tmp_path / "nexus.toml", "[")
    error = failure(path=None, env={"NEXUS_SERVER__PROT": "1"}, cwd=tmp_path)
    assert [problem.source for problem in error.problems] == [
        str(tmp_path / "nexus.toml"),
        "env NEXUS_SERVER__PROT",
    ]


def secret_config(tmp_path: Path) -> Loaded:
    """A configuration with every kind of secret."""
    write(tmp_path / "key", "s3cret-file\n")
    write(
        tmp_path / "nexus.toml",
        """
        [server]
        admin_key_env = "ADMIN"
        [[backends]]
        name = "a"
        url = "http://a/v1"
        type = "vllm"
        api_key_env = "GPU"
        headers = { X-Key = "s3cret-header" }
        [[backends]]
        name = "b"
        url = "http://b?key=s3cret-query"
        api_key_file = "key"
        """,
    )
    env = {"ADMIN": "s3cret-admin", "GPU": "s3cret-env"}
    return load_config(path=tmp_path / "nexus.toml", env=env, cwd=tmp_path / "elsewhere")


def test_backends_come_with_their_keys(tmp_path: Path) -> None:
    """Variables and files are read; a file's relative name is relative to the configuration."""
    loaded = secret_config(tmp_path)
    assert loaded.admin_key == "s3cret-admin"
    first, second = loaded.backends
    assert (first.engine, first.source, first.api_key) == (
        EngineKind.VLLM,
        Source.STATIC,
        "s3cret-env",
    )
    assert (second.engine, second.api_key) == (None, "s3cret-file")
    assert not first.forwards_credentials


def test_what_may_be_shown_holds_no_secret(tmp_path: Path) -> None:
    """Neither the masked view, nor the origins, nor the repr lets one out."""
    loaded = secret_config(tmp_path)
    for shown in (masked(loaded.config), loaded.origins, loaded):
        assert "s3cret" not in repr(shown)


def test_errors_hold_no_secret(tmp_path: Path) -> None:
    """Wrong values in places where keys stand are not repeated."""
    write(
        tmp_path / "nexus.toml",
        """
        [server]
        admin_key_env = "s3cret-1"
        tls_cert = ["s3cret-2"]
        [[backends]]
        name = "a"
        url = "ftp://me:s3cret-3@h"
        api_key = "s3cret-4"
        api_key_env = "s3cret-5"
        headers = { X-Key = "s3cret-6\\n" , X-Other = ["s3cret-7"] }
        query = "s3cret-8"
        """,
    )
    error = failure(path=None, env={"NEXUS_SERVER__KEY": "s3cret-9"}, cwd=tmp_path)
    assert len(error.problems) == 9
    assert "s3cret" not in str(error)
    assert "s3cret" not in repr(error)


def test_file_names_are_relative_to_who_gave_them(tmp_path: Path) -> None:
    """A name in the file is beside the file; a flag's or a variable's is where one stands."""
    write(tmp_path / "etc/nexus.toml", "[server]\ntls_cert = 'c.pem'\ntls_key = '/k.pem'\n")
    server = load_config(
        path=Path("etc/nexus.toml"), env={"NEXUS_SERVER__UNIX": "n.sock"}, cwd=tmp_path
    ).config.server
    assert server.tls_cert == str(tmp_path / "etc/c.pem")
    assert server.tls_key == "/k.pem"
    assert server.unix == "n.sock"


def test_loading_is_cheap_to_import() -> None:
    """The command line imports it on every start: no event loop, TLS or toolkits come along."""
    heavy = {"asyncio", "ssl", "logging", "structlog", "starlette", "rich", "click", "difflib"}
    code = f"import sys, nexus.config.loader; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
