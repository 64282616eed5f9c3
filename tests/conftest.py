"""What every test shares: async tests run on uvloop, as the product does."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """asyncio on uvloop: the data plane requires it (traps: uvloop)."""
    return "asyncio", {"use_uvloop": True}
