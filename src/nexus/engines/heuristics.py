"""What a model's name suggests it can do: the last resort, below everything an engine says.

One table, read from top to bottom; each row only ever adds a "yes". A name never says "no": an
unknown capability keeps the candidate (behaviour § 3), and what is only suggested ranks behind what
is known. Tools: the families whose instruct models are trained to call them; whether a server
parses the calls is another question (vLLM needs a flag), which its first refusal answers.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from nexus.core.model import GUESSED, Capabilities, Model, ModelKind
from nexus.engines.reading import ENTRIES_MAX

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
    _row(r"all-mpnet|paraphrase-|jina-(?:clip|colbert)", "embeddings"),
    # --- sees images
    _row(r"llava|bakllava|moondream|minicpm-?v|pixtral|internvl|cogvlm|idefics|smolvlm", "vision"),
    _row(r"paligemma|mllama|molmo|deepseek-ocr|deepseek-vl|glm-4[.\d]*v", "vision"),
    _row(r"vision|vl(?![a-z])|multimodal|mistral-small-?3\.[1-9]", "vision"),
    # Gemma 3 sees from 4b on (also what a bare name stands for); 270m and 1b are text only.
    _row(r"gemma-?3(?!n)(?=[^a-z0-9]*(?:4|12|27)b|(?::latest)?$)", "vision"),
    # --- calls tools
    _row(r"llama-?4(?![a-z0-9])", "vision", "tools"),
    _row(r"llama-?3\.[1-3](?!.*vision)", "tools"),
    _row(r"qwen-?2\.5(?!.*(?:vl|math|omni))|qwen-?3(?!.*(?:omni|guard))", "tools"),
    _row(r"(?:mistral-(?:nemo|small|medium|large)|ministral|devstral|magistral)", "tools"),
    _row(r"mixtral-?8x22b|mistral-?7b-instruct-v0\.3|mistral:7b-instruct-v0\.3", "tools"),
    _row(r"deepseek-(?:v3|chat)", "tools"),
    _row(r"gpt-oss", "tools", "reasoning"),
    _row(r"phi-?4-mini", "tools"),
    _row(r"granite-?[34](?![b\d])(?!.*guardian)", "tools"),
    _row(r"command-(?:r|a)(?![a-z])|command-r7b|command-r-plus", "tools"),
    # --- thinks first
    _row(r"deepseek-r1|qwq|magistral|reasoning|thinking|phi-?4.*reasoning", "reasoning"),
    _row(r"qwen-?3(?!.*(?:instruct|coder|vl|omni|guard))", "reasoning"),
    # --- the clouds' own
    _row(r"gpt-4o|gpt-4\.1|gpt-5|chatgpt-4o", "vision", "tools", "json_mode"),
    _row(r"gpt-4-turbo", "vision", "tools", "json_mode"),
    _row(r"gpt-3\.5-turbo(?!-instruct)", "tools", "json_mode"),
    _row(r"gpt-5(?!-chat)|o[134](?:-mini|-pro)?(?![a-z0-9])", "reasoning"),
    _row(r"claude-(?:3|sonnet|opus|haiku)|gemini-[1-9]", "vision", "tools"),
)

_RERANKER = re.compile(r"rerank")
_UNTAUGHT = re.compile(r"(?<![a-z])base(?![a-z])")
"""Never taught to follow instructions: their family's abilities are not theirs."""


@lru_cache(maxsize=2 * ENTRIES_MAX)
def guess(name: str) -> Capabilities:
    """What the table says of ``name``; only ``True`` or ``None``."""
    # The last path component names the model, what stands before is an organisation or folder.
    lowered = name.lower()[:512].rstrip("/").rpartition("/")[2]
    if _RERANKER.search(lowered):
        return Capabilities()
    has = {field for row in NAMES if row.pattern.search(lowered) for field in row.has}
    if "embeddings" in has:
        has = {"embeddings"}
    elif _UNTAUGHT.search(lowered):
        has = set()
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
        evidence={**model.evidence, **dict.fromkeys(news, GUESSED)},
    )
