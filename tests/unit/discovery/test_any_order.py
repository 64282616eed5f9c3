"""Whatever is seen, gone, asked, added and removed in whatever order: what must always hold."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.core.backend import BackendSpec, BackendStatus, EngineKind, Source
from nexus.discovery.nearness import identity
from nexus.discovery.sighting import Sighting
from nexus.engines.fingerprint import Fingerprint
from tests.unit.discovery.world import OLLAMA, World, advert, known, scanned

GRACE_S = 20
ADDRESSES = ("192.168.1.20", "192.168.1.21", "192.168.1.7", "172.17.0.1", "8.8.8.8", "127.0.0.1")
PORTS = (8000, 11434)
NEXUS = Fingerprint(engine=None, label="Nexus", reason="another Nexus", nexus=True)
KEYED = Fingerprint(engine=EngineKind.VLLM, label="vLLM", reason="a key", needs_key=True)

sightings = st.one_of(
    st.builds(scanned, st.sampled_from(PORTS), st.sampled_from(["127.0.0.1", "::1"])),
    st.builds(
        lambda key, addresses, port: advert(key, *addresses, port=port),
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3),
        st.sampled_from(PORTS),
    ),
)
answers = st.dictionaries(
    st.sampled_from(ADDRESSES), st.sampled_from([OLLAMA, NEXUS, KEYED]), max_size=6
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("seen"), sightings),
        st.tuples(st.just("gone"), sightings),
        st.tuples(st.just("answers"), st.one_of(answers, st.none())),
        st.tuples(st.just("time"), st.integers(1, 30)),
        st.tuples(st.just("status"), st.sampled_from(list(BackendStatus))),
        st.tuples(st.just("announced"), st.booleans()),
        st.tuples(st.just("name"), st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(PORTS))),
        st.tuples(st.just("adopt"), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 3)),
        st.tuples(st.just("late"), st.just(None)),
    ),
    max_size=25,
)


def take(world: World, named: dict[str, BackendSpec], what: str, value: Any) -> None:
    """One step. What the operator does changes ``named`` too."""
    backends = world.fleet
    if what == "seen":
        world.seen(value)
    elif what == "gone":
        world.gone(value)
    elif what == "answers":
        world.answers = value
    elif what == "time":
        world.pass_time(value)
    elif what == "announced":
        world.announced = value
    elif what == "status":
        for name in world.found:
            world.becomes(name, value)
    elif what == "late" and world.questions:
        was, world.answers = world.answers, dict.fromkeys(ADDRESSES, OLLAMA)
        world.answer(world.questions[-1])
        world.answers = was
    elif what == "name" and len(named) < 4:
        spec = known(f"named{len(backends)}", f"http://{value[0]}:{value[1]}")
        if spec.name not in backends:
            named[spec.name] = spec
            world.add(spec, pending=False)
    elif what == "adopt" and value < len(world.found):
        name = list(world.found)[value]
        spec = known(name, backends[name].spec.url)
        del backends[name]
        named[name] = spec
        world.add(spec, pending=False)
    elif what == "remove" and value < len(backends):
        name = list(backends)[value]
        del backends[name]
        named.pop(name, None)
        world.directory.dismiss(name)


def places(world: World, *, named: bool) -> list[tuple[frozenset[str], int]]:
    """Who is where, of the found or of the named backends."""
    return [
        (identity(world.addresses_of(one.address.host), world.is_own), one.address.port)
        for one in world.fleet.values()
        if one.spec.source.named_by_operator is named
    ]


@given(steps)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_always_holds(order: list[tuple[str, Any]]) -> None:
    """Nothing named is touched; no server is two backends; in the end nothing is left behind."""
    world = World(grace_s=GRACE_S, interval_s=10, servers_max=5)
    named: dict[str, BackendSpec] = {}
    for what, value in order:
        take(world, named, what, value)
        mine = {name: one.spec for name, one in world.fleet.items() if name not in world.found}
        assert mine == named
        assert world.directory.servers <= 5
    world.pass_time(1)
    found = places(world, named=False)
    assert len(set(found)) == len(found)
    assert not set(found) & set(places(world, named=True))
    for key in ("a", "b", "c"):
        world.gone(advert(key))
    for port in PORTS:
        world.gone(scanned(port))
    world.pass_time(GRACE_S + 2)
    assert world.found == {}
    assert world.directory.servers == 0


def test_the_steps_reach_what_they_are_meant_to_reach() -> None:
    """The order above is no order of nothing: each kind of step has its effect."""
    world, named = World(grace_s=GRACE_S), dict[str, BackendSpec]()
    seen: Sighting = advert("a")
    for what, value, count in (
        ("seen", seen, 1),
        ("adopt", 0, 1),
        ("seen", scanned(), 2),
        ("remove", 0, 1),
        ("name", ("8.8.8.8", 8000), 2),
        ("gone", scanned(), 2),
        ("time", 30, 1),
    ):
        take(world, named, what, value)
        assert len(world.fleet) == count, what
    assert {one.spec.source for one in world.fleet.values()} == {Source.STATIC}
