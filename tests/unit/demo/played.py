"""A dialect of the fake engine asked without a socket, as a check or a client would."""

from __future__ import annotations

from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.reply import Plain
from nexus.demo.table import DIALECTS, DialectName
from nexus.engines.adapter import Answer, Ask

__all__ = ["MODELS", "Played"]

MODELS = ("demo-llama", "demo-vision", "demo-embed")


class Played:
    """A dialect asked without a socket."""

    def __init__(self, dialect: DialectName, models: tuple[str, ...] = MODELS) -> None:
        self.profile = Profile(models=models, context_length=4096, slots=3)
        self._dialect = DIALECTS[dialect](self.profile)

    def __call__(self, ask: Ask) -> Answer:
        path, _, query = ask.path.partition("?")
        method = "GET" if ask.body is None else "POST"
        request = SeenRequest(method, path, query, [], ask.body or b"", 1)
        reply = self._dialect.answer(request)
        assert isinstance(reply, Plain)
        own = [line.partition(": ") for line in self._dialect.style.own.splitlines()]
        headers = {name.lower(): value for name, _, value in own}
        headers["content-type"] = reply.content_type
        return Answer(status=reply.status, body=reply.body, headers=headers)
