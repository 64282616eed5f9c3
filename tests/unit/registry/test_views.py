"""What the registry shows to clients and to the admin API."""

from __future__ import annotations

import json

from nexus.core.backend import BackendStatus, EngineKind, Source
from nexus.core.ewma import Ewma
from nexus.core.snapshot import Snapshot
from nexus.engines.adapter import CheckResult, Health
from nexus.health import breaker
from nexus.registry.store import Store
from nexus.registry.views import (
    backend_view,
    backends_view,
    health_view,
    model_entry,
    model_list,
    models_view,
    probe_view,
)
from tests.unit.registry.fixtures import bad, good, model, spec, store


def fleet(**backends: list[object]) -> Store:
    """Healthy backends that list the given models."""
    registry = store()
    for name, models in backends.items():
        registry.add(spec(name))
        registry.apply(good(name, *models))  # type: ignore[arg-type]
    return registry


def ids(snapshot: Snapshot, aliases: dict[str, str] | None = None) -> list[str]:
    return [entry["id"] for entry in model_list(snapshot, aliases or {})["data"]]


def test_an_empty_fleet_lists_nothing() -> None:
    """A list all the same."""
    assert model_list(Snapshot(), {}) == {"object": "list", "data": []}


def test_one_entry_per_model_sorted() -> None:
    """Two backends that serve one model are one entry that names both."""
    registry = fleet(a=["z", "m"], b=["m"])
    assert ids(registry.snapshot) == ["m", "z"]
    entry = model_list(registry.snapshot, {})["data"][0]
    assert [backend["name"] for backend in entry["nexus"]["backends"]] == ["a", "b"]


def test_an_entry_is_an_openai_model() -> None:
    """The four fields of the API reference, then ours; ``owned_by`` tells that this is a Nexus."""
    registry = fleet(a=[model("m", context=4096, created=1700000000, owned_by="vllm", tools=True)])
    assert model_list(registry.snapshot, {})["data"] == [
        {
            "id": "m",
            "object": "model",
            "created": 1700000000,
            "owned_by": "nexus",
            "context_length": 4096,
            "capabilities": {
                "vision": None,
                "tools": True,
                "json_mode": None,
                "embeddings": None,
                "reasoning": None,
            },
            "nexus": {
                "backends": [
                    {"name": "a", "engine": "generic", "context_length": 4096, "loaded": None}
                ]
            },
        }
    ]


def test_an_entry_shows_what_some_backend_can_do() -> None:
    """The widest window; yes if any says yes, no if all say no, else unknown."""
    registry = fleet(
        a=[model("m", context=4096, vision=True, tools=False, json_mode=False)],
        b=[model("m", context=8192, vision=False, tools=False)],
        c=[model("m", vision=None, tools=False, json_mode=False)],
    )
    (entry,) = model_list(registry.snapshot, {})["data"]
    assert entry["context_length"] == 8192
    assert entry["capabilities"]["vision"] is True
    assert entry["capabilities"]["tools"] is False
    assert entry["capabilities"]["json_mode"] is None


def test_backends_that_are_not_routable_lend_nothing() -> None:
    """Neither their models nor what they can do, only the date."""
    registry = fleet(
        a=[model("m", created=20)], b=[model("m", context=8192, created=10), model("only-b")]
    )
    registry.apply(bad("b"))
    (entry,) = model_list(registry.snapshot, {})["data"]
    assert (entry["id"], entry["context_length"], entry["created"]) == ("m", None, 10)
    assert model_entry(registry.snapshot, "only-b", {}) is None


def test_created_is_the_same_from_call_to_call() -> None:
    """The earliest that any backend tells, while they come and go; 0 where none tells."""
    registry = fleet(a=[model("m", created=20)], b=[model("m", created=10)], c=["undated"])
    dates = []
    for report in (good("b", model("m", created=10)), bad("b"), bad("a")):
        dates += [entry["created"] for entry in model_list(registry.snapshot, {})["data"]]
        registry.apply(report)
    assert dates == [10, 0, 10, 0, 10, 0]


def test_aliases_are_listed_and_marked() -> None:
    """Those that lead to a model that is served, through others too; a real model wins."""
    registry = fleet(a=["llama3:70b", "real"])
    aliases = {
        "gpt-4": "llama3:70b",
        "best": "gpt-4",
        "real": "llama3:70b",
        "dangling": "nowhere",
    }
    assert ids(registry.snapshot, aliases) == ["best", "gpt-4", "llama3:70b", "real"]
    entries = {e["id"]: e["nexus"] for e in model_list(registry.snapshot, aliases)["data"]}
    assert entries["gpt-4"]["alias_of"] == entries["best"]["alias_of"] == "llama3:70b"
    assert "alias_of" not in entries["real"]
    assert "alias_of" not in entries["llama3:70b"]


def test_an_alias_of_a_lost_model_is_not_listed() -> None:
    """Nobody could serve it now."""
    registry = fleet(a=["m"])
    registry.apply(bad("a"))
    assert ids(registry.snapshot, {"gpt-4": "m"}) == []


def test_a_model_is_found_by_id_alias_and_the_engines_own_alias() -> None:
    """``llama3`` finds ``llama3:latest`` though only the latter is listed."""
    registry = fleet(a=[model("llama3:latest", "llama3"), "org/model"])
    snapshot = registry.snapshot
    aliases = {"gpt-4": "llama3"}
    assert ids(snapshot, aliases) == ["gpt-4", "llama3:latest", "org/model"]
    by_id = model_entry(snapshot, "org/model", aliases)
    by_alias = model_entry(snapshot, "gpt-4", aliases)
    by_engine = model_entry(snapshot, "llama3", aliases)
    assert by_id is not None
    assert by_alias is not None
    assert by_engine is not None
    assert by_id["id"] == "org/model"
    assert (by_alias["id"], by_alias["nexus"]["alias_of"]) == ("gpt-4", "llama3")
    assert (by_engine["id"], by_engine["nexus"]["alias_of"]) == ("llama3", "llama3:latest")
    assert model_entry(snapshot, "nobody", aliases) is None


def test_health_counts_backends_and_models() -> None:
    """All healthy, some, none; no backend at all is unhealthy too."""
    registry = store()
    states = []

    def look() -> None:
        view = health_view(registry.snapshot, version="1.2.3", uptime_s=7.9)
        states.append((view["status"], *view["backends"].values(), view["models"]))

    look()
    for name in ("a", "b"):
        registry.add(spec(name))
        registry.apply(good(name, "m", f"m-{name}"))
    look()
    registry.apply(bad("a"))
    look()
    registry.drain("b")
    look()
    registry.add(spec("p", source=Source.MDNS), status=BackendStatus.PENDING)
    look()
    assert states == [
        ("unhealthy", 0, 0, 0, 0),
        ("healthy", 2, 2, 0, 3),
        ("degraded", 2, 1, 1, 2),
        ("unhealthy", 2, 0, 2, 0),
        ("unhealthy", 2, 0, 2, 0),
    ]
    assert health_view(registry.snapshot, version="1.2.3", uptime_s=7.9) == {
        "status": "unhealthy",
        "version": "1.2.3",
        "uptime_seconds": 7,
        "backends": {"total": 2, "healthy": 0, "unhealthy": 2},
        "models": 0,
    }


def test_the_admin_sees_a_backend_whole() -> None:
    """Every field of behaviour § 13, with live figures and the breaker as of now."""
    registry = store()
    registry.add(spec(priority=7, max_concurrency=3, zone="home", tier=2, engine=EngineKind.VLLM))
    registry.apply(good("b", model("m", context=10), running=2, waiting=1, capacity=8))
    live = registry.live("b")
    live.begin()
    average = live.ttft["m"] = Ewma()
    average.add(0.25, 0.0)
    breaker.record_failure(live, 50.0, hard=True)
    (view,) = backends_view(registry.snapshot, 50.5)["data"]
    models = view.pop("models")
    assert view == {
        "name": "b",
        "url": "http://b.test:8000",
        "engine": "vllm",
        "engine_version": None,
        "source": "static",
        "priority": 7,
        "status": "healthy",
        "reason": "answers",
        "breaker": "open",
        "max_concurrency": 3,
        "capacity": 8,
        "in_flight": 1,
        "load": {"running": 2, "waiting": 1, "kv_usage": None},
        "ttft_ms": 250.0,
        "last_check": {"at": 1_800_000_000.0, "ms": 12.5, "error": None},
        "zone": "home",
        "tier": 2,
    }
    assert models == [
        {
            "id": "m",
            "context_length": 10,
            "capabilities": {
                "vision": None,
                "tools": None,
                "json_mode": None,
                "embeddings": None,
                "reasoning": None,
            },
            "kind": "chat",
            "loaded": None,
            "size_bytes": None,
            "quantization": None,
            "family": None,
            "evidence": {},
        }
    ]
    later = backend_view(registry.snapshot.backends["b"], live, 51.0)
    assert later["breaker"] == "half_open"


def test_no_secret_is_ever_shown() -> None:
    """Keys, headers, queries, and what a URL's own query holds."""
    registry = store()
    registry.add(
        spec(
            url="https://h/v1?code=s3cret&flag",
            api_key="s3cret",
            headers={"X-Key": "s3cret"},
            query={"k": "s3cret"},
        )
    )
    registry.apply(good("b", "m"))
    shown = json.dumps(
        [
            backends_view(registry.snapshot, 0.0),
            models_view(registry.snapshot),
            model_list(registry.snapshot, {}),
            probe_view("https://h/?code=s3cret", None, CheckResult(health=Health.FAILED)),
        ]
    )
    assert "s3cret" not in shown
    assert "https://h/v1?code=***&flag=***" in shown


def test_the_admin_sees_every_model_with_its_backends() -> None:
    """Those of unhealthy backends too, each as its own backend serves it."""
    registry = fleet(a=[model("m", context=1)], b=[model("m", context=2), "n"])
    registry.apply(bad("b"))
    rows = models_view(registry.snapshot)["data"]
    assert [row["id"] for row in rows] == ["m", "n"]
    assert [(b["name"], b["status"], b["context_length"]) for b in rows[0]["backends"]] == [
        ("a", "healthy", 1),
        ("b", "unhealthy", 2),
    ]


def test_a_probe_tells_what_answers() -> None:
    """Reachable: a server that Nexus could use, be it loading or in want of a key."""
    found = probe_view(
        "http://h",
        EngineKind.OLLAMA,
        CheckResult(
            health=Health.HEALTHY,
            engine_version="0.9",
            models=(model("m"),),
            capacity=4,
            running=1,
            waiting=0,
            kv_usage=0.5,
            evidence={"capacity": "/slots"},
        ),
        label="Ollama",
    )
    assert [entry["id"] for entry in found.pop("models")] == ["m"]
    assert found == {
        "url": "http://h",
        "engine": "ollama",
        "engine_version": "0.9",
        "reachable": True,
        "reason": "healthy",
        "capacity": 4,
        "load": {"running": 1, "waiting": 0, "kv_usage": 0.5},
        "label": "Ollama",
        "evidence": {"capacity": "/slots"},
    }
    reachable = {
        health: probe_view("http://h", None, CheckResult(health=health))["reachable"]
        for health in Health
    }
    assert reachable[Health.LOADING]
    assert reachable[Health.CREDENTIALS]
    assert not reachable[Health.LOST]
    assert not reachable[Health.FAILED]
