"""Writes the pictures of the dashboard in ``docs/images/``: ``make screenshots``.

A made-up fleet under traffic for about a minute, seen by a real browser: each view light and dark
on a desk's screen, and some on a phone.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.browser.stage import CHROMIUM, Screen, Stage, launched

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESK = {"width": 1280, "height": 720}
PHONE = {"width": 360, "height": 740}
TRAFFIC_S = 75
KEPT_BYTES_MAX = 150_000


def fleet() -> list[FakeEngine]:
    """Four engines of four kinds, as somebody might have them at home."""
    return [
        FakeEngine(
            dialect="vllm",
            name="gpu-server",
            models=("llama-3.3-70b", "qwen3-32b"),
            settings=Speed(ttft_s=0.11, tokens_per_s=90, tokens=60),
            context_length=131_072,
        ),
        FakeEngine(
            dialect="ollama",
            name="mac-studio",
            models=("gemma3:27b-vision", "qwen3-32b", "nomic-embed-text"),
            settings=Speed(ttft_s=0.31, tokens_per_s=42, tokens=40),
            context_length=32_768,
        ),
        FakeEngine(
            dialect="llamacpp",
            name="workstation",
            models=("llama-3.3-70b",),
            settings=Speed(ttft_s=0.42, tokens_per_s=35, tokens=40),
            context_length=16_384,
        ),
        FakeEngine(dialect="openai", name="old-laptop", models=("phi-4",)),
    ]


class Life:
    """What goes on while the pictures are taken: traffic of changing speed, a failure now and
    then."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._rng = random.Random(7)

    def mishap(self) -> None:
        """One call fails at its first backend."""
        self._stage.engines[0].faults.set(Fault.STATUS, count=1, status=503)

    def pause(self) -> None:
        """The first engine slows down or recovers."""
        speed = Speed(ttft_s=self._rng.uniform(0.08, 0.2), tokens_per_s=90, tokens=60)
        self._stage.engines[0].profile.speed = speed


def shoot(page: Page, name: str) -> None:
    """One picture, small enough for the repository."""
    page.wait_for_timeout(1200)  # bars and charts have come to rest
    page.mouse.move(0, 0)
    path = IMAGES / f"dashboard-{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    assert size < KEPT_BYTES_MAX, f"{path} has {size} bytes"


def views(stage: Stage, screen: Screen, suffix: str, names: tuple[str, ...]) -> None:
    """Pictures of some views."""
    page = screen.page
    for name in names:
        if name == "request":
            screen.open("requests")
            page.locator("tbody tr", has_text="failover").first.locator("a").click()
            page.locator(".plan").wait_for()
        else:
            screen.open(name)
        if name == "playground":
            page.locator("#pg-model").select_option("qwen3-32b")
            page.get_by_label("Message").fill("Which of my machines answers this?")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="why this backend").wait_for()
        shoot(page, f"{name}-{suffix}")


def main() -> int:
    """Takes them all."""
    if CHROMIUM is None:
        sys.stderr.write("screenshots: needs chromium (Debian: apt-get install chromium)\n")
        return 1
    models = ("llama-3.3-70b", "llama-3.3-70b", "qwen3-32b", "gemma3:27b-vision")
    every = ("overview", "backends", "models", "requests", "request", "playground")
    with (
        tempfile.TemporaryDirectory() as folder,
        Stage(Path(folder), fleet()) as stage,
        launched() as browser,
    ):
        life = Life(stage)
        stage.run(stage.engines[3].stop())
        with stage.traffic(*models, pause_s=0.25), Screen(browser, stage.url) as watcher:
            watcher.open()
            for second in range(TRAFFIC_S):
                watcher.page.wait_for_timeout(1000)
                if second % 7 == 3:
                    life.mishap()
                if second % 5 == 0:
                    life.pause()
                if second % 20 == 10:
                    stage.call("gpt-99")
            for suffix, size, scheme, names in (
                ("light", DESK, "light", every),
                ("dark", DESK, "dark", every),
                ("phone", PHONE, "light", ("overview", "backends", "requests", "request")),
            ):
                life.mishap()
                with Screen(browser, stage.url, viewport=size, color_scheme=scheme) as screen:
                    views(stage, screen, suffix, names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
