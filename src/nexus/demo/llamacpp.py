"""llama.cpp's llama-server in single-model mode, as captured."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from nexus.demo.ask import Ask, Say
from nexus.demo.dialect import Dialect
from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.reply import HeadStyle, Plain
from nexus.demo.shapes import gauges, model_details

__all__ = ["LlamaCppDialect"]

_encode = msgspec.json.encode
_KINDS = {400: "invalid_request_error", 404: "not_found_error", 503: "unavailable_error"}


class LlamaCppDialect(Dialect):
    """llama-server: one model under its own name whatever is asked for; errors close."""

    style: ClassVar[HeadStyle] = HeadStyle(
        own="Server: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n",
        kept="Keep-Alive: timeout=5, max=100\r\n",
        dated=False,
    )
    stream_type: ClassVar[str] = "text/event-stream"
    owner: ClassVar[str] = "llamacpp"
    completion_id_prefix: ClassVar[str] = "chatcmpl-demo"
    fingerprint: ClassVar[str] = "b1-demo"
    lists_now: ClassVar[bool] = True
    answers_head: ClassVar[bool] = True
    open_paths: ClassVar[frozenset[str]] = frozenset({"/health", "/v1/health"})
    role_content: ClassVar[str | None] = None

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.gets |= {
            "/health": lambda _: self.page({"status": "ok"}),
            "/v1/health": lambda _: self.page({"status": "ok"}),
            "/models": lambda _: self.page(self.models()),
            "/props": lambda _: self.page(self.props()),
            "/slots": self.slots,
            "/metrics": lambda _: self.metrics(),
        }

    def page(self, document: Any) -> Plain:
        return Plain(body=_encode(document), content_type="application/json; charset=utf-8")

    def models(self) -> dict[str, Any]:
        twins = [
            {
                "name": name,
                "model": name,
                "modified_at": "",
                "size": "",
                "digest": "",
                "type": "model",
                "description": "",
                "tags": [""],
                "capabilities": ["completion"]
                + (["multimodal"] if self.profile.sees(name) else []),
                "parameters": "",
                "details": model_details(),
            }
            for name in self.profile.models
        ]
        return {"models": twins, **super().models()}

    def model_entry(self, name: str) -> dict[str, Any]:
        return {
            **super().model_entry(name),
            "aliases": [name],
            "tags": [],
            "architecture": self.architecture(name),
            "meta": self.meta(),
        }

    def architecture(self, name: str) -> dict[str, Any]:
        """What goes in and what comes out."""
        inputs = ["text", "image"] if self.profile.sees(name) else ["text"]
        return {"input_modalities": inputs, "output_modalities": ["text"]}

    def meta(self) -> dict[str, Any]:
        """What is known of a model that is loaded."""
        window = self.profile.context_length
        return {
            "vocab_type": 1,
            "n_vocab": 795,
            "n_ctx": window,
            "n_ctx_train": 4 * window,
            "n_embd": 64,
            "n_params": 175_808,
            "size": 352_256,
            "ftype": "F16",
        }

    def other_page(self, path: str) -> Plain:
        return self.no_path(path)

    def props(self, name: str = "") -> dict[str, Any]:
        """``/props`` of the model ``name``, the first one without."""
        profile = self.profile
        name = name or profile.models[0]
        return {
            "default_generation_settings": {"params": {}, "n_ctx": profile.context_length},
            "total_slots": profile.slots,
            "model_alias": name,
            "model_ftype": "F16",
            "model_path": f"{name}.gguf",
            "modalities": {"vision": profile.sees(name), "video": False, "audio": False},
            "media_marker": "<__media__>",
            "ui": True,
            "ui_settings": {},
            "endpoint_slots": True,
            "endpoint_props": True,
            "endpoint_metrics": True,
            "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "chat_template_caps": {
                "supports_tools": profile.tools,
                "supports_tool_calls": profile.tools,
                "supports_parallel_tool_calls": False,
                "supports_system_role": True,
                "supports_string_content": True,
                "supports_typed_content": False,
                "supports_object_arguments": False,
                "supports_preserve_reasoning": False,
                "supports_reasoning_effort": False,
            },
            "bos_token": "<s>",
            "eos_token": "</s>",
            "build_info": "b1-demo",
            "is_sleeping": False,
            "cors_proxy_enabled": False,
        }

    def slots(self, request: SeenRequest) -> Plain:
        """``/slots``; with ``fail_on_no_slot=1`` 503 when all are busy."""
        profile = self.profile
        if "fail_on_no_slot=1" in request.query and profile.running >= profile.slots:
            return self.error(503, "no slot available")
        return self.page(
            [
                {
                    "id": slot,
                    "n_ctx": profile.context_length,
                    "speculative": False,
                    "is_processing": slot < profile.running,
                }
                for slot in range(profile.slots)
            ]
        )

    def metrics(self) -> Plain:
        """The gauges that tell load."""
        profile = self.profile
        return gauges(
            (
                (
                    "llamacpp:requests_processing",
                    "Number of requests processing.",
                    profile.running,
                ),
                ("llamacpp:requests_deferred", "Number of requests deferred.", profile.waiting),
            )
        )

    def knows(self, model: str) -> bool:
        return True

    def said_model(self, ask: Ask) -> str:
        return self.profile.models[0]

    def error(
        self,
        status: int,
        message: str,
        kind: str = "",
        param: str | None = None,
        code: str | int | None = None,
        **more: int,
    ) -> Plain:
        kind = kind or _KINDS.get(status, "server_error")
        error = {"message": message, "type": kind, "code": status, **more}
        return Plain(
            status=status,
            body=_encode({"error": error}),
            content_type="application/json; charset=utf-8",
            close=True,
        )

    def unauthorized(self) -> Plain:
        return self.error(401, "Invalid API Key", "authentication_error")

    def no_path(self, path: str) -> Plain:
        return self.error(404, "File Not Found")

    def no_method(self, path: str) -> Plain:
        return self.no_path(path)

    def bad_body(self, why: str) -> Plain:
        return self.error(500, f"[json.exception.parse_error.101] parse error: {why}")

    def no_messages(self) -> Plain:
        return self.error(400, "'messages' is required")

    def too_long(self, tokens: int) -> Plain:
        window = self.profile.context_length
        message = (
            f"request ({tokens} tokens) exceeds the available context size ({window} tokens), "
            "try increasing it"
        )
        return self.error(
            400, message, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=window
        )

    def blind(self, model: str) -> Plain:
        message = (
            "image input is not supported - hint: if this is unexpected, you may need to provide "
            "the mmproj"
        )
        return self.error(500, message)

    def toolless(self, model: str) -> Plain:
        return self.error(500, "tools param requires --jinja flag")

    def no_embeddings(self) -> Plain:
        message = "This server does not support embeddings. Start it with `--embeddings`"
        return self.error(501, message, "not_supported_error")

    def usage(self, say: Say) -> dict[str, Any]:
        return {**super().usage(say), "prompt_tokens_details": {"cached_tokens": 0}}

    def make_choice(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {"finish_reason": finish, "index": 0, **content}

    def adorn(self, answer: dict[str, Any], say: Say) -> dict[str, Any]:
        answer["system_fingerprint"] = self.fingerprint
        prompt, completion = self.profile.usage or (10, say.tokens)
        answer["timings"] = {
            "cache_n": 0,
            "prompt_n": prompt,
            "prompt_ms": 0.7,
            "prompt_per_token_ms": 0.07,
            "prompt_per_second": 14_285.7,
            "predicted_n": completion,
            "predicted_ms": 2.0,
            "predicted_per_token_ms": 0.4,
            "predicted_per_second": 2500.0,
        }
        return answer
