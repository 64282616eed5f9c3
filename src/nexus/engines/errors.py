"""What an engine's error answer means: one reader for every dialect of "no" that is in use.

Engines disagree on where the text stands (``{"error": {...}}``, ``{"error": "text"}``, SGLang's
flat object, FastAPI's ``detail``, Ollama's JSON inside a string, plain text) and on the status
(llama.cpp's router says "unknown model" with 400, an image without vision with 500). So the text is
found first and then judged, the special meanings before the status. The patterns are from real
answers (tests/captures) and the engines' sources.
"""

from __future__ import annotations

import re

import msgspec

from nexus.engines.adapter import ErrorMeaning, UpstreamError
from nexus.engines.reading import obj, parse, text, whole

__all__ = ["ErrorText", "error_text", "is_loading", "read_openai_error"]

_MESSAGE_CHARS_MAX = 4000
_NESTING_MAX = 3

_TOO_LONG = re.compile(
    r"maximum context length"  # vLLM, SGLang, OpenAI
    r"|longer than the model'?s context length"  # SGLang
    r"|requested token count exceeds"  # SGLang
    r"|exceeds? the (?:available )?context (?:size|length|window)"  # llama.cpp, Ollama embed
    r"|longer than the context length"  # Ollama
    r"|when context the overflows"  # LM Studio; its own word order
    r"|prompt is too long",  # Anthropic
    re.IGNORECASE,
)
_TOO_LONG_NAMES = frozenset({"exceed_context_size_error", "context_length_exceeded"})

_LOADING = re.compile(
    r"^loading model|model is (?:still |currently )?loading|\bstill loading|^starting\b",
    re.IGNORECASE,
)

_CANNOT = re.compile(
    r"is not a multimodal model"  # vLLM
    r"|(?:image|audio|video) input is not supported"  # llama.cpp without mmproj, also in Ollama
    r"|unsupported content\[\]\.type"  # older llama.cpp
    r"|--?tool-call-parser|--enable-auto-tool-choice"  # vLLM started without a tool parser
    r"|requires? --jinja"  # older llama.cpp, tools
    r"|does not appear to be an embedding model"  # SGLang
    r"|is only supported by certain models"  # OpenAI, images
    r"|response_format\.type\W{0,3} must be"  # LM Studio, which takes json_schema and text only
    r"|at most \d+ (?:image|audio|video)"  # vLLM, --limit-mm-per-prompt
    r"|does not support (?:\w+ )?"
    r"(?:chat|generate|completions?|insert|tools|thinking|embeddings?|images?|vision|audio)\b",
    re.IGNORECASE,
)

_NO_MODEL = re.compile(
    r"\bmodels? [^\n]{0,300}?(?:not found|does not exist|is not loaded)"  # vLLM, Ollama, llama.cpp
    r"|\bmodel is not loaded"  # llama.cpp's router
    r"|not found, try pulling"  # Ollama
    r"|\bno models? loaded"  # LM Studio
    r"|no instance found for model"  # exo
    r"|server is pinned to .{0,300}; requested"  # transformers serve
    r"|invalid model name passed in model",  # LiteLLM
    re.IGNORECASE,
)

_NO_PATH = re.compile(
    r"^(?:file |404 page )?not found\.?$|^unexpected endpoint or method|method not allowed",
    re.IGNORECASE,
)


class ErrorText(msgspec.Struct, frozen=True):
    """An error answer's own words: ``code`` is a number or a name, as text; all may be empty."""

    message: str = ""
    type: str = ""
    code: str = ""


def error_text(body: bytes) -> ErrorText:
    """Finds message, type and code in an error body of any known shape. Never raises."""
    value = parse(body)
    if value is None:
        plain = body.decode("utf-8", "replace").strip()
        # A page of HTML is a proxy's in front of the engine: nothing a person would want to read.
        return ErrorText() if plain.startswith("<") else ErrorText(plain[:_MESSAGE_CHARS_MAX])
    return _find(value, _NESTING_MAX)


def _find(value: object, nesting: int) -> ErrorText:
    if isinstance(value, str):
        return _unwrap(ErrorText(value), nesting)
    top = obj(value)
    inner = top.get("error")
    if isinstance(inner, str):
        return _unwrap(ErrorText(inner, code=_name(top.get("code"))), nesting)
    fields = obj(inner) or top
    message = text(fields.get("message")) or _detail(fields.get("detail"))
    message = message or text(fields.get("status")) or ""
    found = ErrorText(message, _name(fields.get("type")), _name(fields.get("code")))
    return _unwrap(found, nesting)


def _unwrap(found: ErrorText, nesting: int) -> ErrorText:
    """Ollama passes on its runner's error as JSON inside the message: the inner one counts."""
    if nesting and found.message.lstrip().startswith("{"):
        inner = _find(parse(found.message.encode("utf-8", "replace")), nesting - 1)
        if inner.message:
            return inner
    return ErrorText(text(found.message[:_MESSAGE_CHARS_MAX]) or "", found.type, found.code)


def _detail(value: object) -> str | None:
    """FastAPI's ``detail``: a text, or a list of validation errors."""
    if isinstance(value, list):
        lines = []
        for item in value[:20]:
            where = obj(item).get("loc")
            path = ".".join(str(step) for step in where[:10]) if isinstance(where, list) else ""
            said = text(obj(item).get("msg")) or text(item) or ""
            lines.append(f"{path}: {said}" if path else said)
        return "; ".join(line for line in lines if line) or None
    return text(value) or text(obj(value).get("message")) or text(obj(value).get("error"))


def _name(value: object) -> str:
    number = whole(value)
    return str(number) if number is not None else text(value) or ""


def is_loading(body: bytes) -> bool:
    """Whether a 503 says that the engine is still loading its model (llama.cpp ``Loading model``,
    llamafile ``{"status": "loading model"}``, LocalAI ``{"status": "starting"}``)."""
    return _LOADING.search(error_text(body).message) is not None


def read_openai_error(status: int, body: bytes) -> UpstreamError:
    """What an error answer means, judged by its text first and its status second.

    A ``status`` below 400 is an error object that came in a 2xx (SGLang tells "queue full" as 200
    and an error event): then the object's own numeric ``code`` stands for it, 500 without one.
    """
    said = error_text(body)
    if status < 400:
        told = int(said.code) if said.code.isdecimal() and len(said.code) == 3 else 0
        status = told if 400 <= told <= 599 else 500
    message = said.message or f"the backend answered {status}"
    return UpstreamError(_meaning(status, said), message)


def _meaning(status: int, said: ErrorText) -> ErrorMeaning:
    if status in (401, 403):
        return ErrorMeaning.CREDENTIALS
    names = {said.type, said.code}
    if names & _TOO_LONG_NAMES or (status != 429 and _TOO_LONG.search(said.message)):
        return ErrorMeaning.PROMPT_TOO_LONG
    if status == 503 and _LOADING.search(said.message):
        return ErrorMeaning.LOADING
    if status in (429, 503, 529):
        return ErrorMeaning.OVERLOADED
    if status == 501 or "not_supported_error" in names or _CANNOT.search(said.message):
        return ErrorMeaning.CANNOT
    if status < 500 and ("model_not_found" in names or _NO_MODEL.search(said.message)):
        return ErrorMeaning.MODEL_NOT_HERE
    # The path itself is not served here (vLLM has no /v1/embeddings for a chat model).
    if status == 405 or (status == 404 and (not said.message or _NO_PATH.search(said.message))):
        return ErrorMeaning.CANNOT
    # 499 is Ollama's "request canceled": our own connection to it went away.
    if status >= 500 or status in (408, 409, 499):
        return ErrorMeaning.SERVER
    return ErrorMeaning.CLIENT
