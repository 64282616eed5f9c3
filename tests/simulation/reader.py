"""Reads a gateway's answers as strictly as a client may: what is not HTTP/1.1 to the letter is a
fault of ours."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Answer", "AnswerReader", "Malformed"]

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*")
_FIELD = re.compile(rb"([!#-'*+\-.0-9A-Z^-z|~]+): ?([ -~]*)")


class Malformed(Exception):  # noqa: N818 - said of the gateway
    """The gateway sent something that is no answer."""


@dataclass
class Answer:
    """One answer, as far as it came."""

    status: int = 0
    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    """Whether its framing said that it is."""
    torn: bytes = b""
    """The end of a chunk that ended within an event, if one did."""
    by_end: bool = False
    """Whether only the connection's end ends it."""


class AnswerReader:
    """Takes bytes as they come; ``answers`` are whole but perhaps the last."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._rest = b""
        self._left: int | None = None
        """Bytes of the body, or of the chunk, that are still to come."""
        self._step = self._head

    def feed(self, data: bytes) -> None:
        """Raises :class:`Malformed`."""
        self._rest += data
        while self._step():
            pass

    def end(self) -> None:
        """The connection ended. Raises :class:`Malformed` if it ended within a head."""
        if self._step == self._head:
            if self._rest:
                raise Malformed(f"ended within a head: {self._rest[:80]!r}")
        elif self.answers[-1].by_end:
            self.answers[-1].whole = True

    @property
    def between(self) -> bool:
        """Whether no answer has begun that is not whole."""
        return self._step == self._head and not self._rest

    def _head(self) -> bool:
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if not found:
            return False
        self._rest = rest
        lines = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(lines[0])
        if status is None:
            raise Malformed(f"no status line: {lines[0][:80]!r}")
        if status[1] == b"100":
            return True
        answer = Answer(int(status[1]))
        for line in lines[1:]:
            match = _FIELD.fullmatch(line)
            if match is None or match[1].lower() in answer.fields:
                raise Malformed(f"bad or repeated field: {line[:80]!r}")
            answer.fields[match[1].lower()] = match[2]
        self.answers.append(answer)
        length = answer.fields.get(b"content-length")
        coding = answer.fields.get(b"transfer-encoding")
        if length is not None and coding is not None:
            raise Malformed("both a length and a coding")
        if coding is not None:
            self._step = self._chunk
        elif length is not None:
            self._left = int(length)
            self._step = self._sized
        else:
            answer.by_end = True
            self._step = self._to_the_end
        return True

    def _sized(self) -> bool:
        assert self._left is not None
        taken = self._rest[: self._left]
        self._rest = self._rest[len(taken) :]
        self._left -= len(taken)
        answer = self.answers[-1]
        answer.body += taken
        if self._left:
            return False
        answer.whole = True
        self._step = self._head
        return bool(self._rest)

    def _to_the_end(self) -> bool:
        self.answers[-1].body += self._rest
        self._rest = b""
        return False

    def _chunk(self) -> bool:
        line, found, rest = self._rest.partition(b"\r\n")
        if not found:
            return False
        if not re.fullmatch(rb"[0-9a-f]+", line):
            raise Malformed(f"no chunk size: {line[:80]!r}")
        size = int(line, 16)
        if len(rest) < size + 2:
            return False
        if rest[size : size + 2] != b"\r\n":
            raise Malformed("a chunk is longer than it says")
        answer = self.answers[-1]
        if answer.fields.get(b"content-type") == b"text/event-stream" and size:
            chunk = rest[:size]
            answer.torn = answer.torn or (b"" if chunk.endswith(b"\n\n") else chunk[-60:])
        answer.body += rest[:size]
        self._rest = rest[size + 2 :]
        if size == 0:
            answer.whole = True
            self._step = self._head
        return bool(self._rest)
