"""Ollama 0.33: its own API beside its OpenAI one, as captured."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec

from nexus.demo.ask import Ask, Say, plan_answer, read_ask
from nexus.demo.dialect import Dialect
from nexus.demo.ollama_lines import line, lines
from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.reply import HeadStyle, Plain, Reply, Stream
from nexus.demo.shapes import model_details
from nexus.demo.vectors import vectors

__all__ = ["OllamaDialect"]

_encode = msgspec.json.encode
_JSON = "application/json; charset=utf-8"
_DETAILS = model_details("llama", "8.0B", "Q4_K_M")
_MODIFIED_AT = "2026-11-23T01:25:50.621404401Z"


class OllamaDialect(Dialect):
    """Ollama: NDJSON by default on ``/api``; ``/v1`` ignores ``max_completion_tokens``."""

    style: ClassVar[HeadStyle] = HeadStyle()
    stream_type: ClassVar[str] = "text/event-stream"
    owner: ClassVar[str] = "library"
    id_prefix: ClassVar[str] = "chatcmpl-"
    completion_id_prefix: ClassVar[str] = "cmpl-"
    fingerprint: ClassVar[str] = "fp_ollama"
    answers_head: ClassVar[bool] = True
    role_alone: ClassVar[bool] = False
    split_arguments: ClassVar[bool] = False

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        running = Plain(body=b"Ollama is running", content_type="text/plain; charset=utf-8")
        self.gets |= {
            "/": lambda _: msgspec.structs.replace(running),
            "/api/version": lambda _: self.page({"version": "0.33.0"}),
            "/api/tags": lambda _: self.page(
                {"models": [self.tag(name) for name in self.profile.models]}
            ),
            "/api/ps": lambda _: self.page(self.ps()),
        }
        self.posts |= {
            "/api/chat": self.native_chat,
            "/api/generate": self.native_generate,
            "/api/embed": self.native_embed,
            "/api/embeddings": self.native_embed,
            "/api/show": self.show,
        }

    def is_inference(self, request: SeenRequest) -> bool:
        return super().is_inference(request) and request.path != "/api/show"

    def answer(self, request: SeenRequest) -> Reply:
        reply = super().answer(request)
        if isinstance(reply, Plain) and request.path.startswith("/api/") and reply.status >= 400:
            # One error shape on the OpenAI paths, a bare sentence on its own.
            reply = _native_error(reply)
        return reply

    def page(self, document: Any) -> Plain:
        return Plain(body=_encode(document), content_type=_JSON)

    # -- models --------------------------------------------------------------------------------

    def _full(self, name: str) -> str:
        return name if ":" in name else f"{name}:latest"

    def _find(self, name: str) -> str | None:
        wanted = self._full(name).lower()
        full = (self._full(known) for known in self.profile.models)
        return next((known for known in full if known.lower() == wanted), None)

    def knows(self, model: str) -> bool:
        return self._find(model) is not None

    def unknown_model(self, model: str) -> Plain | None:
        return self.error(404, f"model '{model}' not found")

    def model_entry(self, name: str) -> dict[str, Any]:
        return super().model_entry(self._full(name))

    def other_page(self, path: str) -> Plain:
        name = self._find(path.removeprefix("/v1/models/"))
        if path.startswith("/v1/models/") and name is not None:
            return self.page(self.model_entry(name))
        return super().other_page(path)

    def capabilities(self, name: str) -> list[str]:
        """``capabilities`` of one model."""
        if self.profile.embeds(name):
            return ["embedding"]
        found = ["completion"]
        if self.profile.tools:
            found.append("tools")
        if self.profile.sees(name):
            found.append("vision")
        return found

    def tag(self, name: str) -> dict[str, Any]:
        """An entry of ``/api/tags``."""
        full = self._full(name)
        details = {
            **_DETAILS,
            "context_length": 4 * self.profile.context_length,
            "embedding_length": 4096,
        }
        return {
            "name": full,
            "model": full,
            "modified_at": _MODIFIED_AT,
            "size": 4_920_753_328,
            "digest": hashlib.sha256(full.encode()).hexdigest(),
            "details": details,
            "capabilities": self.capabilities(name),
        }

    def ps(self) -> dict[str, Any]:
        """``/api/ps``: what is resident, with the window in force."""
        expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        entries = []
        for name in self.profile.models:
            if name in self.profile.loaded:
                entry = self.tag(name)
                del entry["modified_at"], entry["capabilities"]
                entry["details"] = _DETAILS
                entry["expires_at"] = expires
                entry["size_vram"] = entry["size"]
                entry["context_length"] = self.profile.context_length
                entries.append(entry)
        return {"models": entries}

    def show(self, request: SeenRequest) -> Reply:
        """``/api/show``."""
        asked = _name_asked(request.body)
        full = self._find(asked)
        if full is None:
            return self.error(404, f"model '{self._full(asked)}' not found")
        window = self.profile.context_length
        return self.page(
            {
                "modelfile": f"# Modelfile\nFROM {full}\nPARAMETER num_ctx {window}\n",
                "parameters": f"num_ctx                        {window}",
                "template": "{{ .Prompt }}",
                "details": _DETAILS,
                "model_info": {
                    "general.architecture": "llama",
                    "general.parameter_count": 8_030_261_312,
                    "llama.context_length": 4 * window,
                    "llama.embedding_length": 4096,
                },
                "capabilities": self.capabilities(full),
                "modified_at": _MODIFIED_AT,
            }
        )

    # -- errors --------------------------------------------------------------------------------

    def error(
        self,
        status: int,
        message: str,
        kind: str = "",
        param: str | None = None,
        code: str | int | None = None,
    ) -> Plain:
        kinds = {404: "not_found_error"}
        kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
        error = {"message": message, "type": kind, "param": None, "code": None}
        return Plain(status=status, body=_encode({"error": error}))

    def no_path(self, path: str) -> Plain:
        return Plain(status=404, body=b"404 page not found", content_type="text/plain")

    def no_method(self, path: str) -> Plain:
        return Plain(
            status=405,
            body=b"405 method not allowed",
            content_type="text/plain",
            headers=(("Allow", "POST"),),
        )

    def bad_body(self, why: str) -> Plain:
        return self.error(400, why)

    def no_messages(self) -> Plain:
        return self.error(400, "[] is too short - 'messages'")

    def too_long(self, tokens: int) -> Plain:
        window = self.profile.context_length
        inner = {
            "code": 400,
            "message": f"request ({tokens} tokens) exceeds the available context size "
            f"({window} tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": window,
        }
        return self.error(400, _encode({"error": inner}).decode())

    def blind(self, model: str) -> Plain:
        message = "image input is not supported - hint: you may need to provide the mmproj"
        inner = {"code": 500, "message": message, "type": "server_error"}
        return self.error(500, _encode({"error": inner}).decode())

    def toolless(self, model: str) -> Plain:
        return self.error(400, f'"{model}" does not support tools')

    def no_embeddings(self) -> Plain:
        message = "This server does not support embeddings. Start it with `--embeddings`"
        return self.error(501, message)

    def make_choice(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {"index": 0, **content, "finish_reason": finish}

    def tokens_wanted(self, ask: Ask) -> int | None:
        return ask.max_tokens if ask.max_tokens is not None else ask.max_output_tokens

    # -- its own API ---------------------------------------------------------------------------

    def native_chat(self, request: SeenRequest) -> Reply:
        """``/api/chat``."""
        return self._native(request, chat=True)

    def native_generate(self, request: SeenRequest) -> Reply:
        """``/api/generate``."""
        return self._native(request, chat=False)

    def _native(self, request: SeenRequest, *, chat: bool) -> Reply:
        ask = self.read(request)
        if isinstance(ask, Plain):
            return ask
        model = self.said_model(ask)
        resident = next(
            (name for name in self.profile.models if self._full(name) == self._find(model)), model
        )
        empty = bytes(ask.messages) in (b"", b"null", b"[]") if chat else not ask.prompt
        if empty or ask.keep_alive == 0:
            reason = "load" if ask.keep_alive != 0 else "unload"
            if reason == "load":
                self.profile.loaded.add(resident)
            else:
                self.profile.loaded.discard(resident)
            if empty:
                return self.page({**line(model, "", chat), "done": True, "done_reason": reason})
        else:
            self.profile.loaded.add(resident)
        wanted = (ask.options or {}).get("num_predict")
        say = self._native_say(ask, wanted if isinstance(wanted, int) else None)
        return self.native_answer(model, say, chat=chat, stream=ask.stream is not False)

    def _native_say(self, ask: Ask, wanted: int | None) -> Say:
        after_tool = b'"tool"' in bytes(ask.messages)
        if ask.tools and not after_tool:
            return Say(4, "stop", tool=ask.first_tool)
        return plan_answer(ask, self.profile, wanted)

    def native_answer(self, model: str, say: Say, *, chat: bool, stream: bool) -> Reply:
        """The answer in Ollama's own shape: lines, or one object."""
        prompt, completion = self.profile.usage or (10, say.tokens)
        ending = {
            "done": True,
            "done_reason": say.finish if say.finish == "length" else "stop",
            "total_duration": 268_943_925,
            "load_duration": 2_428_379,
            "prompt_eval_count": prompt,
            "prompt_eval_duration": 921_000,
            "eval_count": completion,
            "eval_duration": 2_103_000,
        }
        if stream:
            last = _encode({**line(model, "", chat), **ending}) + b"\n"
            return Stream(
                events=lines(model, say, chat),
                tail=(last,),
                content_type="application/x-ndjson",
            )

        def make(text: str) -> dict[str, Any]:
            return {**line(model, "" if say.tool else text, chat, say), **ending}

        whole = self.whole(make, say)
        whole.content_type = _JSON
        return whole

    def foreign_chat(self, request: SeenRequest) -> Reply:
        """The answer in Ollama's own shape to a request on any chat path, whatever the model."""
        try:
            ask = read_ask(request.body)
        except ValueError as error:
            return self.bad_body(str(error))
        say = plan_answer(ask, self.profile, super().tokens_wanted(ask))
        return self.native_answer(self.said_model(ask), say, chat=True, stream=bool(ask.stream))

    def native_embed(self, request: SeenRequest) -> Reply:
        """``/api/embed`` and the older ``/api/embeddings``."""
        ask = self.read(request)
        if isinstance(ask, Plain):
            return ask
        if not self.profile.embeddings:
            return self.no_embeddings()
        if request.path == "/api/embeddings":
            return self.page({"embedding": vectors(ask.prompt)[0]})
        return self.page(
            {
                "model": self.said_model(ask),
                "embeddings": vectors(ask.input),
                "total_duration": 14_143_917,
                "load_duration": 1_019_500,
                "prompt_eval_count": 10,
            }
        )


def _name_asked(body: bytes) -> str:
    document = msgspec.json.decode(body or b"{}", type=dict[str, Any])
    return str(document.get("model") or document.get("name") or "")


def _native_error(reply: Plain) -> Plain:
    try:
        error = msgspec.json.decode(reply.body)["error"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return reply
    message = error["message"] if isinstance(error, dict) else error
    reply.body = _encode({"error": message})
    reply.content_type = _JSON
    return reply
