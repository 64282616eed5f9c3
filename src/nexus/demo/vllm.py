"""vLLM 0.32's API server, as captured."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from nexus.demo.ask import Say
from nexus.demo.fastapi import FastApiDialect
from nexus.demo.profile import Profile
from nexus.demo.reply import HeadStyle, Plain
from nexus.demo.shapes import gauges

__all__ = ["VllmDialect"]

_encode = msgspec.json.encode
_KINDS = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}


class VllmDialect(FastApiDialect):
    """vLLM: heads at once, the finish reason on the last text chunk, integer error codes."""

    style: ClassVar[HeadStyle] = HeadStyle(own="server: uvicorn\r\nvary: Origin\r\n", lower=True)
    owner: ClassVar[str] = "vllm"
    fingerprint: ClassVar[str] = "vllm-0.32.0-demo"
    open_paths: ClassVar[frozenset[str]] = frozenset({"/health", "/ping", "/version", "/metrics"})
    finish_on_last: ClassVar[bool] = True
    head_first: ClassVar[bool] = True

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        empty = Plain(body=b"", content_type="")
        self.gets |= {
            "/health": lambda _: empty,
            "/ping": lambda _: empty,
            "/version": lambda _: self.page({"version": "0.32.0"}),
            "/load": lambda _: self.page({"server_load": 0}),
            "/metrics": lambda _: self.metrics(),
        }

    def model_entry(self, name: str) -> dict[str, Any]:
        entry = self.rooted_entry(name)
        permission = {
            "id": "modelperm-demo",
            "object": "model_permission",
            "created": entry["created"],
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {**entry, "permission": [permission]}

    def other_page(self, path: str) -> Plain:
        return self.no_path(path)

    def metrics(self) -> Plain:
        """The gauges that tell load."""
        running, waiting = float(self.profile.running), float(self.profile.waiting)
        rows = (
            (
                "vllm:num_requests_running",
                "Number of requests in model execution batches.",
                running,
            ),
            ("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting),
            ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", 0.0),
        )
        labels = f'{{engine="0",model_name="{self.profile.models[0]}"}}'
        return gauges(rows, labels=labels, version="1.0.0")

    def error(
        self,
        status: int,
        message: str,
        kind: str = "",
        param: str | None = None,
        code: str | int | None = None,
    ) -> Plain:
        kind = kind or _KINDS.get(status, "Service Unavailable" if status == 503 else "Error")
        error = {"message": message, "type": kind, "param": param, "code": status}
        return Plain(status=status, body=_encode({"error": error}))

    def unknown_model(self, model: str) -> Plain | None:
        valid = ", ".join(self.profile.models)
        message = f"The model `{model}` does not exist. Valid aliases: {valid}."
        return self.error(404, message, param="model")

    def bad_body(self, why: str) -> Plain:
        message = f"1 validation error:\n  {{'type': 'json_invalid', 'msg': '{why}'}}"
        return self.error(400, message, "Bad Request", "body")

    def no_messages(self) -> Plain:
        message = "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages'}"
        return self.error(400, message, "Bad Request", "body.messages")

    def too_long(self, tokens: int) -> Plain:
        message = (
            f"This model's maximum context length is {self.profile.context_length} tokens. "
            f"However, your prompt contains {tokens} tokens. Please reduce the length of the "
            f"input prompt. (parameter=input_tokens, value={tokens})"
        )
        return self.error(400, message, param="input_tokens")

    def blind(self, model: str) -> Plain:
        return self.error(400, f"{model} is not a multimodal model")

    def toolless(self, model: str) -> Plain:
        message = (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )
        return self.error(400, message)

    def no_embeddings(self) -> Plain:
        return self.no_path("")

    def make_choice(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish}
        if finish is not None:
            choice["stop_reason"] = None
        choice["token_ids"] = None
        return choice

    def adorn(self, answer: dict[str, Any], say: Say) -> dict[str, Any]:
        answer["system_fingerprint"] = self.fingerprint
        if answer["choices"]:
            answer["service_tier"] = None
            answer["prompt_logprobs"] = None
            answer["kv_transfer_params"] = None
        return answer
