"""Host names of backends, resolved without making anybody wait."""

from __future__ import annotations

import asyncio
import socket

import pytest

from nexus.runtime import resolving
from nexus.runtime.resolving import Resolver
from tests.harness import eventually


async def test_literals_need_no_asking() -> None:
    """They are their own addresses; ``localhost`` is both loopback addresses."""
    asked: list[str] = []

    async def resolve(host: str) -> list[str]:
        asked.append(host)
        return []

    names = Resolver(30.0, resolve)
    await names.learn(["10.0.0.1", "::1", "localhost"])
    assert asked == []
    assert names.addresses_of("10.0.0.1") == ("10.0.0.1",)
    assert names.addresses_of("localhost") == ("127.0.0.1", "::1")


async def test_names_are_asked_once_while_fresh() -> None:
    """Each address once; unknown before."""
    asked: list[str] = []

    async def resolve(host: str) -> list[str]:
        asked.append(host)
        return ["10.0.0.1", "10.0.0.1", "fd00::1"]

    names = Resolver(30.0, resolve)
    assert names.addresses_of("gpu.local") == ()
    await names.learn(["gpu.local", "gpu.local"])
    await names.learn(["gpu.local"])
    assert names.addresses_of("gpu.local") == ("10.0.0.1", "fd00::1")
    assert asked == ["gpu.local"]
    stale = Resolver(0.0, resolve)
    await stale.learn(["gpu.local"])
    await stale.learn(["gpu.local"])
    assert len(asked) == 3


async def test_a_slow_answer_is_not_waited_for_but_remembered() -> None:
    """As mDNS names of machines that are off are."""
    answer = asyncio.Event()

    async def resolve(host: str) -> list[str]:
        await answer.wait()
        return ["10.0.0.1"]

    names = Resolver(30.0, resolve)
    async with asyncio.timeout(10 * resolving._WAIT_S):
        await names.learn(["slow.local"])
    assert names.addresses_of("slow.local") == ()
    answer.set()
    await eventually(lambda: names.addresses_of("slow.local"), "remembered")
    names.close()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("too long")])
async def test_what_cannot_be_resolved(error: Exception) -> None:
    """Is at no address, and raises nothing."""

    async def resolve(host: str) -> list[str]:
        raise error

    names = Resolver(30.0, resolve)
    await names.learn(["gpu.local"])
    assert names.addresses_of("gpu.local") == ()
