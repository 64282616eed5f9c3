"""Snapshots, whatever happens to a fleet: the short way gives what the long way would."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.backend import BackendStatus
from nexus.core.model import Model
from nexus.registry.snapshot import build_snapshot
from nexus.registry.store import Store
from tests.unit.registry.fixtures import bad, good, model, spec, store

_MODELS = st.lists(
    st.builds(
        lambda name, alias, size: model(name, *alias, context=size),
        st.sampled_from("mno"),
        st.lists(st.sampled_from(["m", "x", "y"]), max_size=2),
        st.sampled_from([1000, 2000]),
    ),
    max_size=3,
    unique_by=lambda one: one.id,
)
_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(
            ["good", "bad", "drain", "resume", "remove", "move", "forget", "elsewhere"]
        ),
        st.sampled_from("abc"),
        _MODELS,
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(_CHANGES)
def test_a_renewed_snapshot_is_what_a_new_one_would_be(
    changes: list[tuple[str, str, list[Model]]],
) -> None:
    """After each of any changes the snapshot equals one that is built of all backends anew."""
    fleet = store()
    for name in "abc":
        fleet.add(spec(name))
    for change, name, models in changes:
        _apply(fleet, change, name, models)
        members = [(one.shown, one.live, one.routes) for one in fleet._members.values()]
        anew = build_snapshot(fleet.snapshot.version, members)
        assert fleet.snapshot == anew
        for row in fleet.snapshot.candidates.values():
            for one in row:
                assert fleet.snapshot.backends[one.backend.name] is one.backend
                assert fleet.snapshot.live[one.backend.name] is one.live


def _apply(fleet: Store, change: str, name: str, models: list[Model]) -> None:
    if name not in fleet.snapshot.backends:
        fleet.add(spec(name))
    match change:
        case "good":
            fleet.apply(good(name, *models))
        case "bad":
            fleet.apply(bad(name))
        case "drain":
            fleet.drain(name)
        case "resume":
            fleet.resume(name)
        case "remove":
            fleet.remove(name)
        case "move":
            fleet.replace(spec(name, priority=len(models) + 1))
        case "elsewhere":
            fleet.replace(spec(name, url=f"http://{name}.elsewhere:1"))
        case _:
            fleet.forget_model(name, "m")


def test_a_check_that_finds_nothing_new_keeps_the_others_as_they_are() -> None:
    """Only the row of the checked backend is another object; the list of models stays."""
    fleet = store()
    for name in "ab":
        fleet.add(spec(name))
        fleet.apply(good(name, "m", f"own-{name}"))
    before = fleet.snapshot
    fleet.apply(good("a", "m", "own-a"))
    after = fleet.snapshot
    assert after.version == before.version + 1
    assert after.backends["a"] is not before.backends["a"]
    assert after.candidates["own-b"] is before.candidates["own-b"]
    assert after.listed is before.listed
    assert after.backends["a"].status is BackendStatus.HEALTHY
