"""The one place where the gateway's clock is put on a loop's virtual time, and where what would
depend on addresses in memory is made to depend on numbers: the same seed is the same run."""

from __future__ import annotations

import asyncio
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from nexus.http1.server import ServerConnection
from nexus.http1.upstream import UpstreamConnection
from nexus.proxy.exchange import Exchange
from tests.simulation.loop import START_S

__all__ = ["begin_run", "simulated_time", "sleep_machine"]

UNIX_S = 1_800_000_000.0
_numbers = count()
_slept_s = 0.0


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


def wall_s() -> float:
    """Unix time of the simulation."""
    return UNIX_S + asyncio.get_running_loop().time() - START_S + _slept_s


def sleep_machine(length_s: float) -> None:
    """The wall clock goes on by itself: the machine was asleep."""
    global _slept_s
    _slept_s += length_s


def begin_run() -> None:
    """Numbers and the wall clock begin anew."""
    global _numbers, _slept_s
    _numbers = count()
    _slept_s = 0.0


class NumberedConnection(ServerConnection):
    """A client's connection, the same but for its hash."""

    __slots__ = ("_number",)

    def __init__(self, *args: Any) -> None:
        self._number = next(_numbers)
        super().__init__(*args)

    def __hash__(self) -> int:
        return self._number


class _NumberedUpstream(UpstreamConnection):
    __slots__ = ("_number",)

    def __init__(self, *args: Any) -> None:
        self._number = next(_numbers)
        super().__init__(*args)

    def __hash__(self) -> int:
        return self._number


class _NumberedExchange(Exchange):
    def __init__(self, *args: Any) -> None:
        self._number = next(_numbers)
        super().__init__(*args)

    def __hash__(self) -> int:
        return self._number


_REAL: dict[object, Callable[[], float]] = {time.monotonic: _monotonic, time.time: wall_s}


@contextmanager
def simulated_time() -> Iterator[None]:
    """Everything in the gateway that reads a clock reads the running loop's; to be left before
    anything else runs in this process."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("nexus."):
                _take_clocks_from(module, stack)
        stack.enter_context(patch("nexus.http1.pool.UpstreamConnection", _NumberedUpstream))
        stack.enter_context(patch("nexus.proxy.plane.Exchange", _NumberedExchange))
        stack.enter_context(patch("nexus.http1.server.ServerConnection", NumberedConnection))
        yield


def _take_clocks_from(module: types.ModuleType, stack: ExitStack) -> None:
    for name, value in list(vars(module).items()):
        if isinstance(value, types.BuiltinFunctionType) and value in _REAL:
            stack.enter_context(patch.object(module, name, _REAL[value]))
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for method in vars(value).values():
                if isinstance(method, types.FunctionType):
                    _take_clocks_from_defaults(method, stack)


def _take_clocks_from_defaults(method: types.FunctionType, stack: ExitStack) -> None:
    """Clocks that are arguments with a default (``clock=time.monotonic``)."""
    if method.__defaults__ and any(_is_clock(one) for one in method.__defaults__):
        changed = tuple(_REAL[one] if _is_clock(one) else one for one in method.__defaults__)
        stack.enter_context(patch.object(method, "__defaults__", changed))
    keywords = method.__kwdefaults__
    if keywords and any(_is_clock(one) for one in keywords.values()):
        changed_keywords = {
            name: _REAL[one] if _is_clock(one) else one for name, one in keywords.items()
        }
        stack.enter_context(patch.object(method, "__kwdefaults__", changed_keywords))


def _is_clock(value: object) -> bool:
    return isinstance(value, types.BuiltinFunctionType) and value in _REAL
