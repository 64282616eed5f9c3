"""The page survives the gateway: what is lost comes back by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from nexus.demo.engine import FakeEngine
from tests.browser.stage import Screen, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One engine."""
    with Stage(tmp_path_factory.mktemp("restart"), [FakeEngine(models=("one",))]) as stage:
        yield stage


def test_a_restart_is_survived(stage: Stage, browser: Browser) -> None:
    """While the gateway is away the page says so and keeps its figures; once it is back the page is
    live again with the new process' figures, without a reload."""
    with Screen(browser, stage.url) as screen:
        page = screen.open("overview")
        page.evaluate("window.kept = true")
        note = page.locator(".tile", has_text="Requests per second").locator(".tile-note")
        for _ in range(3):
            stage.call("one")
        expect(note).to_have_text("3 since the start")
        connection = page.locator("#connection")
        stage.stop()
        expect(connection).to_have_text("Connection lost, retrying…")
        expect(note).to_have_text("3 since the start")
        stage.start()
        stage.call("one")
        expect(connection).to_have_text("Live")
        expect(page.locator("#announce")).to_have_text("Connected again.")
        expect(note).to_have_text("1 since the start")
        stage.call("one")
        expect(note).to_have_text("2 since the start")
        page.goto(f"{stage.url}/#/requests")
        # Those of before are still known to the page, which was not loaded anew.
        expect(page.locator("tbody tr")).to_have_count(5)
        assert page.evaluate("window.kept")
        # Connections that were cut or refused are the console's only complaint.
        lost = ("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING")
        assert [text for text in screen.complaints if not text.endswith(lost)] == []


def test_a_phone_has_room_for_the_bad_news(stage: Stage, browser: Browser) -> None:
    """Nor does the notice of a lost connection widen the page on a phone."""
    with Screen(browser, stage.url, viewport={"width": 360, "height": 740}) as screen:
        page = screen.open("overview")
        page.route("**/admin/v1/**", lambda route: route.abort())
        expect(page.locator("#connection")).to_have_text("Connection lost, retrying…")
        assert screen.wider_than_the_window() == 0


def test_a_gateway_that_hangs_is_noticed(stage: Stage, browser: Browser) -> None:
    """Answers that fail while the stream seems to live are a lost connection too."""
    with Screen(browser, stage.url) as screen:
        page = screen.open("overview")
        page.route("**/admin/v1/**", lambda route: route.abort())
        expect(page.locator("#connection")).to_have_text("Connection lost, retrying…")
        page.unroute("**/admin/v1/**")
        expect(page.locator("#connection")).to_have_text("Live")


def test_unchanged_files_are_not_sent_again(stage: Stage, browser: Browser) -> None:
    """A second visit asks for each file and is told that it has not changed."""
    with Screen(browser, stage.url) as screen:
        page = screen.open("overview")
        page.unroute("**/*")  # interception turns the browser's cache off
        page.reload()
        page.wait_for_selector("#connection[data-state=live]")
        answers: dict[str, int] = {}
        page.on("response", lambda answer: answers.update({answer.url: answer.status}))
        page.reload()
        page.wait_for_selector("#connection[data-state=live]")
        files = {url: status for url, status in answers.items() if "/dashboard/" in url}
        # The browser keeps icons by themselves, apart from the page's cache.
        files = {url: status for url, status in files.items() if not url.endswith(".svg")}
        assert len(files) > 10
        assert {url for url, status in files.items() if status != 304} == set()


def test_what_is_saved_outlives_a_restart(stage: Stage, browser: Browser) -> None:
    """A backend added with the box ticked is in the file, and removing one takes it out there."""
    guest = FakeEngine(models=("guest-model",))
    stage.run(guest.start())
    try:
        with Screen(browser, stage.url) as screen:
            page = screen.open("backends")
            page.get_by_text("Add a backend").click()
            page.get_by_label("Address of a server").fill(guest.url)
            page.get_by_label("Keep it after a restart").check()
            page.get_by_role("button", name="Add backend").click()
            card = page.locator(".card", has_text="guest-model")
            expect(card).to_contain_text("configuration file")
            assert guest.url in stage.file.read_text()
            card.get_by_role("button", name="Remove").click()
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("taken out of the configuration file")
            dialog.get_by_role("button", name="Remove").click()
            expect(card).to_have_count(0)
            assert guest.url not in stage.file.read_text()
            assert screen.complaints == []
    finally:
        stage.run(guest.stop())
