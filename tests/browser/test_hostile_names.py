"""Names of models and backends are strangers' text: they do not run, mislead or break the page.

The same fleet is used to show that every view fits a phone and a dark room: whatever fits with
these names fits with others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from nexus.demo.engine import FakeEngine
from tests.browser.stage import Screen, Stage

IMAGE = "<img src=x onerror=window.pwned=1>"
SCRIPT = "</script><script>window.pwned=1</script>"
MARKUP = "\"'><svg onload=window.pwned=1>&lt;b&gt;"
RIGHT_TO_LEFT = "safe\u202egnp.exe"
HEBREW = "\u05e9\u05dc\u05d5\u05dd-model"
LONG = "x" * 900
FORMULA = "javascript:window.pwned=1"
MODELS = (IMAGE, SCRIPT, MARKUP, RIGHT_TO_LEFT, HEBREW, LONG, FORMULA)
VIEWS = ("overview", "backends", "models", "requests", "playground")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Engines whose names and models are as bad as the gateway lets them be."""
    engines = [
        FakeEngine(name=IMAGE, models=MODELS),
        FakeEngine(name=LONG[:128], models=("plain", *MODELS[:3])),
        FakeEngine(name=HEBREW, dialect="llamacpp", models=("plain",)),
    ]
    with Stage(tmp_path_factory.mktemp("hostile"), engines) as stage:
        for model in MODELS:
            stage.call(model)
            stage.call(model + "?")
        yield stage


@pytest.fixture(scope="module")
def page_of_all(stage: Stage, browser: Browser) -> Iterator[Screen]:
    """One page for all tests here: views begin anew when they are opened."""
    with Screen(browser, stage.url) as screen:
        yield screen


@pytest.fixture
def screen(page_of_all: Screen) -> Iterator[Screen]:
    """That page, on which nothing may run that is not ours."""
    yield page_of_all
    assert page_of_all.page.evaluate("window.pwned") is None
    assert page_of_all.complaints == []
    assert page_of_all.strangers == []


@pytest.fixture
def phone(stage: Stage, browser: Browser) -> Iterator[Screen]:
    """A small phone."""
    with Screen(browser, stage.url, viewport={"width": 360, "height": 740}) as screen:
        yield screen
        assert screen.complaints == []


def drawn(screen: Screen, view: str) -> None:
    """Opens a view and waits until it is filled."""
    screen.open(view)
    marks = {
        "overview": ".fleet li",
        "backends": ".card",
        "models": ".matrix tbody tr",
        "requests": "tbody tr",
        "playground": "#pg-model option",
    }
    screen.page.locator(marks[view]).first.wait_for(state="attached")


def test_names_are_text(screen: Screen) -> None:
    """In no view does a name become markup; it is shown as it is."""
    for view in VIEWS:
        drawn(screen, view)
        text = screen.page.locator("main").evaluate("node => node.textContent")
        assert IMAGE in text, view
        assert screen.page.locator("main img, main script, main iframe").count() == 0, view
        assert screen.page.locator("[onerror], [onload], [style*=url]").count() == 0, view
        assert screen.page.locator('a[href^="javascript"]').count() == 0, view


def test_a_requests_page_is_text(stage: Stage, screen: Screen) -> None:
    """So it is on the page of one request, its plan and its error included."""
    for model in (SCRIPT, IMAGE + "?"):
        found = stage.get("/admin/v1/history?limit=1000")["data"]
        request_id = next(row["request_id"] for row in found if row["model"] == model)
        page = screen.open(f"requests/{request_id}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(model)
        expect(page.locator(".plan")).to_be_visible()
        assert page.locator("main img, main script").count() == 0


def test_the_direction_of_reading_is_not_turned(screen: Screen) -> None:
    """A mark that turns the reading direction is shown as a sign, so that a name reads as it is."""
    drawn(screen, "models")
    text = screen.page.locator("main").evaluate("node => node.textContent")
    assert "\u202e" not in text
    assert "safe\ufffdgnp.exe" in text
    assert HEBREW in text


def test_an_answer_is_text(stage: Stage, screen: Screen) -> None:
    """What a model says is shown, not run; who answered too."""
    stage.engines[0].profile.answer = f"{IMAGE} {SCRIPT}"
    page = screen.open("playground")
    page.locator("#pg-model").select_option(IMAGE)
    page.locator("#pg-backend").select_option(IMAGE)
    page.get_by_label("Message").fill(IMAGE)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("link", name="why this backend").wait_for()
    assert IMAGE in screen.text(".turn.assistant .words")
    assert page.locator("main img, main script").count() == 0


def test_an_api_that_lies_does_no_harm(stage: Stage, screen: Screen) -> None:
    """Markup in any text of the admin API's answers stays text."""
    told: dict[str, Any] = stage.get("/admin/v1/backends")
    for backend in told["data"]:
        for field in ("name", "url", "engine", "engine_version", "reason", "zone", "status"):
            backend[field] = f"{backend[field]}{IMAGE}"
        backend["source"] = "constructor"
        backend["last_check"]["error"] = SCRIPT
    screen.page.route("**/admin/v1/backends", lambda route: route.fulfill(json=told))
    drawn(screen, "backends")
    first = screen.page.locator(".card").first
    screen.until(lambda: first.inner_text().count("<img") >= 4, "what the API says is shown")
    assert screen.page.locator("main img, main script").count() == 0
    screen.page.unroute("**/admin/v1/backends")


def test_a_phone_need_not_scroll_sideways(phone: Screen) -> None:
    """At 360 pixels no view is wider than the window, however long the names."""
    for view in VIEWS:
        drawn(phone, view)
        assert phone.wider_than_the_window() == 0, view
        nav = phone.page.locator("nav")
        assert nav.evaluate("node => node.scrollWidth - node.clientWidth") <= 1, view


def test_a_phone_shows_a_request(stage: Stage, phone: Screen) -> None:
    """Nor is the page of one request."""
    request_id = stage.get("/admin/v1/history?limit=1&model=" + LONG)["data"][0]["request_id"]
    phone.open(f"requests/{request_id}")
    phone.page.locator(".plan").wait_for()
    assert phone.wider_than_the_window() == 0


def test_a_wide_screen_is_not_exceeded(screen: Screen) -> None:
    """Nor at desktop width."""
    for view in VIEWS:
        drawn(screen, view)
        assert screen.wider_than_the_window() == 0, view


def luminance(colour: str) -> float:
    """Of ``rgb(r, g, b)``, by WCAG 2.2."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


CONTRASTS = """() => {
    const opaque = node => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)" && colour !== "transparent") return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = new Map();
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
        const pair = [getComputedStyle(node).color, opaque(node)];
        found.set(pair.join(), [...pair, node.className || node.tagName]);
    }
    return [...found.values()];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(stage: Stage, browser: Browser, scheme: str) -> None:
    """In both themes every text stands out by at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    with Screen(browser, stage.url, color_scheme=scheme) as screen:
        for view in VIEWS:
            drawn(screen, view)
            for text, ground, where in screen.page.evaluate(CONTRASTS):
                light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
                ratio = (light + 0.05) / (dark + 0.05)
                assert ratio >= 4.5, (view, where, text, ground, round(ratio, 2))


def test_the_theme_is_chosen_and_kept(stage: Stage, browser: Browser) -> None:
    """The system's wish is followed until another is chosen, which a reload keeps."""
    with Screen(browser, stage.url, color_scheme="dark") as screen:
        page = screen.open()

        def ground() -> float:
            return luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))

        assert ground() < 0.05
        page.get_by_role("button", name="Theme: system").click()
        assert page.get_by_role("button", name="Theme: light").is_visible()
        assert ground() > 0.8
        page.reload()
        assert ground() > 0.8
        page.get_by_role("button", name="Theme: light").click()
        page.get_by_role("button", name="Theme: dark").click()
        assert ground() < 0.05
        assert screen.complaints == []


@pytest.fixture
def fresh(stage: Stage, browser: Browser) -> Iterator[Screen]:
    """A page where nobody has clicked yet."""
    with Screen(browser, stage.url) as screen:
        yield screen
        assert screen.complaints == []


def test_the_keyboard_reaches_everything(fresh: Screen) -> None:
    """Tab begins at the link to the content, what has focus shows it, Enter opens a view and the
    focus goes there."""
    page = fresh.open("overview")
    page.locator(".fleet li").first.wait_for()
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"{focused}.textContent.trim()"))
        outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
        assert outline not in ("none", ""), reached[-1]
    assert reached[:6] == ["Nexus", "Overview", "Backends", "Models", "Requests", "Playground"]
    page.locator("nav a", has_text="Backends").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Backends", level=1)).to_be_visible()
    assert page.evaluate(f"{focused}.id") == "main"
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused}.textContent") == "Drain":
            break
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_screen_readers_find_their_way(screen: Screen) -> None:
    """One main part, one banner, a named navigation with the present view marked, one first-level
    heading per view, tables with headers, every control with a name, a polite live region."""
    for view in VIEWS:
        drawn(screen, view)
        page = screen.page
        for role in ("main", "banner", "navigation", "contentinfo"):
            assert page.get_by_role(role).count() == 1, (view, role)
        assert page.get_by_role("heading", level=1).count() == 1, view
        current = page.locator("nav a[aria-current=page]")
        assert current.inner_text().lower() == view
        assert page.title() == f"{current.inner_text()} · Nexus"
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, a[href]")]
            .filter(node => node.checkVisibility() && !node.textContent.trim()
                && !node.labels?.length && !node.getAttribute("aria-label")).length"""
        )
        assert unnamed == 0, view
        for table in page.get_by_role("table").all():
            assert table.locator("caption").count() == 1
            assert table.get_by_role("columnheader").count() >= 2
    assert screen.page.locator("#announce[aria-live=polite]").count() == 1
    assert screen.page.locator("html[lang=en]").count() == 1
