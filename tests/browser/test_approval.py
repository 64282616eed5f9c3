"""A server that was found and waits is let in, or not, by a person."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from nexus.demo.engine import FakeEngine
from tests.browser.stage import Screen, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An engine that the gateway finds by itself and does not trust."""
    engines = [FakeEngine(dialect="llamacpp", models=("found-model",))]
    with Stage(tmp_path_factory.mktemp("approval"), engines, found=True) as stage:
        yield stage


def test_a_found_server_waits_for_approval(stage: Stage, browser: Browser) -> None:
    """Its card says that it waits and where it was found; approving it makes it usable at once."""
    with Screen(browser, stage.url) as screen:
        page = screen.open("backends")
        card = page.locator(".card")
        expect(card).to_have_count(1)
        expect(card.locator(".badge").first).to_contain_text("Waiting for approval")
        expect(card).to_contain_text("found on this machine")
        assert stage.call("found-model").status_code == 404
        card.get_by_role("button", name="Approve").click()
        expect(card.locator(".badge").first).to_contain_text("Healthy")
        expect(card.get_by_role("button", name="Approve")).to_have_count(0)
        assert stage.call("found-model").status_code == 200
        assert screen.complaints == []
