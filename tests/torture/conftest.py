"""One gateway for all cases of a file: what one case leaves behind is what the next one finds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.torture.stage import Stage, staged


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """asyncio on uvloop, as everywhere, and one loop for the whole file."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def whole_stage() -> AsyncIterator[Stage]:
    """The gateway and its backends, at rest in the end."""
    async with staged() as stage:
        yield stage


@pytest.fixture
async def stage(whole_stage: Stage) -> AsyncIterator[Stage]:
    """The stage for one case, in order before and after it."""
    await whole_stage.in_order()
    yield whole_stage
    await whole_stage.in_order()
