"""The registry's only writer: what each change does to the snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.config.schema import ModelOverride
from nexus.core.backend import BackendSpec, BackendStatus, EngineKind, Source
from nexus.core.live import BreakerState
from nexus.core.snapshot import Snapshot
from nexus.engines.adapter import Health
from nexus.health import breaker
from nexus.registry.store import Store
from tests.unit.registry.fixtures import TRAITS, bad, good, model, report, spec, store

HEALTHY, UNHEALTHY, UNKNOWN, PENDING, DRAINING = (
    BackendStatus.HEALTHY,
    BackendStatus.UNHEALTHY,
    BackendStatus.UNKNOWN,
    BackendStatus.PENDING,
    BackendStatus.DRAINING,
)


def served_by(snapshot: Snapshot, name: str) -> list[str]:
    return [candidate.backend.name for candidate in snapshot.candidates.get(name, ())]


def test_a_new_backend_is_known_and_not_routable() -> None:
    """Until its first check nobody is sent there."""
    registry = store()
    backend = registry.add(spec(engine=EngineKind.VLLM))
    assert (backend.status, backend.engine) == (UNKNOWN, EngineKind.VLLM)
    assert backend.traits is TRAITS[EngineKind.VLLM]
    assert registry.snapshot.backends == {"b": backend}
    assert not registry.snapshot.routable


def test_names_are_unique() -> None:
    """A second backend of the same name is refused, the first stays."""
    registry = store()
    first = registry.add(spec())
    with pytest.raises(ValueError, match="'b' exists already"):
        registry.add(spec(url="http://elsewhere:1"))
    assert registry.snapshot.backends["b"] is first


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("http://localhost:8000/v1", "http://127.0.0.1:8000", True),
        ("http://[::1]:8000", "http://LOCALHOST:8000/", True),
        ("http://h", "http://h:80", True),
        ("http://h:8000", "http://h:8001", False),
        ("http://h/a", "http://h/b", False),
        ("http://127.0.0.1:8000", "http://127.0.0.2:8000", False),
    ],
)
def test_one_server_is_one_backend(first: str, second: str, same: bool) -> None:
    """However its address is spelled."""
    registry = store()
    registry.add(spec("one", url=first))
    if same:
        with pytest.raises(ValueError, match="same server as backend 'one'"):
            registry.add(spec("two", url=second))
    else:
        registry.add(spec("two", url=second))
    assert len(registry.snapshot.backends) == (1 if same else 2)


def test_two_accounts_at_one_cloud_are_two_backends() -> None:
    """The operator may name one server twice with different keys; discovery may not."""
    registry = store()
    registry.add(spec("one", url="https://cloud", api_key="k1"))
    registry.add(spec("two", url="https://cloud", api_key="k2"))
    found = spec("three", url="https://cloud", source=Source.SCAN)
    twin = registry.same_server(found)
    assert twin is not None
    assert twin.name == "one"
    with pytest.raises(ValueError, match="same server"):
        registry.add(found)


def test_a_good_check_makes_its_models_routable() -> None:
    """Status, version, capacity, models, load and probe time come from the report."""
    registry = store()
    registry.add(spec())
    registry.apply(
        good("b", "m2", "m1", engine=EngineKind.OLLAMA, engine_version="0.9", capacity=4, running=2)
    )
    snapshot = registry.snapshot
    backend = snapshot.backends["b"]
    assert (backend.status, backend.engine, backend.engine_version, backend.capacity) == (
        HEALTHY,
        EngineKind.OLLAMA,
        "0.9",
        4,
    )
    assert backend.traits is TRAITS[EngineKind.OLLAMA]
    assert (backend.last_check_ms, backend.last_check_error) == (12.5, None)
    assert snapshot.listed == ("m1", "m2")
    assert served_by(snapshot, "m1") == ["b"]
    live = registry.live("b")
    assert snapshot.live["b"] is live
    assert snapshot.candidates["m1"][0].live is live
    assert (live.running, live.probe_s) == (2, 0.002)


def test_a_failed_check_keeps_the_models_known() -> None:
    """Calls for them are told 503, not 404; the list shows them no more."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", "m", running=3))
    registry.apply(bad())
    assert registry.snapshot.listed == ()
    assert served_by(registry.snapshot, "m") == ["b"]
    backend = registry.snapshot.backends["b"]
    assert (backend.reason, backend.last_check_error) == ("timeout", "timeout")
    assert registry.live("b").running is None


def test_an_empty_list_is_a_list() -> None:
    """An engine that answers and lists nothing has no models."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", "m"))
    registry.apply(good("b"))
    assert registry.snapshot.backends["b"].routable
    assert registry.snapshot.candidates == {}


def test_a_refresh_never_shows_a_moment_without_the_model() -> None:
    """Neither in any snapshot that was ever published."""
    registry = store()
    seen: list[Snapshot] = []
    registry.add(spec())
    registry.apply(good("b", "m"))
    registry.subscribe(lambda old, new: seen.extend((old, new)))
    for other in ("x", "y", "z"):
        registry.apply(good("b", "m", other))
    assert len(seen) == 6
    assert all(served_by(snapshot, "m") == ["b"] for snapshot in seen)


def test_reports_of_the_unknown_are_ignored() -> None:
    """It was removed while its check was under way."""
    registry = store()
    before = registry.snapshot
    registry.apply(good("gone", "m"))
    assert registry.snapshot is before


def test_a_snapshot_taken_never_changes() -> None:
    """Readers keep what they took, whatever happens after."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", "m"))
    taken = registry.snapshot
    registry.remove("b")
    assert served_by(taken, "m") == ["b"]
    assert taken.listed == ("m",)
    assert registry.snapshot.candidates == {}
    assert registry.snapshot.version == taken.version + 1


def test_candidates_come_by_priority_then_name() -> None:
    """Whatever the order they were added in."""
    registry = store()
    for name, priority in (("c", 50), ("a", 50), ("d", 10), ("b", 90)):
        registry.add(spec(name, priority=priority))
        registry.apply(good(name, "m"))
    assert served_by(registry.snapshot, "m") == ["d", "a", "c", "b"]
    assert list(registry.snapshot.backends) == ["d", "a", "c", "b"]


def test_a_drain_outlasts_health_reports() -> None:
    """Draining until resumed; then it is what the checks said meanwhile."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", "m"))
    assert registry.drain("b").status is DRAINING
    registry.apply(bad())
    registry.apply(good("b", "m", "n"))
    assert registry.snapshot.backends["b"].status is DRAINING
    assert registry.snapshot.listed == ()
    assert registry.resume("b").status is HEALTHY
    assert list(registry.snapshot.listed) == ["m", "n"]
    registry.drain("b")
    registry.apply(bad())
    assert registry.resume("b").status is UNHEALTHY


def test_a_pending_backend_waits_for_approval() -> None:
    """No report lets it in; approved it is unknown until its check."""
    registry = store()
    registry.add(spec(source=Source.MDNS), status=PENDING)
    registry.apply(good("b", "m"))
    assert registry.snapshot.backends["b"].status is PENDING
    assert registry.replace(spec(source=Source.MDNS, url="http://moved")).status is PENDING
    assert registry.approve("b").status is UNKNOWN
    registry.apply(good("b", "m"))
    assert registry.approve("b").status is HEALTHY


def test_a_changed_spec_keeps_health_and_figures() -> None:
    """A new priority does not cost a healthy backend its traffic."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", "m", engine=EngineKind.OLLAMA))
    live = registry.live("b")
    live.begin()
    changed = registry.replace(spec(priority=1))
    assert (changed.status, changed.engine, changed.spec.priority) == (
        HEALTHY,
        EngineKind.OLLAMA,
        1,
    )
    assert registry.live("b") is live
    assert registry.snapshot.candidates["m"][0].backend is changed


def test_another_address_is_another_server() -> None:
    """Not routable until checked, its models known meanwhile, a drain kept."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", "m"))
    assert registry.replace(spec(url="http://moved:1")).status is UNKNOWN
    assert served_by(registry.snapshot, "m") == ["b"]
    registry.add(spec("c"))
    with pytest.raises(ValueError, match="same server as backend 'c'"):
        registry.replace(spec(url="http://c.test:8000"))


@pytest.mark.parametrize("moves", [True, False], ids=["moved", "another engine"])
def test_what_a_server_told_of_itself_is_not_said_of_the_next(moves: bool) -> None:
    """An engine that tells no load of its own must not rank by its predecessor's for ever."""
    registry = store()
    registry.add(spec())
    told = {"capacity": 4, "running": 12, "waiting": 3, "engine_version": "0.9"}
    registry.apply(good("b", "m", engine=EngineKind.VLLM, **told))
    live = registry.live("b")
    live.begin()
    live.first_token("m", 20.0, 100.0)
    live.park(1_000.0)
    if moves:
        registry.replace(spec(url="http://moved:1"))
    registry.apply(good("b", "m", engine=EngineKind.OLLAMA))
    backend = registry.snapshot.backends["b"]
    assert (backend.capacity, backend.engine_version) == (None, None)
    assert (live.busy, live.in_flight, live.parked_until_s) == (1, 1, 0.0)
    assert live.ttft_s("m") == 0.002


def test_operations_on_the_unknown_raise_key_error() -> None:
    """Except those that answer what may be out of date."""
    registry = store()
    for operation in (
        registry.remove,
        registry.drain,
        registry.resume,
        registry.approve,
        registry.live,
    ):
        with pytest.raises(KeyError):
            operation("nobody")
    with pytest.raises(KeyError):
        registry.replace(spec("nobody"))
    registry.forget_model("nobody", "m")


def test_configured_models_are_served_though_not_listed() -> None:
    """``models`` of the backend's table, under the engine's own name; the engine's facts win."""
    registry = store()
    registry.add(spec(models=("m", "extra", "llama3"), model_names={"extra": "org/extra"}))
    assert set(registry.snapshot.candidates) == {"m", "extra", "llama3"}
    registry.apply(good("b", model("m", context=4096), model("llama3:latest", "llama3")))
    assert registry.snapshot.listed == ("extra", "llama3:latest", "m")
    (extra,) = registry.snapshot.candidates["extra"]
    assert extra.model.engine_name == "org/extra"
    (listed,) = registry.snapshot.candidates["m"]
    assert listed.model.context_length == 4096


def test_a_model_listed_twice_is_one() -> None:
    """The engine's first word counts."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", model("m", context=1), model("m", context=2)))
    (candidate,) = registry.snapshot.candidates["m"]
    assert candidate.model.context_length == 1
    assert len(registry.snapshot.backends["b"].models) == 1


def test_aliases_route_but_a_real_model_wins() -> None:
    """An engine's own further names are not listed, and never hide a model of that name."""
    registry = store()
    registry.add(spec())
    registry.apply(good("b", model("llama3:latest", "llama3", "other"), model("other")))
    assert registry.snapshot.listed == ("llama3:latest", "other")
    assert registry.snapshot.candidates["llama3"][0].model.id == "llama3:latest"
    assert registry.snapshot.candidates["other"][0].model.id == "other"


def test_overrides_reach_the_snapshot_and_can_change() -> None:
    """A reload gives all backends the new facts, and the engine's again where none is left."""
    registry = store(m=ModelOverride(context_length=1000))
    registry.add(spec())
    registry.apply(good("b", model("m", context=50)))
    assert registry.snapshot.candidates["m"][0].model.context_length == 1000
    registry.override({})
    assert registry.snapshot.candidates["m"][0].model.context_length == 50


def test_a_model_that_is_not_there_is_dropped_until_listed_again() -> None:
    """The engine said "model not here"; a check that could not list changes nothing."""
    registry = store()
    for name in ("a", "b"):
        registry.add(spec(name))
        registry.apply(good(name, "m", "n"))
    registry.forget_model("b", "m")
    assert served_by(registry.snapshot, "m") == ["a"]
    assert served_by(registry.snapshot, "n") == ["a", "b"]
    registry.apply(bad("b", HEALTHY))
    assert served_by(registry.snapshot, "m") == ["a"]
    registry.apply(good("b", "m"))
    assert served_by(registry.snapshot, "m") == ["a", "b"]
    before = registry.snapshot
    registry.forget_model("b", "never heard of")
    assert registry.snapshot is before


def test_a_good_check_lets_a_trial_through() -> None:
    """The breaker of a backend that is well again need not wait for its pause to end."""
    registry = store()
    registry.add(spec())
    live = registry.live("b")
    breaker.record_failure(live, 100.0, hard=True)
    registry.apply(bad())
    assert breaker.state(live, 100.0) is BreakerState.OPEN
    registry.apply(good())
    assert breaker.state(live, 100.0) is BreakerState.HALF_OPEN


def test_listeners_hear_of_every_change_in_order() -> None:
    """Even of one that a listener makes itself, and though another listener fails."""
    registry = store()
    heard: list[tuple[int, int]] = []

    def drains(old: Snapshot, new: Snapshot) -> None:
        backend = new.backends.get("b")
        if backend is not None and backend.status is UNHEALTHY:
            registry.drain("b")

    def fails(old: Snapshot, new: Snapshot) -> None:
        raise RuntimeError("bad listener")

    registry.add(spec())
    registry.subscribe(drains)
    registry.subscribe(fails)
    registry.subscribe(lambda old, new: heard.append((old.version, new.version)))
    with pytest.raises(RuntimeError, match="bad listener"):
        registry.apply(bad())
    assert heard == [(1, 2), (2, 3)]
    with pytest.raises(RuntimeError):
        registry.remove("b")
    assert heard[-1] == (3, 4)


def test_loading_is_not_routable() -> None:
    """Unknown, with the reason, its last check no success."""
    registry = store()
    registry.add(spec())
    registry.apply(report("b", UNKNOWN, Health.LOADING, reason="loading"))
    backend = registry.snapshot.backends["b"]
    assert (backend.status, backend.reason, backend.routable) == (UNKNOWN, "loading", False)


NAMES = st.sampled_from(["a", "b", "c", "d"])
MODELS = st.lists(
    st.builds(
        lambda name, aliases: model(name, *aliases),
        st.sampled_from(["m", "n", "o"]),
        st.lists(st.sampled_from(["m", "n", "x", "y"]), max_size=2),
    ),
    max_size=4,
)
SPECS = st.builds(
    lambda name, host, priority, models, engine: spec(
        name, url=f"http://{host}:1", priority=priority, models=tuple(models), engine=engine
    ),
    NAMES,
    st.sampled_from(["h1", "h2", "h3", "h4"]),
    st.integers(0, 3),
    st.lists(st.sampled_from(["m", "spare"]), max_size=2),
    st.sampled_from([None, EngineKind.VLLM, EngineKind.OLLAMA]),
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), SPECS, st.sampled_from([UNKNOWN, PENDING])),
        st.tuples(st.just("replace"), SPECS),
        st.tuples(st.sampled_from(["remove", "drain", "resume", "approve"]), NAMES),
        st.tuples(st.just("good"), NAMES, MODELS),
        st.tuples(st.just("bad"), NAMES),
        st.tuples(st.just("forget_model"), NAMES, st.sampled_from(["m", "n", "spare"])),
    ),
    max_size=40,
)


def do(registry: Store, change: tuple[object, ...]) -> None:
    match change:
        case ("add", BackendSpec() as wanted, BackendStatus() as status):
            registry.add(wanted, status=status)
        case ("replace", BackendSpec() as wanted):
            registry.replace(wanted)
        case ("good", str(name), list(models)):
            registry.apply(good(name, *models))
        case ("bad", str(name)):
            registry.apply(bad(name))
        case ("forget_model", str(name), str(model_id)):
            registry.forget_model(name, model_id)
        case (str(operation), name):
            getattr(registry, operation)(name)


@settings(deadline=None, max_examples=100)
@given(CHANGES)
def test_any_sequence_of_changes_keeps_the_snapshot_whole(
    changes: list[tuple[object, ...]],
) -> None:
    """One backend per name and server; candidates are of the backends shown; the list is sorted,
    unique and exactly what routable backends serve."""
    registry = store()
    draining: set[object] = set()
    for change in changes:
        version = registry.snapshot.version
        try:
            do(registry, change)
        except (KeyError, ValueError):
            assert registry.snapshot.version == version
            continue
        if change[0] in ("drain", "resume", "remove"):
            (draining.add if change[0] == "drain" else draining.discard)(change[1])
        snapshot = registry.snapshot
        assert all(name == backend.name for name, backend in snapshot.backends.items())
        assert len({backend.spec.url for backend in snapshot.backends.values()}) == len(
            snapshot.backends
        )
        assert set(snapshot.live) == set(snapshot.backends)
        assert draining == {
            name for name, backend in snapshot.backends.items() if backend.status is DRAINING
        }
        for name, candidates in snapshot.candidates.items():
            order = [(c.backend.spec.priority, c.backend.name) for c in candidates]
            assert order == sorted(set(order))
            for candidate in candidates:
                assert snapshot.backends[candidate.backend.name] is candidate.backend
                assert snapshot.live[candidate.backend.name] is candidate.live
                assert candidate.model in candidate.backend.models
                ids = {m.id for m in candidate.backend.models}
                assert candidate.model.id == name or name not in ids
        routable = {
            m.id
            for backend in snapshot.backends.values()
            if backend.routable
            for m in backend.models
        }
        assert list(snapshot.listed) == sorted(routable)
