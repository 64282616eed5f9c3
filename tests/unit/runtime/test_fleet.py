"""How the fleet changes with the configuration: planned before anything is touched."""

from __future__ import annotations

import pytest

from nexus.config.problem import ConfigError
from nexus.core.backend import (
    Backend,
    BackendSpec,
    EngineKind,
    EngineTraits,
    Source,
    parse_backend_url,
)
from nexus.runtime.fleet import FleetPlan, check_fleet, plan_fleet


def spec(name: str, host: str, source: Source = Source.STATIC, **settings: object) -> BackendSpec:
    return BackendSpec(name=name, url=f"http://{host}", source=source, **settings)  # type: ignore[arg-type]


def plan(
    present: list[BackendSpec], before: list[BackendSpec], after: list[BackendSpec]
) -> FleetPlan:
    backends = {
        one.name: Backend(
            spec=one,
            address=parse_backend_url(one.url),
            engine=EngineKind.GENERIC,
            traits=EngineTraits(),
        )
        for one in present
    }
    return plan_fleet(backends, before, after, "nexus.toml")


def moves(found: FleetPlan) -> list[tuple[str | None, str]]:
    return [(was, one.name) for was, one in found.moves]


A, B, C = spec("a", "one"), spec("b", "two"), spec("c", "three")


def test_nothing_to_do() -> None:
    """The same file: nobody is touched."""
    assert plan([A, B], [A, B], [A, B]) == FleetPlan()


def test_what_was_changed_at_run_time_stays() -> None:
    """Who runs otherwise than the file says is left so while its table stays as it was."""
    patched = spec("a", "elsewhere", priority=1)
    assert plan([patched], [A], [A]) == FleetPlan()
    found = plan([patched], [A], [spec("a", "one", priority=9)])
    assert moves(found) == [("a", "a")]


def test_coming_and_going() -> None:
    """New ones are new, those whose table is gone go."""
    found = plan([A, B], [A, B], [A, C])
    assert found.removed == {"b"}
    assert moves(found) == [(None, "c")]


def test_a_backend_follows_its_server() -> None:
    """Renamed, exchanged, or moved along: by address first, by name when that is gone."""
    assert moves(plan([A], [A], [spec("z", "one")])) == [("a", "z")]
    exchanged = plan([A, B], [A, B], [spec("a", "two"), spec("b", "one")])
    assert sorted(moves(exchanged), key=str) == [("a", "b"), ("b", "a")]
    assert moves(plan([A], [A], [spec("a", "new")])) == [("a", "a")]
    chain = plan([A, B], [A, B], [spec("a", "two"), spec("b", "three")])
    assert sorted(moves(chain), key=str) == [("b", "a"), (None, "b")]
    assert chain.removed == {"a"}


def test_another_key_is_the_same_backend() -> None:
    """A table whose credentials change is the same one; two accounts at one cloud are two."""
    assert moves(plan([A], [A], [spec("a", "one", api_key="k")])) == [("a", "a")]
    two = [spec("x", "cloud", api_key="1"), spec("y", "cloud", api_key="2")]
    assert plan(two, two, two) == FleetPlan()
    check_fleet(two, "nexus.toml")


@pytest.mark.parametrize("source", [Source.MANUAL, Source.SCAN, Source.MDNS])
def test_what_others_added(source: Source) -> None:
    """It stays; what the file names of it, by any name, is the file's."""
    added = spec("x", "one", source)
    assert plan([added], [], []) == FleetPlan()
    assert moves(plan([added], [], [A])) == [("x", "a")]
    assert moves(plan([added], [], [spec("x", "one")])) == [("x", "x")]


def test_a_name_that_another_has() -> None:
    """A found backend gives its name up; one that a person added does not."""
    found = plan([spec("a", "other", Source.SCAN)], [], [A])
    assert found.removed == {"a"}
    assert moves(found) == [(None, "a")]
    with pytest.raises(ConfigError, match=r"backends\[1\].name: the name \"a\" is taken"):
        plan([spec("a", "other", Source.MANUAL)], [], [B, A])


def test_one_server_twice() -> None:
    """Two tables for one server are a mistake that names both, without secrets."""
    twice = [A, B, spec("c", "two?key=sk-1"), spec("d", "two")]
    with pytest.raises(ConfigError) as caught:
        check_fleet(twice, "nexus.toml")
    assert 'backends[3].url: is the same server as backends[1] ("b")' in str(caught.value)
    assert "sk-1" not in str(caught.value)
