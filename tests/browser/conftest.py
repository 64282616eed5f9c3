"""The browser that these tests share; without one they are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.stage import CHROMIUM, launched

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs the browser where there is none."""
    if CHROMIUM is not None:
        return
    skip = pytest.mark.skip(reason="needs chromium (Debian: apt-get install chromium)")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser per module: its loop must be gone before another module's async tests."""
    with launched() as browser:
        yield browser
