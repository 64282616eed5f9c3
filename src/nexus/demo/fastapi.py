"""What the engines written with FastAPI and uvicorn have in common: vLLM, SGLang, exo."""

from __future__ import annotations

from typing import Any, ClassVar

from nexus.demo.dialect import Dialect
from nexus.demo.reply import HeadStyle, Plain

__all__ = ["FastApiDialect"]


class FastApiDialect(Dialect):
    """FastAPI's own answers: ``{"detail": ...}``, lower-case header names."""

    style: ClassVar[HeadStyle] = HeadStyle(own="server: uvicorn\r\n", lower=True)
    lists_now: ClassVar[bool] = True

    def rooted_entry(self, name: str) -> dict[str, Any]:
        """A list entry that tells where the weights are and the window in force."""
        return {
            **super().model_entry(name),
            "root": f"/models/{name}",
            "parent": None,
            "max_model_len": self.profile.context_length,
        }

    def unauthorized(self) -> Plain:
        return Plain(status=401, body=b'{"error":"Unauthorized"}')

    def no_path(self, path: str) -> Plain:
        return Plain(status=404, body=b'{"detail":"Not Found"}')

    def no_method(self, path: str) -> Plain:
        body = b'{"detail":"Method Not Allowed"}'
        return Plain(status=405, body=body, headers=(("allow", "POST"),))
