"""What an engine answers, well or badly: each answer is a list of steps in time. Every piece of
text in it carries who said it, to whom, and its number, so that a mix of two answers shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from tests.simulation.mishaps import (
    CUT_WITHIN,
    DONE,
    ERROR,
    FINISH,
    GOOD,
    INTRUDER,
    OVERLOADED,
    RAW,
    STATUSES,
    Act,
)

__all__ = ["Question", "Reply", "Step", "make_reply"]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, SPEECH = "/v1/responses", "/v1/audio/speech"


Step = tuple[float, bytes | Act]
"""So many seconds after the step before: write this, or do that."""


@dataclass(frozen=True)
class Question:
    """A request as an engine read it."""

    nonce: str
    path: str
    model: str
    stream: bool
    http10: bool = False


@dataclass
class Reply:
    """An answer: its steps, and what a client is to see of it when it is ``good``."""

    mark: str
    kind: str
    steps: list[Step]
    good: bool = False
    relayed: bool = False
    """Whether this error is the client's to have."""
    body: bytes = b""
    pieces: int = 0
    says_more: bool = False
    """Whether bytes follow that belong to nothing."""
    same_bytes: bool = True
    """Whether a client gets the body byte for byte."""


def make_reply(
    kind: str, question: Question, mark: str, rng: Random, *, slow: bool = False
) -> Reply:
    """An answer of this ``kind``; ``"well"`` is the good one."""
    return _Maker(kind, question, mark, rng, slow).make()


class _Maker:
    def __init__(self, kind: str, question: Question, mark: str, rng: Random, slow: bool) -> None:
        self.kind = kind
        self.question = question
        self.rng = rng
        self.reply = Reply(mark=mark, kind=kind, steps=[])
        self.framing = rng.choice(("sized", "chunked", "chunked", "chunked", "to the end"))
        self.streams = question.stream and question.path != SPEECH
        self.slow = slow

    def make(self) -> Reply:
        kind, rng = self.kind, self.rng
        reply = self.reply
        if kind in STATUSES:
            return self._status(*STATUSES[kind])
        if kind in RAW:
            reply.steps = [(self._first_s(), RAW[kind]), (0.01, Act.FIN)]
            return reply
        if kind in ("reset at once", "close at once", "die at once", "stall at once"):
            reply.steps = [(self._first_s(), _act(kind))]
            return reply
        parts = self._parts()
        if kind == "well" or kind in GOOD:
            reply.good = True
        reply.body = b"".join(parts)
        head, parts = self._framed(parts)
        steps: list[Step] = [(self._first_s(), head)]
        steps += [(self._gap_s() if self.streams else 0.001, part) for part in parts]
        if self.framing == "to the end":
            steps.append((0.001, Act.FIN))
        if kind == "drip":
            steps = [step for one in steps for step in self._dripped(one)]
        elif kind == "late":
            steps[0] = (rng.choice((8.0, 14.0, 22.0, 35.0, 50.0)), head)
        elif kind == "interim answers":
            interim = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * rng.randint(1, 3)
            steps.insert(0, (0.01, interim))
        elif kind == "bytes after it":
            reply.says_more = True
            steps.append((rng.choice((0.0, 0.01)), INTRUDER))
        elif kind == "cut in the head":
            steps = [(steps[0][0], head[: rng.randint(1, len(head) - 2)]), (0.01, _cut(rng))]
        elif kind in ("cut after the head", "stall after the head", "die after the head"):
            steps = [steps[0], (rng.choice((0.01, 1.0)), _act(kind, rng))]
        elif kind in CUT_WITHIN:
            steps = self._cut_within(steps)
        reply.steps = steps
        return reply

    # --- what is said -------------------------------------------------------------------------

    def _texts(self) -> list[str]:
        rng = self.rng
        count = rng.choice((1, 2, 3, 6, 12)) if self.streams else rng.choice((1, 2, 4))
        long = rng.random() < 0.15
        if self.streams and rng.random() < 0.04:
            count, long = 60, True  # more than all buffers on the way hold
            self.slow = False
        self.reply.pieces = count
        return [
            f"<{self.reply.mark} {self.question.nonce} {number}>"
            + "x" * (rng.randint(200, 1200) if long else rng.randint(0, 40))
            for number in range(count)
        ]

    def _parts(self) -> list[bytes]:
        texts = self._texts()
        if self.question.path == SPEECH:
            return [text.encode() for text in texts]
        if not self.streams:
            return self._plain(texts)
        foreign = self.kind.startswith("other dialect") and self.question.path == CHAT
        events = self._lines(texts) if foreign else self._events(texts)
        if self.kind.startswith("comments"):
            comments = [b": processing\n\n"] * self.rng.randint(1, 3)
            events = comments if self.kind.endswith("cut") else comments + events
        return events

    def _plain(self, texts: list[str]) -> list[bytes]:
        text = "".join(texts)
        kind = self.kind
        document: dict[str, object] = {
            "id": self.reply.mark,
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": len(texts)},
        }
        if kind.startswith("other dialect") and self.question.path == CHAT:
            document = {"message": {"content": text}, "done": True, "done_reason": "stop"}
            self.reply.same_bytes = False
        if kind == "error first":
            document = ERROR
        elif kind == "overloaded first":
            document = OVERLOADED
        body = json.dumps(document).encode()
        if kind == "half of it":
            body = body[: len(body) // 2]
        elif kind == "not JSON":
            body = b"<html>" + text.encode()
        if kind in ("done first", "no finish", "done without finish", "error in the middle"):
            self.reply.good = True  # none of these is a thing of plain answers
        at = self.rng.randint(0, len(body))
        return [part for part in (body[:at], body[at:]) if part]

    def _events(self, texts: list[str]) -> list[bytes]:
        kind = self.kind
        responses = self.question.path == RESPONSES
        events = [_delta(text, responses) for text in texts]
        finish = _event({"type": "response.completed", "response": {}} if responses else FINISH)
        done = [] if responses else [DONE]
        error = _event(ERROR if kind != "overloaded first" else OVERLOADED)
        if kind in ("error first", "overloaded first"):
            return [error, *done]
        if kind == "done first":
            return [DONE]
        if kind == "not JSON":
            return [b"data: not json\n\n", *events]
        if kind == "error in the middle":
            at = self.rng.randint(1, len(events))
            return [*events[:at], error, *(done if self.rng.random() < 0.5 else [])]
        if kind == "half of it":
            return [*events, finish[: len(finish) // 2]]
        if kind == "no finish":
            return events
        if kind == "done without finish":
            return [*events, *(done or [])]
        if kind == "no done":
            self.reply.same_bytes = responses
            return [*events, finish]
        return [*events, finish, *done]

    def _lines(self, texts: list[str]) -> list[bytes]:
        self.reply.same_bytes = False
        lines: list[dict[str, object]] = [
            {"message": {"content": text}, "done": False} for text in texts
        ]
        lines.append({"message": {"content": ""}, "done": True, "done_reason": "stop"})
        return [json.dumps(line).encode() + b"\n" for line in lines]

    # --- how it is said -----------------------------------------------------------------------

    def _framed(self, parts: list[bytes]) -> tuple[bytes, list[bytes]]:
        """The head, and the parts in their framing."""
        rng, kind = self.rng, self.kind
        fields = ["server: simulated"]
        if self.streams:
            fields.append("content-type: text/event-stream")
        elif self.question.path == SPEECH:
            fields.append("content-type: audio/mpeg")
        else:
            fields.append("content-type: application/json")
        version = "1.1"
        if kind == "HTTP/1.0":
            version, self.framing = "1.0", "to the end"
        if kind in ("bytes after it", "two lengths") and self.framing == "to the end":
            self.framing = "sized"
        if kind == "bad chunk":
            self.framing = "chunked"
        if kind == "empty":
            parts = []
        if self.framing == "sized":
            size = sum(map(len, parts))
            fields.append(f"content-length: {size}")
            if kind == "two lengths":
                fields.append(f"content-length: {size + 1}")
        elif self.framing == "chunked":
            fields.append("transfer-encoding: chunked")
            parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
            if kind == "bad chunk":
                parts.insert(rng.randint(0, len(parts)), b"zz\r\nwhat\r\n")
            elif parts and rng.random() < 0.3:
                parts[-1] += b"0\r\n\r\n"
            else:
                parts.append(b"0\r\n\r\n")
        if rng.random() < 0.1:
            fields.append("connection: close")
        elif rng.random() < 0.1:
            fields.append("keep-alive: timeout=2")
        head = "\r\n".join((f"HTTP/{version} 200 OK", *fields, "", "")).encode()
        if parts and rng.random() < 0.3:
            head += parts.pop(0)
        return head, parts

    def _status(self, status: int, document: object, *fields: str) -> Reply:
        body = json.dumps(document).encode() if document is not None else b""
        head = f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n"
        head += "".join(f"{field}\r\n" for field in fields)
        reply = self.reply
        whole = head.encode() + b"\r\n" + body
        reply.relayed = self.kind in ("400", "408", "409")
        if self.kind == "500, cut":
            reply.steps = [(self._first_s(), whole[:-3]), (0.01, _cut(self.rng))]
        else:
            reply.steps = [(self._first_s(), whole)]
        return reply

    # --- when ---------------------------------------------------------------------------------

    def _first_s(self) -> float:
        return self.rng.choice((0.01, 0.05, 0.2, 1.0)) if not self.slow else 6.0

    def _gap_s(self) -> float:
        return self.rng.choice((0.0, 0.01, 0.05, 0.5)) if not self.slow else 2.5

    def _dripped(self, step: Step) -> list[Step]:
        delay_s, what = step
        if isinstance(what, Act):
            return [step]
        size = max(1, len(what) // 6)
        gap_s = self.rng.choice((0.02, 0.3))
        pieces = [what[at : at + size] for at in range(0, len(what), size)]
        return [(delay_s if at == 0 else gap_s, piece) for at, piece in enumerate(pieces)]

    def _cut_within(self, steps: list[Step]) -> list[Step]:
        at = self.rng.randint(1, max(1, len(steps) - 1))
        kept, what = steps[:at], steps[at][1] if at < len(steps) else b""
        if isinstance(what, bytes) and len(what) > 1:
            kept.append((0.01, what[: self.rng.randint(1, len(what) - 1)]))
        kept.append((self.rng.choice((0.0, 0.01, 1.0)), _act(self.kind, self.rng)))
        return kept


def _act(kind: str, rng: Random | None = None) -> Act:
    if kind.startswith("die"):
        return Act.DIE
    if kind.startswith("close"):
        return Act.FIN
    if kind.startswith("stall"):
        return Act.STALL
    return _cut(rng) if rng is not None else Act.RESET


def _cut(rng: Random) -> Act:
    return rng.choice((Act.FIN, Act.RESET))


def _event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _delta(text: str, responses: bool) -> bytes:
    if responses:
        return _event({"type": "response.output_text.delta", "delta": text})
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return _event({"choices": [choice]})
