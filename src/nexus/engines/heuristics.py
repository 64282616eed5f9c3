"""What a model's name suggests it can do: the last resort, below everything an engine says.

One table, read from top to bottom; each row only ever adds a "yes". A name never says "no": an
unknown capability keeps the candidate (behaviour § 3). Tools stand here only for vendors' own cloud
names, since elsewhere the server's template and parser decide, not the weights.
"""

from __future__ import annotations

import re

import msgspec

from nexus.core.model import Capabilities, Model, ModelKind

__all__ = ["NAMES", "NameRow", "guess", "with_guesses"]


class NameRow(msgspec.Struct, frozen=True):
    """One row: names that ``pattern`` finds (in lower case) are taken to have ``has``."""

    pattern: re.Pattern[str]
    has: tuple[str, ...]


def _row(pattern: str, *has: str) -> NameRow:
    # A name's words are separated by anything but letters: "qwen2.5vl:7b", "Llama-3.2-11B-Vision".
    return NameRow(re.compile(rf"(?<![a-z])(?:{pattern})"), has)


NAMES: tuple[NameRow, ...] = (
    _row(r"embed|bge-(?!reranker)|e5-|gte-|all-minilm|minilm|mxbai-embed", "embeddings"),
    _row(r"llava|bakllava|moondream|minicpm-?v|pixtral|internvl|cogvlm|idefics|smolvlm", "vision"),
    _row(r"paligemma|mllama|molmo|deepseek-ocr|deepseek-vl|glm-4[.\d]*v", "vision"),
    _row(r"vision|vl(?![a-z])|multimodal|llama-?4(?![a-z0-9])|mistral-small-?3\.[1-9]", "vision"),
    # Gemma 3 sees from 4b on; 270m and 1b are text only.
    _row(r"gemma-?3(?!n)(?=[^a-z0-9]*(?:4|12|27)b)", "vision"),
    _row(r"deepseek-r1|qwq|gpt-oss|magistral|reasoning|thinking", "reasoning"),
    _row(r"qwen-?3(?!.*(?:instruct|coder))", "reasoning"),
    _row(r"gpt-4o|gpt-4\.1|gpt-5|chatgpt-4o", "vision", "tools", "json_mode"),
    _row(r"gpt-4-turbo", "vision", "tools", "json_mode"),
    _row(r"gpt-3\.5-turbo(?!-instruct)", "tools", "json_mode"),
    _row(r"gpt-5(?!-chat)|o[134](?:-mini|-pro)?(?![a-z0-9])", "reasoning"),
    _row(r"claude-(?:3|sonnet|opus|haiku)|gemini-[1-9]", "vision", "tools"),
)


def guess(name: str) -> Capabilities:
    """What the table says of ``name``; only ``True`` or ``None``."""
    # The last path component names the model, what stands before is an organisation or folder.
    lowered = name.lower()[:512].rstrip("/").rpartition("/")[2]
    has = {field for row in NAMES if row.pattern.search(lowered) for field in row.has}
    if "embeddings" in has:
        has = {"embeddings"}
    return Capabilities(**dict.fromkeys(has, True))


def with_guesses(model: Model) -> Model:
    """Fills what no engine said about ``model`` with what its name suggests, and notes that."""
    found = guess(model.engine_name)
    known = model.capabilities
    news = {
        field: value
        for field in Capabilities.__struct_fields__
        if (value := getattr(found, field)) is not None and getattr(known, field) is None
    }
    if not news:
        return model
    embeds = "embeddings" in news and not (known.tools or known.vision or known.reasoning)
    return msgspec.structs.replace(
        model,
        capabilities=msgspec.structs.replace(known, **news),
        kind=ModelKind.EMBEDDING if embeds else model.kind,
        evidence={**model.evidence, **dict.fromkeys(news, "name")},
    )
