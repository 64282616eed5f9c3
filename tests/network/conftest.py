"""Networks for tests, where the system can make them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.network.namespaces import Network, why_no_namespaces

_reason = cache(why_no_namespaces)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need network namespaces (root, or the capabilities to make them)."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.network)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A network of its own for one test."""
    if reason := _reason():
        pytest.skip(reason)
    with Network(tmp_path) as made:
        yield made
