"""Each view shows what the admin API says, and shows it live."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.browser.stage import DEADLINE_S, Screen, Stage

LIVE_S = 2.0
"""How long something may take to be seen (issue 7)."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two engines that share a model; the second one alone sees."""
    engines = [
        FakeEngine(dialect="vllm", name="fast", models=("common", "solo"), context_length=32768),
        FakeEngine(
            dialect="ollama",
            name="slow",
            models=("common", "seer-vision"),
            settings=Speed(ttft_s=0.05, tokens_per_s=200.0, tokens=20),
        ),
    ]
    with Stage(tmp_path_factory.mktemp("views"), engines) as stage:
        yield stage


@pytest.fixture(scope="module")
def page_of_all(stage: Stage, browser: Browser) -> Iterator[Screen]:
    """One page for all tests here: views begin anew when they are opened."""
    with Screen(browser, stage.url) as screen:
        yield screen


@pytest.fixture
def screen(page_of_all: Screen) -> Iterator[Screen]:
    """That page, on which nothing may go wrong and which may ask nobody else."""
    yield page_of_all
    complaints, page_of_all.complaints = page_of_all.complaints, []
    assert complaints == []
    assert page_of_all.strangers == []


def facts(pairs: Locator) -> dict[str, str]:
    """Names and values of a ``dl`` whose pairs are in ``div``s."""
    return {
        row.locator("dt").inner_text().split("\n")[-1].strip(): row.locator("dd").first.inner_text()
        for row in pairs.all()
    }


def number(text: str) -> int:
    """A whole number as shown."""
    return int(text.replace(",", ""))


def test_overview_counts_what_the_gateway_counts(stage: Stage, screen: Screen) -> None:
    """Totals, outcomes and tokens equal the statistics once traffic has stopped."""
    screen.open("overview")
    for _ in range(3):
        assert stage.call("common").status_code == 200
        assert stage.call("common", stream=True).status_code == 200
    assert stage.call("nobody-has-this").status_code == 404
    panel = screen.page.locator("section.panel", has_text="Since the start").locator(".facts > div")
    words = {
        "OK": "ok",
        "Client error": "client_error",
        "Upstream error": "upstream_error",
        "Timed out": "timeout",
        "Cancelled": "cancelled",
        "Refused": "refused",
        "Requests": "total",
    }

    def shown_is_true() -> bool:
        stats = stage.get("/admin/v1/stats")
        shown = {name: number(value) for name, value in facts(panel).items()}
        counted = {word: stats["requests"][key] for word, key in words.items()}
        tokens = stats["tokens"]
        counted |= {"Prompt tokens": tokens["prompt"], "Completion tokens": tokens["completion"]}
        return shown == counted

    screen.until(shown_is_true, "the totals are those of the statistics")
    assert number(facts(panel)["Requests"]) >= 7
    tile = screen.page.locator(".tile", has_text="Backends")
    assert tile.locator(".tile-value").inner_text() == "2 of 2"
    assert "4 models" in tile.inner_text()


def quickest_s(screen: Screen, cause: Callable[[], object], seen: Callable[[], object]) -> float:
    """The seconds until ``seen()`` after ``cause()``: other programs share the machine, so the best
    of up to three rounds counts."""
    best_s = DEADLINE_S
    for _ in range(3):
        cause()
        best_s = min(best_s, screen.until(seen, "it is shown", DEADLINE_S))
        if best_s < LIVE_S:
            break
    return best_s


def test_overview_moves_within_two_seconds(stage: Stage, screen: Screen) -> None:
    """A call changes figures and charts in under two seconds after it ended."""
    page = screen.open("overview")
    note = page.locator(".tile", has_text="Requests per second").locator(".tile-note")
    legend = page.locator(".chart", has_text="Requests per second").locator(".legend")

    def seen() -> bool:
        total = stage.get("/admin/v1/stats")["requests"]["total"]
        moved = re.search(r"finished\s+[0-9.]*[1-9]", legend.inner_text())
        return bool(moved) and note.inner_text() == f"{total:,} since the start"

    assert quickest_s(screen, lambda: stage.call("solo"), seen) < LIVE_S


INK = """canvas => {
    const {width, height} = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let inked = 0;
    for (let i = 3; i < data.length; i += 4) inked += data[i] > 200;
    return inked;
}"""


def _inked(canvas: Locator) -> bool:
    """Whether more is drawn there than axes and grid."""
    return int(canvas.evaluate(INK)) > 500


def test_charts_draw(stage: Stage, screen: Screen) -> None:
    """Under traffic all four charts have lines on their canvas, and say their figures in words."""
    with stage.traffic("common", "solo"):
        page = screen.open("overview")
        plots = page.locator(".plot")
        assert plots.count() == 4
        for plot in plots.all():
            canvas = plot.locator("canvas")
            screen.until(functools.partial(_inked, canvas), "a chart with lines")
        rate = r"^Requests per second, last five minutes\. Now: finished [0-9.]+\.$"
        expect(plots.first).to_have_attribute("aria-label", re.compile(rate))


def test_backends_are_those_of_the_api(stage: Stage, screen: Screen) -> None:
    """Name, state, why, address, engine and models of each backend stand on its card."""
    page = screen.open("backends")
    told = stage.get("/admin/v1/backends")["data"]
    expect(page.locator(".card")).to_have_count(len(told))
    for backend in told:
        card = page.locator(".card", has=page.get_by_role("heading", name=backend["name"]))
        text = card.inner_text()
        assert "Healthy" in text
        assert backend["reason"] in text
        assert backend["url"] in text
        assert f"{backend['engine']} {backend['engine_version']}" in text
        for model in backend["models"]:
            assert model["id"] in text


def test_load_is_seen_while_it_lasts(stage: Stage, screen: Screen) -> None:
    """A call in flight is on its backend's card, and gone when it is over."""
    page = screen.open("backends")
    fast = stage.engines[0]
    fast.faults.set(Fault.STALL, count=1, delay_s=2.0)
    load = page.locator(".card", has_text="solo").locator(".meters .figure").first
    with stage.traffic("solo", pause_s=60):
        screen.until(lambda: load.inner_text().startswith("1 "), "one in flight")
        screen.until(lambda: load.inner_text().startswith("0 "), "none in flight")


def test_a_backend_is_drained_and_resumed(stage: Stage, screen: Screen) -> None:
    """Draining asks first; what was refused in the dialog is not done; the state is told."""
    page = screen.open("backends")
    card = page.locator(".card", has_text="seer-vision")

    def state() -> str:
        return str(stage.get("/admin/v1/backends/slow")["status"])

    card.get_by_role("button", name="Drain slow").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert state() == "healthy"
    card.get_by_role("button", name="Drain slow").click()
    page.get_by_role("dialog", name="Drain slow?").get_by_role("button", name="Drain").click()
    expect(card.locator(".badge").first).to_contain_text("Draining")
    assert state() == "draining"
    expect(page.locator("#announce")).to_have_text("slow is draining.")
    card.get_by_role("button", name="Resume slow").click()
    expect(card.locator(".badge").first).to_contain_text("Healthy")
    assert state() == "healthy"


def test_a_backend_is_added_and_removed(stage: Stage, screen: Screen) -> None:
    """A server added by its address appears; one that is none is refused with the reason; one that
    the file does not name can be removed."""
    page = screen.open("backends")
    guest = FakeEngine(dialect="llamacpp", models=("guest-model",))
    stage.run(guest.start())
    try:
        page.get_by_text("Add a backend").click()
        address = page.get_by_label("Address of a server")
        address.fill(guest.url)
        page.get_by_role("button", name="Add backend").click()
        card = page.locator(".card", has_text="guest-model")
        expect(card.locator(".badge").first).to_contain_text("Healthy")
        address.fill(guest.url)
        page.get_by_role("button", name="Add backend").click()
        expect(page.locator(".add .said")).to_contain_text("same server")
        card.get_by_role("button", name=re.compile("^Remove")).click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(card).to_have_count(0)
        assert {one["name"] for one in stage.get("/admin/v1/backends")["data"]} == {"fast", "slow"}
        # The refused address is an answer with an error status, which the console mentions.
        screen.complaints = [text for text in screen.complaints if "409" not in text]
    finally:
        stage.run(guest.stop())


def test_a_backend_that_dies_is_seen(stage: Stage, screen: Screen) -> None:
    """State and reason change on the card without a reload, and back."""
    page = screen.open("backends")
    slow = stage.engines[1]
    badge = page.locator(".card", has_text="seer-vision").locator(".badge").first
    slow.faults.set(Fault.REFUSE)
    try:
        expect(badge).to_contain_text("Unhealthy")
        told = stage.get("/admin/v1/backends/slow")
        expect(page.locator(".card", has_text="seer-vision")).to_contain_text(told["reason"])
    finally:
        slow.faults.clear()
    expect(badge).to_contain_text("Healthy")


def test_the_matrix_says_yes_no_and_unknown(stage: Stage, screen: Screen) -> None:
    """Every capability of every model on every backend is the API's, in words and by a sign."""
    page = screen.open("models")
    words = {True: ("✓", "yes"), False: ("✕", "no"), None: ("?", "unknown")}
    fields = ("vision", "tools", "json_mode", "embeddings", "reasoning")
    columns = [text.split("\n")[0] for text in page.locator(".matrix thead th").all_inner_texts()]
    seen: set[str] = set()
    for model in stage.get("/admin/v1/models")["data"]:
        row = page.locator(".matrix tbody tr").filter(
            has=page.locator("th .name", has_text=re.compile(f"^{re.escape(model['id'])}$"))
        )
        for entry in model["backends"]:
            cell = row.locator("th, td").nth(columns.index(entry["name"]))
            for item, field in zip(cell.locator(".caps li").all(), fields, strict=True):
                sign, word = words[entry["capabilities"][field]]
                seen.add(word)
                assert item.locator(".sign").inner_text() == sign
                assert (item.text_content() or "").endswith(f": {word}")
    assert seen == {"yes", "no", "unknown"}
    page.get_by_label("Filter models").fill("seer")
    expect(page.locator(".matrix tbody tr")).to_have_count(1)
    page.get_by_label("Filter models").fill("none of them")
    expect(page.locator(".matrix")).to_be_hidden()


def test_requests_are_listed_as_they_end(stage: Stage, screen: Screen) -> None:
    """A call is the first row within two seconds, with model, backend, reason and outcome."""
    page = screen.open("requests")
    answers = []
    row = page.locator("tbody tr").first
    took_s = quickest_s(
        screen,
        lambda: answers.append(stage.call("seer-vision", stream=True)),
        lambda: (
            answers[-1].headers["x-request-id"] in (row.locator("a").get_attribute("href") or "")
        ),
    )
    assert took_s < LIVE_S
    answer = answers[-1]
    text = row.inner_text()
    assert "seer-vision" in text
    assert answer.headers["x-nexus-backend"] in text
    assert answer.headers["x-nexus-route-reason"] in text
    assert "OK" in text
    assert "200" in text


def test_calls_of_one_request_id_are_all_shown(stage: Stage, screen: Screen) -> None:
    """A client that gives every call the same id has each of them listed."""
    page = screen.open("requests")
    same = {"x-request-id": "9b2f3c64-5e5c-4b8e-9a52-6f0f3a7b1c2d"}
    for _ in range(3):
        assert stage.call("solo", headers=same).headers["x-request-id"] == same["x-request-id"]
    page.get_by_label("Filter requests").fill(same["x-request-id"])
    expect(page.locator("tbody tr")).to_have_count(3)


def test_requests_are_filtered_and_held(stage: Stage, screen: Screen) -> None:
    """By text and outcome the list equals the history's; while paused nothing is added."""
    stage.call("solo")
    stage.call("nobody-has-this")
    page = screen.open("requests")
    rows = page.locator("tbody tr")
    page.get_by_label("Outcome").select_option("client_error")
    told = stage.get("/admin/v1/history?limit=1000&outcome=client_error")["data"]
    expect(rows).to_have_count(len(told))
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("Filter requests").fill("solo")
    told = stage.get("/admin/v1/history?limit=1000&model=solo")["data"]
    expect(rows).to_have_count(len(told))
    page.get_by_role("button", name="Pause").click()
    stage.call("solo")
    expect(page.locator(".stack > p.muted")).to_contain_text("Paused")
    page.wait_for_timeout(600)  # what must not happen has time to
    assert rows.count() == len(told)
    page.get_by_role("button", name="Resume").click()
    expect(rows).to_have_count(len(told) + 1)


def test_a_request_tells_why_this_backend(stage: Stage, screen: Screen) -> None:
    """After a failover: both attempts in order with what they came to, reason, facts, and the plan
    that the router would make now."""
    # Who is asked first is the router's choice: call until it was the one that fails once.
    stage.engines[0].faults.set(Fault.STATUS, count=1, status=503)
    answer = stage.call("common")
    while answer.headers["x-nexus-attempts"] != "2":
        answer = stage.call("common")
    request_id = answer.headers["x-request-id"]
    page = screen.open("requests")
    page.locator(f'tbody a[href$="{request_id}"]').click()
    told: Any = stage.get(f"/admin/v1/history/{request_id}")
    attempts = page.get_by_role("region", name="Attempts").locator("tbody tr")
    expect(attempts).to_have_count(2)
    for row, attempt in zip(attempts.all(), told["attempts"], strict=True):
        assert attempt["backend"] in row.inner_text()
    assert "503" in attempts.first.inner_text()
    expect(page.locator(".tag").first).to_have_text("failover")
    shown = facts(page.locator("section.panel", has_text="Facts").locator(".facts > div"))
    assert shown["Request id"] == request_id
    assert shown["Status"] == "200"
    assert number(shown["Tokens out"]) == told["tokens"]["completion"]
    candidates = page.get_by_role("region", name="Candidates").locator("tbody tr")
    expect(candidates).to_have_count(2)
    assert "chosen" in candidates.first.inner_text()


def test_a_request_that_is_not_kept(screen: Screen) -> None:
    """An address of old says so, and does not break."""
    page = screen.open("requests/00000000-0000-4000-8000-000000000000")
    expect(page.get_by_role("heading", name="Request not found")).to_be_visible()
    screen.complaints = [text for text in screen.complaints if "404" not in text]


def test_the_playground_chats(stage: Stage, screen: Screen) -> None:
    """An answer streams in, with who gave it; the link leads to why."""
    page = screen.open("playground")
    page.locator("#pg-model").select_option("common")
    page.locator("#pg-backend").select_option("slow")
    page.get_by_label("Message").fill("Why?")
    page.keyboard.press("Enter")
    facts_panel = page.get_by_label("Answer").locator(".facts > div")
    page.get_by_role("link", name="why this backend").wait_for()
    shown = facts(facts_panel)
    assert shown["Backend"] == "slow"
    assert shown["Engine"] == "ollama"
    assert shown["Attempts"] == "1"
    assert len(page.locator(".turn.assistant .words").inner_text()) > 10
    newest = stage.get("/admin/v1/history?limit=1")["data"][0]
    assert (
        shown["Tokens"] == f"{newest['tokens']['prompt']} in, {newest['tokens']['completion']} out"
    )
    page.get_by_role("link", name="why this backend").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("on slow")


def test_the_playground_stops(stage: Stage, screen: Screen) -> None:
    """Stop ends the stream, here and at the backend, and the next message can be sent."""
    slow = stage.engines[1]
    before = slow.profile.speed
    slow.profile.speed = Speed(ttft_s=0.0, tokens_per_s=20.0, tokens=2000)
    cancelled = slow.cancelled
    try:
        page = screen.open("playground")
        page.locator("#pg-model").select_option("seer-vision:latest")
        page.get_by_label("Message").fill("Tell me all")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".turn.assistant .words")).not_to_be_empty()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".turn.assistant")).to_contain_text("Stopped.")
        screen.until(lambda: slow.cancelled == cancelled + 1, "the engine is told")
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
    finally:
        slow.profile.speed = before


def test_the_playground_says_what_went_wrong(stage: Stage, screen: Screen) -> None:
    """An error answer is shown as its message."""
    page = screen.open("playground")
    page.locator("#pg-model").select_option("solo")
    stage.engines[0].faults.set(Fault.STATUS, count=1, status=400, body=b'{"error":"no such luck"}')
    page.get_by_label("Message").fill("Try")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn.assistant .notice")).to_contain_text("no such luck")
    screen.complaints = [text for text in screen.complaints if "400" not in text]
