"""A server that speaks OpenAI's API and tells no more than it must (LocalAI's list, for one)."""

from __future__ import annotations

from typing import Any, ClassVar

from nexus.demo.dialect import Dialect
from nexus.demo.reply import HeadStyle

__all__ = ["GenericDialect"]


class GenericDialect(Dialect):
    """No header of its own, no owner, no creation: only ids."""

    style: ClassVar[HeadStyle] = HeadStyle()

    def model_entry(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model"}
