"""Ollama (docs/api.md of ollama/ollama; measured on 0.33).

``/api/tags`` lists, ``/api/ps`` tells what is resident with the window in force, ``/api/show`` what
a model can do and the ``num_ctx`` of its Modelfile. Show is asked once per digest: the digest
covers template and parameters, so the answer cannot change under it.

The window is never the trained one, which ``/api/tags`` shows: Ollama cuts longer prompts
silently, so a window taken too large would lose the user's words.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nexus.core.backend import (
    BackendSpec,
    Continuation,
    EngineKind,
    EngineTraits,
    FieldCopy,
    Stopping,
)
from nexus.core.model import Capabilities, Model
from nexus.engines.adapter import (
    Answer,
    Ask,
    Check,
    CheckResult,
    ErrorMeaning,
    Health,
    UpstreamError,
)
from nexus.engines.errors import read_openai_error
from nexus.engines.listing import served
from nexus.engines.ollama_models import PS, SHOW, TAGS, read_ps, read_show, read_tags, resident
from nexus.engines.reading import obj, parse, word
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["OllamaAdapter"]

_SHOWS_AT_ONCE = 8
_SHOWS_PER_CHECK_MAX = 64
"""A server with hundreds of models is asked about the rest by the following checks."""


class OllamaAdapter:
    """Ollama, also where it stands for cloud models (noted in ``Model.evidence["cloud"]``)."""

    kind = EngineKind.OLLAMA
    traits = EngineTraits(
        # openai/openai.go reads none of these; measured for n, tool_choice and logit_bias. "user",
        # "store", "metadata" and the like are ignored too, but change no answer anywhere.
        ignored_fields=frozenset(
            {
                "n",
                "tool_choice",
                "parallel_tool_calls",
                "logit_bias",
                "functions",
                "function_call",
                "modalities",
                "audio",
                "web_search_options",
                "verbosity",
                "top_k",
                "min_p",
                "best_of",
                "echo",
            }
        ),
        # Measured: with max_completion_tokens alone the answer runs on without end.
        field_copies=(FieldCopy(field="max_completion_tokens", target="max_tokens"),),
        # Bound to loopback it answers 403 to an Origin it does not know (server/routes.go).
        dropped_headers=frozenset({b"origin", b"referer"}),
        truncates_prompts=True,
        stop_for_tool_calls=True,
        idle_s=30.0,  # Go's server sets no idle timeout of its own
        paths=frozenset(
            {
                "/v1/chat/completions",
                "/v1/completions",
                "/v1/embeddings",
                "/v1/models",
                "/v1/responses",
                "/v1/messages",
                "/v1/audio/transcriptions",
            }
        ),
        # Measured: GGUFs with a template of their own repeat the text, Go templates may close it.
        continuation=Continuation(may_echo=True, by_template=True),
        stopping=Stopping.ALWAYS,
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Version, list and residents together; then show for what is new."""
        version, tags, ps = yield (Ask("/api/version"), Ask(TAGS), Ask(PS))
        ended = _refused(tags)
        if ended is not None:
            return ended
        listed = read_tags(tags.body)
        if listed is None:
            return wrong_answer(tags, "Ollama's model list", "not Ollama?")
        before: dict[str | None, Model] = {model.digest: model for model in known if model.digest}
        residents = read_ps(ps.body) if ps.status == 200 else None
        models = [_remembered(resident(model, residents), before) for model in listed]
        wanted = [at for at, model in enumerate(models) if "template" not in model.evidence]
        for batch in _batches(wanted[:_SHOWS_PER_CHECK_MAX]):
            answers = yield tuple(_ask_show(models[at]) for at in batch)
            for at, answer in zip(batch, answers, strict=True):
                if answer.status == 200:
                    models[at] = read_show(models[at], answer.body, before.get(models[at].digest))
            if any(answer.status == 0 for answer in answers):
                break  # it is slow just now: what is known will do until the next check
        told = _version(version)
        evidence = {"engine_version": "/api/version"} if told else {}
        return healthy(served(models, spec), version=told, evidence=evidence)

    def load(self) -> Check | None:
        """``/api/ps`` counts no requests: our own in flight is the truth."""
        return None

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's, except for its 403 without a word (a Host or Origin it refuses, which
        no credential would change) and its 401 and 403 for a cloud model that nobody signed in
        for: its own models need neither, so it is that model that cannot be had."""
        if status == 403 and not body.strip():
            return UpstreamError(ErrorMeaning.SERVER, _FOREIGN_HOST)
        said = read_openai_error(status, body)
        if status in (401, 403) and "signin_url" in obj(parse(body)):
            return UpstreamError(ErrorMeaning.CANNOT, f"{said.message} (run `ollama signin` there)")
        return said


_FOREIGN_HOST = "Ollama refuses this Host or Origin (OLLAMA_ORIGINS, OLLAMA_HOST)"


def _refused(tags: Answer) -> CheckResult | None:
    if tags.status == 403 and not tags.body.strip():
        return CheckResult(health=Health.FAILED, reason=f"answered 403: {_FOREIGN_HOST}")
    return refusal(tags)


def _version(answer: Answer) -> str | None:
    return word(obj(parse(answer.body)).get("version")) if answer.status == 200 else None


def _remembered(model: Model, before: dict[str | None, Model]) -> Model:
    """``model`` of this list with what is known of its digest. Without ``evidence["template"]``
    show is asked (again)."""
    old = before.get(model.digest)
    if old is None or "template" not in old.evidence:
        return model
    evidence = {**old.evidence, **model.evidence}
    if not model.context_length and old.evidence.get("context_length") == PS:
        # It was resident and is not now: the next load takes the Modelfile's window, which only
        # show tells.
        del evidence["template"]
    for field in Capabilities.__struct_fields__:
        if field in old.evidence:
            evidence[field] = old.evidence[field]
    return msgspec.structs.replace(
        model,
        context_length=model.context_length or old.context_length,
        capabilities=old.capabilities,
        kind=old.kind,
        evidence=evidence,
    )


def _batches(items: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(items), _SHOWS_AT_ONCE):
        yield items[start : start + _SHOWS_AT_ONCE]


def _ask_show(model: Model) -> Ask:
    body = msgspec.json.encode({"model": model.engine_name, "verbose": False})
    return Ask(SHOW, body=body)
