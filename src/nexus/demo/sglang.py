"""SGLang 0.5's API server, from its source (``sglang/srt/entrypoints``): it was not run."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import msgspec

from nexus.demo.fastapi import FastApiDialect
from nexus.demo.profile import Profile
from nexus.demo.reply import EVENT, Plain
from nexus.demo.shapes import model_details

__all__ = ["SglangDialect"]

_encode = msgspec.json.encode
_VERSION = "0.5.23"


class SglangDialect(FastApiDialect):
    """SGLang: any model name is taken, errors are flat, ``/health`` costs a token, and a part of
    Ollama's API is there too."""

    owner: ClassVar[str] = "sglang"
    open_paths: ClassVar[frozenset[str]] = frozenset({"/health", "/ready", "/metrics"})

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.gets |= {
            "/": lambda _: self.page("SGLang is running"),
            # A real generation, as long as nobody switches that off.
            "/health": lambda _: Plain(body=b"", content_type="", tokens=1),
            "/ready": lambda _: Plain(body=b"", content_type=""),
            "/model_info": lambda _: self.page(self.model_info()),
            "/get_model_info": lambda _: self.page(self.model_info()),
            "/server_info": lambda _: self.page(self.server_info()),
            "/v1/loads": lambda _: self.page(self.loads()),
            "/get_load": lambda _: self.page(self.older_load()),
            "/api/tags": lambda _: self.page(self.tags()),
        }

    # -- models --------------------------------------------------------------------------------

    def model_entry(self, name: str) -> dict[str, Any]:
        return self.rooted_entry(name)

    def knows(self, model: str) -> bool:
        # What stands before a colon is taken for the base of a LoRA adapter.
        return ":" not in model or model in self.profile.models

    def unknown_model(self, model: str) -> Plain | None:
        return self.error(400, f"LoRA adapter {model.partition(':')[2]!r} is not loaded.")

    def model_info(self) -> dict[str, Any]:
        """``/model_info``."""
        name = self.profile.models[0]
        return {
            "model_path": f"/models/{name}",
            "served_model_name": name,
            "tokenizer_path": f"/models/{name}",
            "is_generation": not self.profile.embeds(name),
            "has_image_understanding": self.profile.sees(name),
            "has_audio_understanding": False,
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "reasoning_parser": None,
            "tool_call_parser": "llama3" if self.profile.tools else None,
            "preferred_sampling_params": None,
        }

    def server_info(self) -> dict[str, Any]:
        """``/server_info``, of its hundred fields those that matter."""
        return {
            "model_path": self.model_info()["model_path"],
            "served_model_name": self.profile.models[0],
            "max_running_requests": self.profile.slots,
            "context_length": self.profile.context_length,
            "version": _VERSION,
            "internal_states": [],
        }

    def tags(self) -> dict[str, Any]:
        """``/api/tags``, by which it is easily taken for Ollama."""
        entry = {
            "modified_at": "2026-11-23T01:25:50Z",
            "size": 0,
            "digest": f"sha256:sglang{0:058}",
            "details": model_details("llama", form="sglang"),
        }
        return {"models": [{"name": n, "model": n, **entry} for n in self.profile.models]}

    # -- load ----------------------------------------------------------------------------------

    def loads(self) -> dict[str, Any]:
        """``/v1/loads``: one entry, as there is one rank."""
        profile = self.profile
        tokens = 100 * profile.running
        rank = {
            "dp_rank": 0,
            "num_running_reqs": profile.running,
            "num_waiting_reqs": profile.waiting,
            "num_waiting_uncached_tokens": 100 * profile.waiting,
            "num_used_tokens": tokens,
            "num_total_tokens": tokens,
            "max_total_num_tokens": 100_000,
            "max_running_requests": profile.slots,
            "token_usage": tokens / 100_000,
            "gen_throughput": 0.0,
            "cache_hit_rate": 0.0,
            "utilization": 0.0,
        }
        return {"timestamp": time.time(), "version": _VERSION, "loads": [rank]}

    def older_load(self) -> list[dict[str, Any]]:
        """``/get_load`` of older versions."""
        profile = self.profile
        total = profile.running + profile.waiting
        counts = {"num_reqs": total, "num_waiting_reqs": profile.waiting}
        return [{"dp_rank": 0, **counts, "num_tokens": 100 * total}]

    # -- errors --------------------------------------------------------------------------------

    def error(
        self,
        status: int,
        message: str,
        kind: str = "",
        param: str | None = None,
        code: str | int | None = None,
    ) -> Plain:
        kind = kind or ("SERVICE_UNAVAILABLE" if status == 503 else "BadRequest")
        error = {"object": "error", "message": message, "type": kind, "param": param}
        return Plain(status=status, body=_encode({**error, "code": status}))

    def error_event(self, message: str, content_type: str) -> bytes:
        flat = self.error(500, message, "InternalServerError").body
        return EVENT % (b'{"error":%b}' % flat)

    def bad_body(self, why: str) -> Plain:
        return self.error(400, f"1 validation error: {why}")

    def too_long(self, tokens: int) -> Plain:
        window = self.profile.context_length
        return self.error(
            400,
            f"The input ({tokens} tokens) is longer than the model's context length "
            f"({window} tokens).",
        )

    def no_embeddings(self) -> Plain:
        return self.error(
            400,
            "This model does not appear to be an embedding model by default. Please add "
            "`--is-embedding` when launching the server or try another model.",
        )

    def make_choice(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {**super().make_choice(content, finish), "matched_stop": None}
