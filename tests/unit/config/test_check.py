"""What must hold between values."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.config.check import ALIAS_HOPS_MAX, check_config
from nexus.config.fields import show_path
from nexus.config.problem import ProblemList
from nexus.config.schema import BackendConfig, Config, RoutingConfig, ServerConfig, Weights


def faults(config: Config) -> dict[str, str]:
    """What is reported, by key path."""
    found = ProblemList(lambda path: (show_path(path), None))
    check_config(config, found.report)
    return {problem.key: problem.message for problem in found.problems}


def aliased(aliases: dict[str, str]) -> Config:
    """A configuration with only these aliases."""
    return Config(routing=RoutingConfig(aliases=aliases))


def backend(url: str = "http://h", name: str = "a", **more: object) -> Config:
    """A configuration with one backend."""
    return Config(backends=(msgspec.convert({"name": name, "url": url, **more}, BackendConfig),))


def test_defaults_are_faultless() -> None:
    """Nothing configured is nothing wrong."""
    assert faults(Config()) == {}


def test_a_certificate_needs_its_key_and_a_key_its_certificate() -> None:
    """Half of a TLS setting fails, the whole does not."""
    assert faults(Config(server=ServerConfig(tls_cert="c"))) == {
        "server.tls_cert": "needs tls_key as well"
    }
    assert faults(Config(server=ServerConfig(tls_key="k"))) == {
        "server.tls_key": "needs tls_cert as well"
    }
    assert faults(Config(server=ServerConfig(tls_cert="c", tls_key="k"))) == {}


def test_all_zero_weights_are_refused() -> None:
    """Somewhere the score must come from."""
    zero = Weights(priority=0, load=0, latency=0)
    assert faults(Config(routing=RoutingConfig(weights=zero))) == {
        "routing.weights": "at least one weight must be above 0"
    }
    one = Weights(priority=0, load=0, latency=1)
    assert faults(Config(routing=RoutingConfig(weights=one))) == {}


def test_an_alias_cycle_is_told_once_with_its_way() -> None:
    """A cycle of three is one problem, however many aliases lead into it."""
    config = aliased({"x": "a", "a": "b", "b": "c", "c": "a"})
    assert faults(config) == {"routing.aliases.a": "the alias leads back to itself: a → b → c → a"}


def test_an_alias_of_itself_is_a_cycle() -> None:
    """The shortest cycle is one too."""
    assert faults(aliased({"a": "a"})) == {
        "routing.aliases.a": "the alias leads back to itself: a → a"
    }


def test_three_steps_are_allowed_and_four_are_not() -> None:
    """Behaviour § 5.1: at most 3 hops."""
    three = {"a": "b", "b": "c", "c": "d"}
    assert faults(aliased(three)) == {}
    assert faults(aliased({**three, "d": "e"})) == {
        "routing.aliases.a": "the alias takes more than 3 steps: a → b → c → d → e"
    }


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from("abcdefg"), st.sampled_from("abcdefg")))
def test_aliases_pass_only_if_each_ends_in_time(aliases: dict[str, str]) -> None:
    """Aliases are faultless exactly when each one, followed, ends within 3 hops."""

    def ends(name: str) -> bool:
        for _ in range(ALIAS_HOPS_MAX):
            name = aliases.get(name, name) if name in aliases else name
        return name not in aliases

    assert (not faults(aliased(aliases))) == all(ends(alias) for alias in aliases)


def test_a_duplicate_name_is_told_at_the_second() -> None:
    """The later backend is at fault, the earlier one is named."""
    twice = tuple(BackendConfig(name="gpu", url=f"http://h:{port}") for port in (1, 2))
    assert faults(Config(backends=twice)) == {
        "backends[1].name": 'the name "gpu" is taken by backends[0]'
    }


@pytest.mark.parametrize("name", [" a", "a ", "a/b", "a\nb", "a\x7f"])
def test_a_name_must_fit_paths_and_headers(name: str) -> None:
    """The name is part of admin paths and of headers."""
    assert list(faults(backend(name=name))) == ["backends[0].name"]


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:8443/v1/", "http://[::1]:11434", "http://h/base?v=1"]
)
def test_a_good_url_passes(url: str) -> None:
    """With and without /v1, base path, query, slash."""
    assert faults(backend(url)) == {}


@pytest.mark.parametrize(
    "url",
    ["h:8000", "ftp://h", "http://", "http://h:99999", "http://h:0", "http://h/#a", "http://["],
)
def test_a_bad_url_is_told(url: str) -> None:
    """What is no http address of a server fails."""
    assert list(faults(backend(url))) == ["backends[0].url"]


@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cret@h",
        "ftp://me:s3cret@h",
        "http://h:0/?key=s3cret",
        "http://me:s3cret@h /",
        "http://me:s3cret@[",
    ],
)
def test_a_secret_in_a_bad_url_is_not_repeated(url: str) -> None:
    """Neither the user's part nor the query appears in what is told."""
    (message,) = faults(backend(url)).values()
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [("X Y", "s3cret"), ("X", "s3cret\r\nY: 1"), ("X", "s3cret\u20ac"), ("Host", "s3cret")],
)
def test_a_header_that_cannot_be_sent_is_told(name: str, value: str) -> None:
    """Bad names, values with line breaks, and headers of ours fail, without the value."""
    (message,) = faults(backend(headers={name: value})).values()
    assert "s3cret" not in message


def test_a_header_that_can_be_sent_passes() -> None:
    """An ordinary header is no fault."""
    assert faults(backend(headers={"X-Team": "a b"})) == {}


def test_one_key_is_enough() -> None:
    """A variable and a file together leave open which one counts."""
    assert list(faults(backend(api_key_env="A", api_key_file="b"))) == ["backends[0].api_key_file"]
