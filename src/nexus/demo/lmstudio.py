"""LM Studio 0.4's server, from its documentation and bug tracker: it is closed and was not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from nexus.demo.ask import Ask
from nexus.demo.dialect import Dialect
from nexus.demo.profile import Profile, SeenRequest
from nexus.demo.reply import HeadStyle, Plain, Reply

__all__ = ["LmStudioDialect"]

_encode = msgspec.json.encode
_LOAD = "/api/v1/models/load"
_UNLOAD = "/api/v1/models/unload"


class LmStudioDialect(Dialect):
    """LM Studio: 200 to every path and method there is; a model is loaded when it is asked for."""

    style: ClassVar[HeadStyle] = HeadStyle(own="X-Powered-By: Express\r\n")
    owner: ClassVar[str] = "organization_owner"

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.gets |= {
            "/lmstudio-greeting": lambda _: self.page({"lmstudio": True}),
            "/api/v1/models": lambda _: self.page({"models": self.listed(self.newest_entry)}),
            "/api/v0/models": lambda _: self.page(
                {"object": "list", "data": self.listed(self.older_entry)}
            ),
        }
        self.posts |= {_LOAD: self.load, _UNLOAD: self.unload}

    def is_inference(self, request: SeenRequest) -> bool:
        return super().is_inference(request) and request.path not in (_LOAD, _UNLOAD)

    def answer(self, request: SeenRequest) -> Reply:
        known = {"GET": self.gets, "POST": self.posts}.get(request.method, {})
        if request.path in known:
            return super().answer(request)
        what = f"Unexpected endpoint or method. ({request.method} {request.path})"
        return self.page({"error": what})

    # -- models --------------------------------------------------------------------------------

    def listed(self, entry: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
        """``entry`` of every model."""
        return [entry(name) for name in self.profile.models]

    def model_entry(self, name: str) -> dict[str, Any]:
        entry = super().model_entry(name)
        del entry["created"]
        return entry

    def newest_entry(self, name: str) -> dict[str, Any]:
        """An entry of ``/api/v1/models`` (0.4)."""
        profile = self.profile
        embeds = profile.embeds(name)
        config = {
            "context_length": profile.context_length,
            "eval_batch_size": 512,
            "parallel": profile.slots,
            "flash_attention": True,
            "num_experts": 0,
            "offload_kv_cache_to_gpu": True,
        }
        entry: dict[str, Any] = {
            "type": "embedding" if embeds else "llm",
            "publisher": "demo",
            "key": name,
            "display_name": name,
            "architecture": "llama",
            "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
            "size_bytes": 4_920_753_328,
            "params_string": "8B",
            "loaded_instances": [{"id": name, "config": config}] if name in profile.loaded else [],
            "max_context_length": 4 * profile.context_length,
            "format": "gguf",
            "description": None,
            "variants": [name],
            "selected_variant": name,
        }
        if not embeds:
            can = {"vision": profile.sees(name), "trained_for_tool_use": profile.tools}
            entry["capabilities"] = can
        return entry

    def older_entry(self, name: str) -> dict[str, Any]:
        """An entry of ``/api/v0/models``."""
        profile = self.profile
        kind = "vlm" if profile.sees(name) else "embeddings" if profile.embeds(name) else "llm"
        entry = {
            "id": name,
            "object": "model",
            "type": kind,
            "publisher": "demo",
            "arch": "llama",
            "compatibility_type": "gguf",
            "quantization": "Q4_K_M",
            "state": "loaded" if name in profile.loaded else "not-loaded",
            "max_context_length": 4 * profile.context_length,
            "capabilities": ["tool_use"] if profile.tools else [],
        }
        if name in profile.loaded:
            entry["loaded_context_length"] = profile.context_length
        return entry

    def load(self, request: SeenRequest) -> Reply:
        """``POST /api/v1/models/load``."""
        name = _field(request, "model")
        if name not in self.profile.models:
            return self.unknown_model(name)
        self.profile.loaded.add(name)
        kind = "embedding" if self.profile.embeds(name) else "llm"
        done = {"instance_id": name, "load_time_seconds": 0.1, "status": "loaded"}
        return self.page({"type": kind, **done})

    def unload(self, request: SeenRequest) -> Reply:
        """``POST /api/v1/models/unload``."""
        name = _field(request, "instance_id")
        if name not in self.profile.loaded:
            return self.unknown_model(name)
        self.profile.loaded.discard(name)
        return self.page({"instance_id": name})

    def read(self, request: SeenRequest) -> Ask | Plain:
        ask = super().read(request)
        if isinstance(ask, Ask):
            wanted = ask.response_format
            if isinstance(wanted, dict) and wanted.get("type") == "json_object":
                return self.refusal("'response_format.type' must be 'json_schema' or 'text'")
            self.profile.loaded.add(self.said_model(ask))  # just in time
        return ask

    # -- errors --------------------------------------------------------------------------------

    def unknown_model(self, model: str) -> Plain:
        message = (
            "No models loaded. Please load a model in the developer page or use the `lms load` "
            "command."
        )
        return self.error(404, message, "invalid_request_error", "model", "model_not_found")

    def too_long(self, tokens: int) -> Plain:
        return self.refusal(
            f"Trying to keep the first {tokens} tokens when context the overflows. However, the "
            f"model is loaded with context length of only {self.profile.context_length} tokens."
        )

    def refusal(self, why: str) -> Plain:
        """A 400 in the other of its two shapes: a bare sentence."""
        return Plain(status=400, body=_encode({"error": why}))


def _field(request: SeenRequest, name: str) -> str:
    document = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
    return str(document.get(name) or "")
