"""What a fuzz target is, and the inputs that it begins from."""

from __future__ import annotations

from codecs import escape_decode
from collections.abc import Callable
from pathlib import Path

import msgspec

__all__ = ["Target", "corpus", "words"]

_HERE = Path(__file__).parent


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``run`` takes any bytes and raises when something is not as it must be. ``seeds`` are inputs
    to begin from, besides those in ``corpus/NAME``; ``blocks`` are put in by mutations, besides
    those in ``words/NAME.txt``."""

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...] = ()
    blocks: tuple[bytes, ...] = ()


def corpus(name: str) -> list[bytes]:
    """The inputs kept for a target: what it begins from, and whatever once broke something."""
    return [file.read_bytes() for file in sorted((_HERE / "corpus" / name).glob("*"))]


def words(name: str) -> list[bytes]:
    """What mutations for a target put in: a word a line, escapes as in Python."""
    file = _HERE / "words" / f"{name}.txt"
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [escape_decode(line)[0] for line in lines]
