"""The parts of the page that only compute: values in, values out, in the browser that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.stage import Screen, Stage


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Screen]:
    """A page of a gateway without backends."""
    with (
        Stage(tmp_path_factory.mktemp("modules")) as stage,
        Screen(browser, stage.url) as screen,
    ):
        screen.open()
        yield screen
        assert screen.complaints == []


NONE = "\u2013"


def run(screen: Screen, module: str, code: str, argument: Any = None) -> Any:
    """What ``code`` (the body of a function of ``m``, the module, and ``x``) returns."""
    return screen.page.evaluate(
        f"async x => {{ const m = await import('/dashboard/{module}.js'); {code} }}", argument
    )


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("ms(0)", "0 ms"),
        ("ms(0.44)", "0.4 ms"),
        ("ms(84.4)", "84 ms"),
        ("ms(999.4)", "999 ms"),
        ("ms(1240)", "1.24 s"),
        ("ms(59900)", "59.9 s"),
        ("ms(125000)", "2 m 5 s"),
        ("ms(null)", NONE),
        ("ms(NaN)", NONE),
        ("rate(0)", "0"),
        ("rate(0.21)", "0.2"),
        ("rate(1234.5)", "1,235"),
        ("percent(0)", "0 %"),
        ("percent(0.004)", "0.4 %"),
        ("percent(1)", "100 %"),
        ("tokens(131072)", "128k"),
        ("tokens(128000)", "128k"),
        ("tokens(512)", "512"),
        ("tokens(null)", NONE),
        ("count(1234567)", "1,234,567"),
        ("count('<b>')", NONE),
        ("bytes(999)", "999 B"),
        ("bytes(8900)", "8.9 kB"),
        ("bytes(4.1e9)", "4.1 GB"),
        ("span(59.9)", "59 s"),
        ("span(11520)", "3 h 12 m"),
        ("span(187200)", "2 d 4 h"),
        ("plain('a\\u202eb\\u0000c\\nd')", "a\ufffdb\ufffdc\ufffdd"),
        ("plain(null)", ""),
    ],
)
def test_numbers_and_names_are_shown_as_people_read_them(
    screen: Screen, call: str, shown: str
) -> None:
    """Rounded with sense, never with more digits than they are worth; the unknown is a dash."""
    assert run(screen, "format", f"return m.{call}") == shown


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_survive_any_cut(screen: Screen, size: int) -> None:
    """However a stream is cut into reads, within lines, endings or letters, its events are the
    same; comments and other fields are skipped."""
    text = (
        ': hi\r\n\r\ndata: {"a":"ä€😀"}\n\nevent: x\ndata:one\rdata: two\r\r\ndata: [DONE]\r\n\r\n'
    )
    events = run(
        screen,
        "sse",
        """const bytes = new TextEncoder().encode(x.text);
        const body = new ReadableStream({start(control) {
            for (let i = 0; i < bytes.length; i += x.size)
                control.enqueue(bytes.slice(i, i + x.size));
            control.close();
        }});
        const seen = [];
        for await (const data of m.sseEvents(body)) seen.push(data);
        return seen;""",
        {"text": text, "size": size},
    )
    assert events == ['{"a":"ä€😀"}', "one\ntwo", "[DONE]"]


def test_calls_become_means_per_second(screen: Screen) -> None:
    """A point is the mean of five seconds; before what is known there is nothing, not zero; plain
    answers have no first token; what is too old is forgotten."""
    seen = run(
        screen,
        "series",
        """const series = new m.Series();
        series.knownSince(1000, false);
        for (let i = 0; i < 10; i += 1) series.add({
            outcome: i ? "ok" : "timeout", stream: i % 2 === 0, ttft_ms: 100 + i,
            tokens: i < 5 ? {completion: 10} : {completion: null, estimated: 5},
        }, 1010.5);
        const {times, calls, failed, tokens, p50, p95} = series.columns(1016.2);
        const at = time => times.indexOf(time);
        const before = calls[at(999)], first = calls[at(1000)];
        const point = [calls, failed, tokens, p50, p95].map(column => column[at(1010)]);
        const after = calls[at(1015)], last = times[times.length - 1];
        series.trim(1400);
        return {before, first, point, after, last, left: series.seconds.size};""",
    )
    assert seen == {
        "before": None,
        "first": 0,
        "point": [2, 0.2, 15, 104, 108],
        "after": 0,
        "last": 1015,
        "left": 0,
    }


def test_the_rate_of_a_young_gateway_is_over_its_life(screen: Screen) -> None:
    """In its first seconds the mean is over those there were."""
    rate = run(
        screen,
        "series",
        """const series = new m.Series();
        series.knownSince(1000, false);
        series.add({outcome: "ok"}, 1001);
        return series.point(1001, 10).calls;""",
    )
    assert rate == 0.5


def test_percentiles_are_those_of_the_statistics(screen: Screen) -> None:
    """Nearest rank, as the admin API has it."""
    code = "return [0.5, 0.95, 1].map(share => m.percentile(x, share));"
    assert run(screen, "series", code, [5, 1, 3]) == [3, 5, 5]
    assert run(screen, "series", code, [7]) == [7, 7, 7]
    assert run(screen, "series", code, []) == [None, None, None]


def test_a_list_is_updated_in_place(screen: Screen) -> None:
    """What stays in a list keeps its node, and with it the focus; order and content follow."""
    seen = run(
        screen,
        "dom",
        """const list = document.createElement("ul");
        document.body.append(list);
        const show = items => m.keyed(list, items, item => item.id,
            () => m.h("li", {tabindex: "0"}), (node, item) => m.setText(node, item.text));
        show([{id: 1, text: "a"}, {id: 2, text: "b"}, {id: 3, text: "c"}]);
        list.children[1].focus();
        const kept = list.children[1];
        show([{id: 4, text: "d"}, {id: 2, text: "B"}, {id: 2, text: "twice"}, {id: 1, text: "A"}]);
        const told = {text: list.textContent, same: list.children[1] === kept,
            focused: document.activeElement === kept};
        show([]);
        told.left = list.children.length;
        list.remove();
        return told;""",
    )
    assert seen == {"text": "dBA", "same": True, "focused": True, "left": 0}
