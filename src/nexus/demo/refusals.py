"""What OpenAI's API says when it refuses, in its words; the other dialects have their own."""

from __future__ import annotations

import msgspec

from nexus.demo.profile import Profile
from nexus.demo.reply import EVENT, Plain

__all__ = ["Refusals"]

_encode = msgspec.json.encode


class Refusals:
    """One method for each reason there is to refuse a request."""

    profile: Profile

    def error(
        self,
        status: int,
        message: str,
        kind: str = "",
        param: str | None = None,
        code: str | int | None = None,
    ) -> Plain:
        """An error answer in this dialect's shape."""
        kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
        error = {"message": message, "type": kind, "param": param, "code": code}
        return Plain(status=status, body=_encode({"error": error}))

    def error_event(self, message: str, content_type: str) -> bytes:
        """An error inside a stream of ``content_type``."""
        if content_type == "application/x-ndjson":
            return _encode({"error": message}) + b"\n"
        return EVENT % self.error(500, message).body

    def vanishing(self) -> bytes:
        """The empty chunk that Ollama's ``/v1`` ends with when its runner dies."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
        chunk = {
            "id": "chatcmpl-463",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "",
            "system_fingerprint": "fp_ollama",
            "choices": [choice],
        }
        return EVENT % _encode(chunk)

    def unauthorized(self) -> Plain:
        """401."""
        return self.error(
            401, "Incorrect API key provided.", "invalid_request_error", None, "invalid_api_key"
        )

    def no_path(self, path: str) -> Plain:
        """404 for a path that is not there."""
        return self.error(404, f"Invalid URL (GET {path})")

    def no_method(self, path: str) -> Plain:
        """405."""
        return self.error(405, f"Not allowed to request {path} this way")

    def bad_body(self, why: str) -> Plain:
        """The body is not JSON, or not of the right shape."""
        return self.error(400, f"We could not parse the JSON body of your request. ({why})")

    def too_long(self, tokens: int) -> Plain:
        """The prompt exceeds the window."""
        window = self.profile.context_length
        message = (
            f"This model's maximum context length is {window} tokens. However, your messages "
            f"resulted in {tokens} tokens."
        )
        return self.error(
            400, message, "invalid_request_error", "messages", "context_length_exceeded"
        )

    def blind(self, model: str) -> Plain:
        """An image went to a model that takes none."""
        message = "Invalid content type. image_url is only supported by certain models."
        return self.error(400, message, param="messages")

    def toolless(self, model: str) -> Plain:
        """Tools went to an engine that takes none."""
        return self.error(400, f"{model} does not support tools", param="tools")

    def no_embeddings(self) -> Plain:
        """The engine does not embed."""
        return self.error(501, "This server does not support embeddings")

    def no_messages(self) -> Plain:
        """``messages`` is missing."""
        return self.error(400, "Missing required parameter: 'messages'.", param="messages")
