"""The gateway and its engine as fixtures."""

from tests.integration.http.wire import engine, gateway

__all__ = ["engine", "gateway"]
