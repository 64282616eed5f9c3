"""Fixtures of other folders that are needed here too."""

from __future__ import annotations

import pytest

from tests.network.conftest import network
from tests.real.conftest import llamacpp_server, nexus_server, servers, tiny_gguf

__all__ = ["llamacpp_server", "network", "nexus_server", "servers", "tiny_gguf"]


@pytest.fixture(autouse=True)
def _quiet_client(caplog: pytest.LogCaptureFixture) -> None:
    """What the test's own client says of each request would bury the figures."""
    caplog.set_level("WARNING", "httpx")
