"""Pieces of answers that several engines have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nexus.demo.reply import Plain

__all__ = ["gauges", "model_details"]


def model_details(
    family: str = "", parameters: str = "", quantization: str = "", *, form: str = "gguf"
) -> dict[str, Any]:
    """``details`` as Ollama has them, and all who imitate it (llama.cpp, SGLang)."""
    return {
        "parent_model": "",
        "format": form,
        "family": family,
        "families": [family],
        "parameter_size": parameters,
        "quantization_level": quantization,
    }


def gauges(
    rows: Iterable[tuple[str, str, float | int]], *, labels: str = "", version: str = "0.0.4"
) -> Plain:
    """Metrics in Prometheus' text format: name, what it is, value."""
    text = "".join(
        f"# HELP {name} {what}\n# TYPE {name} gauge\n{name}{labels} {value}\n"
        for name, what, value in rows
    )
    content_type = f"text/plain; version={version}; charset=utf-8"
    return Plain(body=text.encode(), content_type=content_type)
