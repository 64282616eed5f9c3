"""What a fake engine pretends to be: its models, its abilities, its speed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["Profile", "SeenRequest", "Speed"]


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast answers come.

    ``ttft_s`` passes before the first event of a stream, ``tokens_per_s`` paces the rest (0: as
    fast as possible). ``tokens`` is an answer's length when the request names none.
    ``events_per_write``: how many events, each its own HTTP chunk, go out in one write and one turn
    of the loop (0: the whole stream in one write). ``delay_s`` comes on top for plain answers,
    which take ``ttft_s`` and their tokens' time too. ``answer_bytes`` pads the body of a plain
    answer to at least that length.
    """

    ttft_s: float = 0.0
    tokens_per_s: float = 0.0
    tokens: int = 5
    events_per_write: int = 1
    delay_s: float = 0.0
    answer_bytes: int = 0

    def plain_s(self, tokens: int) -> float:
        """Seconds that a plain answer of ``tokens`` tokens takes."""
        spoken_s = tokens / self.tokens_per_s if self.tokens_per_s else 0.0
        return self.delay_s + self.ttft_s + spoken_s


class SeenRequest(msgspec.Struct, frozen=True):
    """A request as it came: header names as sent, body undecoded. ``path`` is without query."""

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection_id: int

    def header(self, name: bytes) -> bytes | None:
        """The first value of header ``name`` (lower case), ``None`` if it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Profile:
    """The character a dialect plays; may change while the engine runs.

    ``answer`` replaces the made-up words. ``usage`` (prompt, completion) replaces the counted one.
    ``enforces_context`` refuses prompts over ``context_length`` (four bytes are a token). A model
    with ``embed`` or ``vision`` in its name is such a model; ``vision`` makes all of them see.
    ``running`` and ``waiting`` are what load pages tell.
    """

    __slots__ = (
        "answer",
        "api_key",
        "context_length",
        "embeddings",
        "enforces_context",
        "loaded",
        "models",
        "name",
        "running",
        "slots",
        "speed",
        "tools",
        "usage",
        "vision",
        "waiting",
    )

    def __init__(
        self,
        *,
        models: Sequence[str] = ("demo-model",),
        name: str = "demo",
        speed: Speed | None = None,
        context_length: int = 8192,
        vision: bool = False,
        tools: bool = True,
        embeddings: bool = True,
        api_key: str = "",
        slots: int = 4,
        answer: str | None = None,
        usage: tuple[int, int] | None = None,
        enforces_context: bool = False,
    ) -> None:
        self.models = list(models)
        self.name = name
        self.speed = speed or Speed()
        self.context_length = context_length
        self.vision = vision
        self.tools = tools
        self.embeddings = embeddings
        self.api_key = api_key
        self.slots = slots
        self.answer = answer
        self.usage = usage
        self.enforces_context = enforces_context
        self.loaded: set[str] = set(self.models[:1])
        self.running = 0
        self.waiting = 0

    def sees(self, model: str) -> bool:
        """Whether ``model`` takes images."""
        return self.vision or "vision" in model

    def embeds(self, model: str) -> bool:
        """Whether ``model`` is an embedding model by its name."""
        return "embed" in model
