"""Settings from environment variables."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.config.environment import read_environment, variable_name
from nexus.config.fields import KeyPath


def only_value(name: str, text: str) -> tuple[KeyPath, Any]:
    """What one variable sets."""
    values, problems = read_environment({name: text})
    assert not problems
    (value,) = values
    assert value.variable == name
    return value.path, value.value


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("NEXUS_SERVER__PORT", "9000", ("server", "port"), 9000),
        ("NEXUS_SERVER__HOST", "0.0.0.0", ("server", "host"), "0.0.0.0"),
        ("NEXUS_SERVER__HOST", '"::"', ("server", "host"), "::"),
        ("NEXUS_SERVER__ADMIN_KEY_ENV", "true", ("server", "admin_key_env"), "true"),
        ("NEXUS_SERVER__ADMIN_KEY_ENV", "1979-05-27", ("server", "admin_key_env"), "1979-05-27"),
        ("NEXUS_SERVER__TLS_CERT", "", ("server", "tls_cert"), ""),
        ("NEXUS_DISCOVERY__ENABLED", "false", ("discovery", "enabled"), False),
        ("NEXUS_DISCOVERY__SCAN_PORTS", "[1, 2]", ("discovery", "scan_ports"), [1, 2]),
        ("NEXUS_ROUTING__STRATEGY", "random", ("routing", "strategy"), "random"),
        ("NEXUS_ROUTING__WEIGHTS__LOAD", "0.5", ("routing", "weights", "load"), 0.5),
        ("NEXUS_ROUTING__WEIGHTS", "{ load = 1 }", ("routing", "weights"), {"load": 1}),
        ("NEXUS_ROUTING__ALIASES", '{"a:1"="b"}', ("routing", "aliases"), {"a:1": "b"}),
        (
            "NEXUS_LOGGING__COMPONENT_LEVELS__PROXY",
            "debug",
            ("logging", "component_levels", "proxy"),
            "debug",
        ),
        ("NEXUS_MODELS__M__VISION", "true", ("models", "m", "vision"), True),
        ("NEXUS_SERVER__PORT", "1\nx = 2", ("server", "port"), "1\nx = 2"),
        ("NEXUS_SERVER__PORT", "many", ("server", "port"), "many"),
        ("NEXUS_HOST", "0.0.0.0", ("server", "host"), "0.0.0.0"),
        ("NEXUS_PORT", "9000", ("server", "port"), 9000),
        ("NEXUS_LOG_LEVEL", "DEBUG", ("logging", "level"), "debug"),
    ],
)
def test_a_variable_sets_its_key(name: str, text: str, path: KeyPath, value: object) -> None:
    """Values are read as TOML, and as text where text is wanted or nothing else fits."""
    assert only_value(name, text) == (path, value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NEXUS_PORT", "tcp://10.0.0.1:8000"),
        ("NEXUS_PORT", ""),
        ("NEXUS_HOST", ""),
        ("NEXUS_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("NEXUS_SERVICE_HOST", "10.0.0.1"),
        ("NEXUS_CONFIG", "/etc/nexus.toml"),
        ("NEXUS_ADMIN_KEY", "k"),
        ("NEXUS_GATEWAY", "http://h"),
        ("MY_NEXUS__X", "1"),
    ],
)
def test_variables_of_others_are_ignored(name: str, text: str) -> None:
    """What Kubernetes injects and what other programs use changes nothing."""
    assert read_environment({name: text}) == ([], [])


@pytest.mark.parametrize(
    ("name", "key", "nearest"),
    [
        ("NEXUS_SERVER__PROT", "server.prot", "NEXUS_SERVER__PORT"),
        ("NEXUS_SEVER__PORT", "sever.port", "NEXUS_SERVER__PORT"),
        ("NEXUS__SERVER__PORT", "_server.port", "NEXUS_SERVER__PORT"),
        ("NEXUS_SERVER__PORT__X", "server.port.x", "NEXUS_SERVER__PORT"),
        ("NEXUS_BACKENDS__0__URL", "backends", None),
    ],
)
def test_an_unknown_setting_is_told(name: str, key: str, nearest: str | None) -> None:
    """A variable that means nothing is a problem that names it and the likely one."""
    values, (problem,) = read_environment({name: "s3cret"})
    assert values == []
    assert (problem.source, problem.key, problem.nearest) == (f"env {name}", key, nearest)
    assert "s3cret" not in str(problem)


def test_the_more_exact_name_has_the_last_word() -> None:
    """Short forms come before long ones and tables before their keys."""
    env = {
        "NEXUS_ROUTING__WEIGHTS__LOAD": "2",
        "NEXUS_ROUTING__WEIGHTS": "{ load = 1 }",
        "NEXUS_SERVER__PORT": "2",
        "NEXUS_PORT": "1",
    }
    values, _ = read_environment(env)
    assert [value.variable for value in values] == [
        "NEXUS_PORT",
        "NEXUS_ROUTING__WEIGHTS",
        "NEXUS_SERVER__PORT",
        "NEXUS_ROUTING__WEIGHTS__LOAD",
    ]


def test_a_key_has_one_variable() -> None:
    """The name of the variable follows from the path."""
    assert variable_name(("routing", "weights", "load")) == "NEXUS_ROUTING__WEIGHTS__LOAD"
