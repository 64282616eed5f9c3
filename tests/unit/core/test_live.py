"""Live figures of a backend."""

from __future__ import annotations

from nexus.core.ewma import Ewma
from nexus.core.live import BackendLive


def test_our_own_calls_are_its_load_until_it_tells() -> None:
    """An engine that tells nothing is as busy as we make it."""
    live = BackendLive()
    live.begin()
    live.begin()
    live.end()
    assert (live.busy, live.requests_total) == (1, 2)


def test_the_engines_word_is_corrected_by_what_came_since() -> None:
    """Running and waiting at the poll, plus what we began, less what we ended."""
    live = BackendLive()
    live.begin()
    live.polled(5, 2)
    live.begin()
    assert live.busy == 8
    live.end()
    live.end()
    assert live.busy == 6


def test_our_own_calls_are_the_least_load() -> None:
    """A poll that saw fewer than we have there counts for no less."""
    live = BackendLive()
    live.begin()
    live.begin()
    live.polled(0, None)
    assert live.busy == 2


def test_the_probe_stands_in_for_traffic() -> None:
    """Time to first token: of the model's calls, of the probe until there are any, else unknown."""
    live = BackendLive()
    assert live.ttft_s("m") is None
    live.probe_s = 0.2
    live.ttft["m"] = Ewma()
    assert live.ttft_s("m") == 0.2
    live.ttft["m"].add(0.7, 0.0)
    assert (live.ttft_s("m"), live.ttft_s("other")) == (0.7, 0.2)
