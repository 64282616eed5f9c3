"""What becomes of what is seen: added, merged, removed, found again (behaviour § 7)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from nexus.core.backend import BackendStatus, EngineKind, Source
from nexus.engines.fingerprint import Fingerprint
from tests.unit.discovery.world import OLLAMA, World, advert, known, scanned

GENERIC = Fingerprint(engine=EngineKind.GENERIC, label="server", reason="lists models")
NEXUS = Fingerprint(engine=None, label="Nexus", reason="another Nexus", nexus=True)
NOTHING = Fingerprint(engine=None, label="not an LLM server", reason="404")
SILENT = Fingerprint(engine=None, label="not an LLM server", reason="no answer", silent=True)
KEYED = Fingerprint(engine=EngineKind.GENERIC, label="server", reason="wants a key", needs_key=True)


def test_what_a_scan_sees_becomes_a_backend() -> None:
    """Named after engine and port; the checks find the engine out, so that another may follow."""
    world = World()
    world.seen(scanned())
    assert world.found == {"ollama-11434": "http://127.0.0.1:11434"}
    spec = world.fleet["ollama-11434"].spec
    assert spec.source is Source.SCAN
    assert spec.engine is None
    assert not spec.forwards_credentials


def test_what_is_announced_becomes_a_backend() -> None:
    """Named after its instance, reached by the address that answered."""
    world = World()
    world.seen(advert("Ollama on gpu box", "192.168.1.99", "192.168.1.20", base_path="/llm/v1"))
    assert world.found == {"Ollama-on-gpu-box": "http://192.168.1.20:11434/llm"}
    assert world.fleet["Ollama-on-gpu-box"].spec.source is Source.MDNS


def test_seen_again_is_nothing_new() -> None:
    """Neither a question nor a backend more, however often."""
    world = World()
    world.seen(*[advert()] * 5, *[scanned()] * 5)
    assert len(world.questions) == 2
    assert len(world.found) == 2


def test_the_type_that_an_advert_tells_counts_where_asking_cannot_tell() -> None:
    """A server that only lists models is what its TXT record says."""
    world = World()
    world.answers = {"192.168.1.20": GENERIC}
    world.seen(advert(engine=EngineKind.VLLM))
    assert world.fleet["gpu"].spec.engine is EngineKind.VLLM


def test_two_adverts_of_one_server_are_one_backend() -> None:
    """``_ollama._tcp`` and ``_llm._tcp``; it is gone when both are."""
    world = World(grace_s=60)
    one, other = advert(), advert(key="gpu._llm._tcp.local", name="gpu llm")
    world.seen(one, other)
    assert list(world.found) == ["gpu"]
    world.gone(one)
    world.pass_time(100)
    assert list(world.found) == ["gpu"]
    world.gone(other)
    world.pass_time(100)
    assert world.found == {}


def test_scan_and_advert_of_this_machine_are_one_backend() -> None:
    """By whichever of its own addresses it announces itself."""
    world = World()
    world.seen(scanned(), advert("here", "192.168.1.7", "fe80::7%eth0"))
    assert list(world.found) == ["ollama-11434"]
    world = World()
    world.answers = {"192.168.1.7": OLLAMA}
    world.seen(advert("here", "192.168.1.7"), scanned())
    assert list(world.found) == ["here"]


def test_the_bridge_of_docker_makes_no_two_hosts_one() -> None:
    """Each announces 172.17.0.1, and so do we: that address means nothing."""
    world = World()
    world.answers = dict.fromkeys(("192.168.1.20", "192.168.1.21", "127.0.0.1"), OLLAMA)
    world.seen(
        scanned(),
        advert("a", "172.17.0.1", "192.168.1.20"),
        advert("b", "172.17.0.1", "192.168.1.21"),
    )
    assert world.found == {
        "ollama-11434": "http://127.0.0.1:11434",
        "a": "http://192.168.1.20:11434",
        "b": "http://192.168.1.21:11434",
    }
    assert all("172.17.0.1" not in question.addresses for question in world.questions)


def test_nor_where_we_have_no_such_bridge() -> None:
    """An address in common is no proof, even if it is not ours."""
    world = World()
    world.own = {"192.168.1.7"}
    world.answers = dict.fromkeys(("192.168.1.20", "192.168.1.21"), OLLAMA)
    world.seen(advert("a", "172.17.0.1", "192.168.1.20"), advert("b", "172.17.0.1", "192.168.1.21"))
    assert set(world.found) == {"a", "b"}


@pytest.mark.parametrize(
    ("url", "sighting"),
    [
        ("http://localhost:11434", scanned()),
        ("http://127.0.0.1:11434/v1", scanned()),
        ("http://[::1]:11434", scanned()),
        ("http://192.168.1.7:11434", scanned()),
        ("http://192.168.1.20:11434", advert()),
        ("http://192.168.1.20:11434/behind/a/path", advert()),
        ("http://gpu.local:11434", advert()),
        ("http://192.168.1.20:11434", advert("gpu", "192.168.1.20", "fd00::20")),
    ],
)
def test_what_the_operator_named_is_no_second_backend(url: str, sighting: object) -> None:
    """By any of its addresses, its own name, whatever the path: static wins."""
    world = World(known("mine", url))
    world.names = {"gpu.local": ("192.168.1.20",)}
    world.seen(sighting)  # type: ignore[arg-type]
    assert world.found == {}
    assert world.notes == []


def test_another_port_of_a_named_host_is_another_server() -> None:
    """Only host and port together are a server."""
    world = World(known("mine", "http://127.0.0.1:8000"))
    world.seen(scanned())
    assert list(world.found) == ["ollama-11434"]


def test_what_is_named_later_takes_the_place_of_the_found_one() -> None:
    """However it came in, the next tick sees that both are one."""
    world = World()
    world.seen(advert())
    world.add(known("mine", "http://gpu.local:11434"), pending=False)
    world.pass_time(1)
    assert list(world.found) == ["gpu"]  # the name is not resolved yet
    world.names = {"gpu.local": ("192.168.1.20",)}
    world.pass_time(1)
    assert world.found == {}
    assert list(world.fleet) == ["mine"]


def test_when_the_named_one_goes_the_server_is_found() -> None:
    """As long as it is still seen."""
    world = World(known("mine", "http://192.168.1.20:11434"))
    world.seen(advert())
    del world.fleet["mine"]
    world.pass_time(1)
    assert list(world.found) == ["gpu"]


def test_a_goodbye_removes_after_the_grace_only() -> None:
    """Until then nothing changes, but it is checked at once: it may be down."""
    world = World(grace_s=60)
    world.seen(advert())
    world.gone(advert())
    assert world.suspected == ["gpu"]
    world.pass_time(59)
    assert list(world.found) == ["gpu"]
    world.pass_time(2)
    assert world.found == {}
    assert world.events == [("add", "gpu"), ("remove", "gpu")]
    assert world.directory.servers == 0


def test_a_flap_inside_the_grace_changes_nothing() -> None:
    """No removal, no question, no change of address."""
    world = World(grace_s=60)
    for _ in range(5):
        world.seen(advert())
        world.pass_time(20)
        world.gone(advert())
        world.pass_time(50)
    world.seen(advert())
    world.pass_time(200)
    assert world.events == [("add", "gpu")]
    assert len(world.questions) == 1


def test_back_after_the_grace_it_has_its_name_again() -> None:
    """Even when other servers have come meanwhile."""
    world = World(grace_s=10)
    world.answers = {"192.168.1.20": OLLAMA, "192.168.1.21": OLLAMA}
    one, other = advert("gpu"), advert("gpu", "192.168.1.21", key="other")
    world.seen(one, other)
    assert list(world.found) == ["gpu", "gpu-2"]
    world.gone(other)
    world.gone(one)
    world.pass_time(20)
    assert world.found == {}
    world.seen(other)
    assert world.found == {"gpu-2": "http://192.168.1.21:11434"}


def test_a_dead_host_is_removed_without_a_goodbye() -> None:
    """Unhealthy for the grace period and silent to a fresh query; announced again, found again."""
    world = World(grace_s=60)
    world.seen(advert())
    world.becomes("gpu", BackendStatus.UNHEALTHY)
    world.announced = False
    world.pass_time(55)
    assert world.queries == []
    world.pass_time(10)
    assert world.queries == [("gpu", ("gpu._ollama._tcp.local",))]
    assert world.found == {}
    world.seen(advert())
    assert list(world.found) == ["gpu"]


def test_an_ill_server_that_is_still_announced_stays() -> None:
    """It is asked about once a grace period, not at each tick."""
    world = World(grace_s=60)
    world.seen(advert())
    world.becomes("gpu", BackendStatus.UNHEALTHY)
    world.pass_time(200)
    assert list(world.found) == ["gpu"]
    assert len(world.queries) == 3


def test_health_ends_the_illness() -> None:
    """The grace period counts from the last time it fell ill."""
    world = World(grace_s=60)
    world.announced = False
    world.seen(advert())
    for _ in range(4):
        world.becomes("gpu", BackendStatus.UNHEALTHY)
        world.pass_time(50)
        world.becomes("gpu", BackendStatus.HEALTHY)
        world.pass_time(2)
    assert world.queries == []


def test_an_ill_server_of_this_machine_stays_while_it_listens() -> None:
    """The scan is query enough."""
    world = World(grace_s=10)
    world.announced = False
    world.seen(scanned())
    world.becomes("ollama-11434", BackendStatus.UNHEALTHY)
    world.pass_time(50)
    assert list(world.found) == ["ollama-11434"]
    world.gone(scanned())
    world.pass_time(12)
    assert world.found == {}


def test_nothing_named_is_ever_removed() -> None:
    """Ill, gone, announced no more: static and manual backends stay."""
    world = World(
        known("static", "http://192.168.1.20:11434"),
        known("manual", "http://127.0.0.1:11434", Source.MANUAL),
        grace_s=5,
    )
    world.announced = False
    world.seen(advert(), scanned())
    world.becomes("static", BackendStatus.UNHEALTHY)
    world.becomes("manual", BackendStatus.UNHEALTHY)
    world.gone(advert())
    world.gone(scanned())
    world.pass_time(100)
    assert list(world.fleet) == ["static", "manual"]
    assert world.events == []


def test_what_the_operator_removes_is_not_found_again() -> None:
    """By no key and no address, however often it is announced."""
    world = World(grace_s=5)
    world.seen(scanned())
    del world.fleet["ollama-11434"]
    world.directory.dismiss("ollama-11434")
    world.pass_time(20)
    world.gone(scanned())
    world.pass_time(20)
    world.seen(scanned(), scanned(address="::1"), advert("here", "192.168.1.7"))
    world.pass_time(20)
    assert world.found == {}


def test_a_found_backend_that_the_operator_makes_his_own() -> None:
    """Saved under its very name (a reload, a PATCH with ``save``): it is his, whatever happens."""
    world = World(grace_s=5)
    world.answers = {"192.168.1.20": OLLAMA, "192.168.1.33": OLLAMA}
    world.seen(advert())
    own = known("gpu", "http://192.168.1.20:11434")
    world.fleet["gpu"] = replace(world.fleet["gpu"], spec=own)
    world.pass_time(3)
    world.seen(advert("gpu", "192.168.1.33"))
    world.gone(advert())
    world.becomes("gpu", BackendStatus.UNHEALTHY)
    world.announced = False
    world.pass_time(50)
    assert world.fleet["gpu"].spec == own
    assert world.events == [("add", "gpu"), ("add", "gpu-2"), ("remove", "gpu-2")]


def test_made_his_own_while_it_was_asked_anew() -> None:
    """The answer moves nothing of the operator's."""
    world = World()
    world.seen(advert())
    world.answers = None
    world.seen(advert("gpu", "192.168.1.33"))
    own = known("gpu", "http://192.168.1.20:11434")
    world.fleet["gpu"] = replace(world.fleet["gpu"], spec=own)
    world.answers = {"192.168.1.33": OLLAMA}
    world.answer(world.questions[-1])
    assert world.fleet["gpu"].spec == own


def test_a_named_backend_that_the_operator_removes_is_not_found_instead() -> None:
    """Removed by hand is removed."""
    world = World(known("mine", "http://192.168.1.20:11434"))
    world.seen(advert())
    del world.fleet["mine"]
    world.directory.dismiss("mine")
    world.pass_time(20)
    assert world.fleet == {}


def test_a_server_that_moves_keeps_its_backend() -> None:
    """A new address under the same key: the backend is reached there."""
    world = World()
    world.answers = {"192.168.1.20": OLLAMA, "192.168.1.33": OLLAMA}
    world.seen(advert("gpu", "192.168.1.20"))
    world.seen(advert("gpu", "192.168.1.33", port=8080))
    assert world.found == {"gpu": "http://192.168.1.33:8080"}
    assert world.events == [("add", "gpu"), ("move", "gpu")]


def test_more_addresses_move_nothing() -> None:
    """As long as the one in use is among them."""
    world = World()
    world.seen(advert("gpu", "192.168.1.20"))
    world.seen(advert("gpu", "fd00::20", "192.168.1.20"))
    assert world.events == [("add", "gpu")]
    assert len(world.questions) == 1


def test_an_ill_server_is_looked_for_at_its_other_addresses() -> None:
    """The cable is pulled, the wireless address answers."""
    world = World(grace_s=600)
    world.seen(advert("gpu", "192.168.1.20", "192.168.1.21"))
    world.becomes("gpu", BackendStatus.UNHEALTHY)
    world.answers = {"192.168.1.21": OLLAMA}
    world.pass_time(40)
    assert world.found == {"gpu": "http://192.168.1.21:11434"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (NEXUS, "another_nexus"),
        (NOTHING, "not_an_llm_server"),
        (KEYED, "wants_a_key"),
        (SILENT, "silent"),
        (None, "unreachable"),
    ],
)
def test_what_is_of_no_use_is_no_backend(answer: Fingerprint | None, kind: str) -> None:
    """Left alone, noted, and asked again at growing intervals, not at each tick."""
    world = World(interval_s=30)
    world.answers = {} if answer is None else {"127.0.0.1": answer}
    world.seen(scanned())
    assert world.found == {}
    assert world.notes == [kind]
    world.pass_time(300)
    assert 3 <= len(world.questions) <= 10
    world.answers = {"127.0.0.1": OLLAMA}
    world.pass_time(300)
    assert list(world.found) == ["ollama-11434"]


def test_a_server_that_comes_up_late_is_used_soon() -> None:
    """An engine is announced before it answers: within seconds of its first answer it is there."""
    world = World()
    world.answers = {}
    world.seen(advert())
    world.pass_time(6)
    world.answers = {"192.168.1.20": OLLAMA}
    world.pass_time(5)
    assert list(world.found) == ["gpu"]


def test_a_socket_that_came_back_is_asked_at_once() -> None:
    """Something else may listen there now."""
    world = World()
    world.answers = {"127.0.0.1": NOTHING}
    world.seen(scanned())
    world.gone(scanned())
    world.answers = {"127.0.0.1": OLLAMA}
    world.seen(scanned())
    assert list(world.found) == ["ollama-11434"]


def test_a_nexus_that_says_so_is_not_even_asked() -> None:
    """``type=nexus`` in its advert."""
    world = World()
    world.seen(advert(nexus=True))
    world.pass_time(1000)
    assert world.questions == []
    assert world.notes == ["another_nexus"]


def test_this_gateway_itself_is_passed_over() -> None:
    """By any of its addresses."""
    world = World()
    world.me = {("192.168.1.7", 8000), ("127.0.0.1", 8000)}
    world.seen(advert("me", "192.168.1.7", port=8000), scanned(8000))
    assert world.questions == []
    assert world.found == {}


def test_gone_before_it_answered() -> None:
    """The answer comes too late for anything."""
    world = World()
    world.answers = None
    world.seen(advert())
    world.gone(advert())
    world.answers = {"192.168.1.20": OLLAMA}
    world.answer(world.questions[0])
    world.pass_time(10)
    assert world.found == {}
    assert world.directory.servers == 0


def test_named_while_it_was_asked() -> None:
    """Added by hand in between: no second backend."""
    world = World()
    world.answers = None
    world.seen(advert())
    world.add(known("mine", "http://192.168.1.20:11434"), pending=False)
    world.answers = {"192.168.1.20": OLLAMA}
    world.answer(world.questions[0])
    assert world.found == {}
    world.pass_time(10)
    assert world.found == {}


def test_changed_while_it_was_asked() -> None:
    """The new address is asked before it is used."""
    world = World()
    world.answers = None
    world.seen(advert("gpu", "192.168.1.20"))
    world.seen(advert("gpu", "192.168.1.33"))
    world.answers = {"192.168.1.20": OLLAMA, "192.168.1.33": OLLAMA}
    world.answer(world.questions[0])
    assert world.found == {"gpu": "http://192.168.1.33:11434"}


def test_names_are_unique() -> None:
    """No found backend takes the name of another."""
    world = World(known("gpu", "http://192.168.1.50:1"))
    world.seen(advert("gpu"))
    assert list(world.found) == ["gpu-2"]


def test_credentials_go_along_when_the_operator_wants_it() -> None:
    """``discovery.forward_authorization``."""
    world = World(forward_authorization=True)
    world.seen(scanned())
    assert world.fleet["ollama-11434"].spec.forwards_credentials
