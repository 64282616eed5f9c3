"""With an admin key the page asks for it; without a backend it says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from nexus.demo.engine import FakeEngine
from tests.browser.stage import Screen, Stage

KEY = "correct-horse"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway with a key and no backend."""
    with Stage(
        tmp_path_factory.mktemp("signin"),
        settings='[server]\nadmin_key_env = "TEST_ADMIN_KEY"\n',
        environment={"TEST_ADMIN_KEY": KEY},
    ) as stage:
        yield stage


def test_signing_in_and_out(stage: Stage, browser: Browser) -> None:
    """A wrong key is refused with the reason; the right one opens the view that was asked for, also
    after a reload; signing out closes it. The key is kept nowhere that a script can read."""
    with Screen(browser, stage.url) as screen:
        page = screen.page
        page.goto(f"{stage.url}/#/backends")
        key = page.get_by_label("Admin key")
        expect(key).to_be_focused()
        expect(page.locator("nav")).to_be_hidden()
        assert screen.complaints == [], "being signed out is no error"
        key.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The admin key is wrong.")
        assert [text for text in screen.complaints if "401" not in text] == []
        screen.complaints.clear()
        key.fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Backends")).to_be_visible()
        expect(page.locator("#connection")).to_have_text("Live")
        page.reload()
        expect(page.get_by_role("heading", name="Backends")).to_be_visible()
        held = page.evaluate("document.cookie + JSON.stringify({...localStorage})")
        assert held == "{}"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Admin key")).to_be_visible()
        assert screen.complaints == []
        assert screen.strangers == []


def test_a_restart_asks_for_the_key_again(stage: Stage, browser: Browser) -> None:
    """Sessions end with the process: the page comes back to the form, not to an error."""
    with Screen(browser, stage.url) as screen:
        page = screen.page
        page.goto(stage.url)
        page.get_by_label("Admin key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("Live")
        stage.stop()
        expect(page.locator("#connection")).to_have_text("Connection lost, retrying…")
        stage.start()
        expect(page.get_by_label("Admin key")).to_be_visible()
        page.get_by_label("Admin key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("Live")


def test_first_steps(stage: Stage, browser: Browser) -> None:
    """Without a backend the overview says how to get one, and a server added there ends that."""
    with Screen(browser, stage.url) as screen:
        page = screen.page
        page.goto(stage.url)
        page.get_by_label("Admin key").fill(KEY)
        page.keyboard.press("Enter")
        first = page.locator(".first")
        expect(first).to_contain_text("nexus backends add")
        expect(first).to_contain_text("nexus demo")
        expect(first).to_contain_text("[[backends]]")
        assert screen.wider_than_the_window() == 0
        guest = FakeEngine(models=("first-model",))
        stage.run(guest.start())
        try:
            page.get_by_label("Address of a server").fill(guest.url)
            page.keyboard.press("Enter")
            expect(first).to_have_count(0)
            expect(page.locator(".fleet li")).to_have_count(1)
        finally:
            stage.run(guest.stop())
        assert screen.complaints == []
