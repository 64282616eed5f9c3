"""A configuration as it may be shown (behaviour § 11): names of secrets, never secrets."""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.config.schema import Config

__all__ = ["MASK", "masked"]

MASK = "***"


def masked(config: Config) -> dict[str, Any]:
    """All values as plain data, ready for JSON.

    Values of headers and query parameters, and the query of a URL, often are keys: they read
    ``***``. Variables and files that hold keys are shown by name.
    """
    shown: dict[str, Any] = msgspec.to_builtins(config)
    for backend in shown["backends"]:
        backend["headers"] = dict.fromkeys(backend["headers"], MASK)
        backend["query"] = dict.fromkeys(backend["query"], MASK)
        address, mark, _ = backend["url"].partition("?")
        backend["url"] = f"{address}{mark}{MASK}" if mark else address
    return shown
