"""The OpenAI API as a fake engine speaks it; the other dialects are told by their differences."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec

from nexus.demo.ask import Ask, Say, plan_answer, read_ask
from nexus.demo.mishap import Errors
from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.refusals import Refusals
from nexus.demo.reply import EVENT, HeadStyle, Plain, Reply, Stream
from nexus.demo.responses import responses_events, responses_object
from nexus.demo.vectors import as_base64, vectors

__all__ = ["Dialect", "Handler"]

Handler = Callable[[SeenRequest], Reply]

_encode = msgspec.json.encode
_DONE = b"data: [DONE]\n\n"


class Dialect(Refusals):
    """OpenAI's own API, and what the dialects have in common.

    Made for one ``Profile``, which it reads anew at every request.
    """

    style: ClassVar[HeadStyle] = HeadStyle(own="openai-version: 2020-10-01\r\n")
    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    owner: ClassVar[str] = "openai"
    id_prefix: ClassVar[str] = "chatcmpl-demo"
    completion_id_prefix: ClassVar[str] = "cmpl-demo"
    fingerprint: ClassVar[str] = "fp_demo"
    lists_now: ClassVar[bool] = False
    """Its list gives the present moment as every model's ``created``."""
    answers_head: ClassVar[bool] = False
    closes: ClassVar[bool] = False
    """Every answer ends its connection."""
    open_paths: ClassVar[frozenset[str]] = frozenset()
    """Paths that need no key."""
    role_alone: ClassVar[bool] = True
    """The first chunk has the role and no text."""
    role_content: ClassVar[str | None] = ""
    finish_on_last: ClassVar[bool] = False
    """The finish reason rides on the last text chunk."""
    head_first: ClassVar[bool] = False
    split_arguments: ClassVar[bool] = True
    error_closes: ClassVar[bool] = False

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.ids = itertools.count(1)
        self.posts: dict[str, Handler] = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.completions,
            "/v1/embeddings": self.embeddings,
            "/v1/responses": self.responses,
        }
        self.gets: dict[str, Handler] = {"/v1/models": lambda _: self.page(self.models())}
        self.errors = Errors(self.error, self.error_event, self.vanishing())

    # -- routing -------------------------------------------------------------------------------

    def is_inference(self, request: SeenRequest) -> bool:
        """Whether faults apply by themselves: everything that is posted to a known path."""
        return request.method == "POST" and request.path in self.posts

    def answer(self, request: SeenRequest) -> Reply:
        """The answer to any request."""
        path = request.path
        key = self.profile.api_key
        if (
            key
            and path not in self.open_paths
            and request.header(b"authorization") != f"Bearer {key}".encode()
        ):
            return self.unauthorized()
        if request.method == "POST":
            handler = self.posts.get(path)
            if handler is None:
                return self.no_method(path) if path in self.gets else self.no_path(path)
            try:
                return handler(request)
            except ValueError as error:
                return self.bad_body(str(error))
        if request.method not in ("GET", "HEAD"):
            return self.other_method(request)
        if path in self.posts and path not in self.gets:
            return self.no_method(path)
        if request.method == "HEAD" and not self.answers_head:
            return self.no_method(path)
        handler = self.gets.get(path)
        reply = handler(request) if handler else self.other_page(path)
        if request.method == "HEAD" and isinstance(reply, Plain):
            reply.bodiless = True
        return reply

    def other_method(self, request: SeenRequest) -> Reply:
        """The answer to what is neither GET nor HEAD nor POST."""
        return self.no_method(request.path)

    def page(self, document: Any) -> Plain:
        """``document`` as JSON, with no time to make it."""
        return Plain(body=_encode(document))

    def other_page(self, path: str) -> Plain:
        """A GET that is no fixed page: one model, or nothing."""
        name = path.removeprefix("/v1/models/")
        if name != path:
            for entry in self.models()["data"]:
                if entry["id"] == name:
                    return self.page(entry)
            return self.unknown_model(name) or self.no_path(path)
        return self.no_path(path)

    # -- models --------------------------------------------------------------------------------

    def models(self) -> dict[str, Any]:
        """The listing."""
        entries = [self.model_entry(name) for name in self.profile.models]
        return {"object": "list", "data": entries}

    def model_entry(self, name: str) -> dict[str, Any]:
        """One model of the listing."""
        created = int(time.time()) if self.lists_now else 1_700_000_000
        return {"id": name, "object": "model", "created": created, "owned_by": self.owner}

    def knows(self, model: str) -> bool:
        """Whether a model of that name is served."""
        return model in self.profile.models

    def unknown_model(self, model: str) -> Plain | None:
        """The answer when ``model`` is not served; ``None`` to answer all the same."""
        message = f"The model `{model}` does not exist or you do not have access to it."
        return self.error(404, message, "invalid_request_error", None, "model_not_found")

    def said_model(self, ask: Ask) -> str:
        """The ``model`` an answer names."""
        return ask.model if ask.model is not None else self.profile.models[0]

    # -- answers -------------------------------------------------------------------------------

    def read(self, request: SeenRequest) -> Ask | Plain:
        """The request, or why it is refused."""
        ask = read_ask(request.body)
        profile = self.profile
        if ask.model is not None and not self.knows(ask.model):
            refusal = self.unknown_model(ask.model)
            if refusal is not None:
                return refusal
        if profile.enforces_context and len(request.body) // 4 > profile.context_length:
            return self.too_long(len(request.body) // 4)
        if not profile.vision and b'"image' in request.body:
            name = self.said_model(ask)
            if not profile.sees(name):
                return self.blind(name)
        if ask.tools and not profile.tools:
            return self.toolless(self.said_model(ask))
        return ask

    def tokens_wanted(self, ask: Ask) -> int | None:
        """How many tokens the request allows."""
        if ask.max_completion_tokens is not None:
            return ask.max_completion_tokens
        return ask.max_tokens if ask.max_tokens is not None else ask.max_output_tokens

    def usage(self, say: Say) -> dict[str, Any]:
        """The usage object."""
        prompt, completion = self.profile.usage or (10, say.tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def adorn(self, answer: dict[str, Any], say: Say) -> dict[str, Any]:
        """Adds what this engine adds to a whole answer, or to a stream's last chunk."""
        answer["system_fingerprint"] = self.fingerprint
        return answer

    def make_choice(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        """A choice: ``content`` has ``message``, ``delta`` or ``text``."""
        return {"index": 0, **content, "logprobs": None, "finish_reason": finish}

    def whole(self, make: Callable[[str], dict[str, Any]], say: Say) -> Plain:
        """A plain answer; ``make`` builds it around a text, which is padded as the speed says."""
        text = say.text()
        body = _encode(make(text))
        missing = self.profile.speed.answer_bytes - len(body)
        if missing > 0 and not say.tool:
            body = _encode(make(text + "x" * missing))
        return Plain(body=body, tokens=max(say.tokens, 1))

    def chat(self, request: SeenRequest) -> Reply:
        """``/v1/chat/completions``."""
        ask = self.read(request)
        if isinstance(ask, Plain):
            return ask
        if bytes(ask.messages) in (b"", b"null"):
            return self.no_messages()
        say = plan_answer(ask, self.profile, self.tokens_wanted(ask))
        head: dict[str, Any] = {
            "id": f"{self.id_prefix}{next(self.ids)}",
            "object": "chat.completion.chunk" if ask.stream else "chat.completion",
            "created": int(time.time()),
            "model": self.said_model(ask),
        }
        if ask.stream:
            return self.chat_stream(head, ask, say)

        def make(text: str) -> dict[str, Any]:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if say.tool:
                message["content"] = None
                message["tool_calls"] = [{"id": self.call_id(), **self.call(say, say.arguments)}]
            answer = {**head, "choices": [self.make_choice({"message": message}, say.finish)]}
            answer["usage"] = self.usage(say)
            return self.adorn(answer, say)

        return self.whole(make, say)

    def call_id(self) -> str:
        """An id for a tool call."""
        return f"call_demo{next(self.ids)}"

    def call(self, say: Say, arguments: str) -> dict[str, Any]:
        """A tool call without id."""
        return {"type": "function", "function": {"name": say.tool, "arguments": arguments}}

    def chat_stream(self, head: dict[str, Any], ask: Ask, say: Say) -> Stream:
        """The chunks of a chat answer."""

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = self.make_choice({"delta": delta}, finish)
            return EVENT % _encode({**head, "choices": [choice]})

        rides = self.finish_on_last and not say.tool
        tail = [] if rides else [chunk({}, say.finish)]
        if ask.wants_usage:
            last = {**head, "choices": [], "usage": self.usage(say)}
            tail.append(EVENT % _encode(self.adorn(last, say)))
        return Stream(
            events=self.chat_events(chunk, say, rides),
            tail=tuple(tail),
            done=_DONE,
            content_type=self.stream_type,
            head_first=self.head_first,
        )

    def chat_events(self, chunk: Callable[..., bytes], say: Say, rides: bool) -> Iterator[bytes]:
        """Role, then text or tool call."""
        role: dict[str, Any] = {"role": "assistant"}
        if self.role_alone:
            yield chunk({"role": "assistant", "content": self.role_content})
            role = {}
        if say.tool:
            yield from self.call_events(chunk, say, role)
            return
        for at, piece in enumerate(say.pieces(), 1):
            finish = say.finish if rides and at == say.tokens else None
            yield chunk({**role, "content": piece}, finish)
            role = {}

    def call_events(
        self, chunk: Callable[..., bytes], say: Say, role: dict[str, Any]
    ) -> Iterator[bytes]:
        """A tool call, its arguments in pieces if that is the engine's way."""
        first = "" if self.split_arguments else say.arguments
        call = {"index": 0, "id": self.call_id(), **self.call(say, first)}
        yield chunk({**role, "content": None, "tool_calls": [call]})
        if self.split_arguments:
            half = len(say.arguments) // 2
            for part in (say.arguments[:half], say.arguments[half:]):
                call = {"index": 0, "function": {"arguments": part}}
                yield chunk({"tool_calls": [call]})

    def completions(self, request: SeenRequest) -> Reply:
        """``/v1/completions``."""
        ask = self.read(request)
        if isinstance(ask, Plain):
            return ask
        say = plan_answer(ask, self.profile, self.tokens_wanted(ask))
        head: dict[str, Any] = {
            "id": f"{self.completion_id_prefix}{next(self.ids)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.said_model(ask),
        }

        def make(text: str, finish: str | None = say.finish) -> dict[str, Any]:
            return {**head, "choices": [self.make_choice({"text": text}, finish)]}

        if not ask.stream:
            return self.whole(
                lambda text: self.adorn({**make(text), "usage": self.usage(say)}, say), say
            )
        tail = [EVENT % _encode(make(""))]
        if ask.wants_usage:
            last = {**head, "choices": [], "usage": self.usage(say)}
            tail.append(EVENT % _encode(self.adorn(last, say)))
        return Stream(
            events=(EVENT % _encode(make(piece, None)) for piece in say.pieces()),
            tail=tuple(tail),
            done=_DONE,
            content_type=self.stream_type,
            head_first=self.head_first,
        )

    def embeddings(self, request: SeenRequest) -> Reply:
        """``/v1/embeddings``: eight numbers for each input, floats or base64."""
        ask = self.read(request)
        if isinstance(ask, Plain):
            return ask
        if not self.profile.embeddings:
            return self.no_embeddings()
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": as_base64(vector) if ask.encoding_format == "base64" else vector,
            }
            for index, vector in enumerate(vectors(ask.input))
        ]
        usage = {"prompt_tokens": 10, "total_tokens": 10}
        answer = {
            "object": "list",
            "data": data,
            "model": self.said_model(ask),
            "usage": usage,
        }
        return Plain(body=_encode(answer), tokens=1)

    def responses(self, request: SeenRequest) -> Reply:
        """``/v1/responses``, minimal: one message of text."""
        ask = self.read(request)
        if isinstance(ask, Plain):
            return ask
        say = plan_answer(ask, self.profile, self.tokens_wanted(ask))
        number, model = next(self.ids), self.said_model(ask)
        prompt, completion = self.profile.usage or (10, say.tokens)
        if ask.stream:
            events, last = responses_events(number, model, say, prompt, completion)
            return Stream(events=events, tail=last, content_type=self.stream_type)
        return self.whole(
            lambda text: responses_object(number, model, text, say.finish, prompt, completion), say
        )
