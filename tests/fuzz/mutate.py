"""Inputs out of inputs, by chance alone: the same seed makes the same ones on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

__all__ = ["Mutator"]

_BYTES_MAX = 4096
_NUMBERS = (b"0", b"-1", b"+1", b"1e999", b"00", b"65536", b"4294967296", b"9223372036854775808")
_BLOCK_MAX = 64
_TOKEN = re.compile(rb'"[^"\n]*"|[A-Za-z0-9_.-]+')


class Mutator:
    """Makes one input after the other out of ``seeds`` and ``words``; now and then wild bytes."""

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], rng: Random) -> None:
        self._seeds = list(seeds) or [b""]
        self._words = [*words, *_NUMBERS]
        self._rng = rng
        self._changes: tuple[Callable[[bytearray], None], ...] = (
            self._put_word,
            self._replace_token,
            self._replace_token,
            self._replace_token,
            self._put_byte,
            self._change_byte,
            self._flip_bit,
            self._cut,
            self._repeat,
            self._splice,
        )

    def next(self) -> bytes:
        """One more input."""
        rng = self._rng
        if rng.random() < 0.02:
            return rng.randbytes(rng.randrange(200))
        data = bytearray(rng.choice(self._seeds))
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 2, 4, 9))):
            rng.choice(self._changes)(data)
        return bytes(data[:_BYTES_MAX])

    def _at(self, data: bytearray) -> int:
        return int(self._rng.random() * (len(data) + 1))

    def _put_word(self, data: bytearray) -> None:
        at = self._at(data)
        end = at + self._rng.choice((0, 0, 1, 4))
        data[at:end] = self._rng.choice(self._words)

    def _replace_token(self, data: bytearray) -> None:
        """A name, number or string gives way to another of the input, or to a word: what comes out
        is more often well-formed than what bytes at random places leave."""
        tokens = [found.span() for found in _TOKEN.finditer(data)]
        if not tokens:
            return
        start, end = self._rng.choice(tokens)
        low, high = self._rng.choice(tokens)
        other = data[low:high]
        data[start:end] = other if self._rng.random() < 0.6 else self._rng.choice(self._words)

    def _put_byte(self, data: bytearray) -> None:
        data.insert(self._at(data), self._rng.randrange(256))

    def _change_byte(self, data: bytearray) -> None:
        at = self._at(data)
        data[at : at + 1] = bytes((self._rng.randrange(256),))

    def _flip_bit(self, data: bytearray) -> None:
        if data:
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _cut(self, data: bytearray) -> None:
        at = self._at(data)
        end = len(data) if self._rng.random() < 0.2 else at + self._rng.randrange(1, _BLOCK_MAX)
        del data[at:end]

    def _repeat(self, data: bytearray) -> None:
        at = self._at(data)
        block = data[at : at + self._rng.randrange(1, _BLOCK_MAX)]
        times = 200 if self._rng.random() < 0.02 else self._rng.randrange(1, 4)
        data[at:at] = (block * times)[:_BYTES_MAX]

    def _splice(self, data: bytearray) -> None:
        other = self._rng.choice(self._seeds)
        data[self._at(data) :] = other[int(self._rng.random() * (len(other) + 1)) :]
