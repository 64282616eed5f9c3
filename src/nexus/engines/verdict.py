"""What a check's answer says of a backend's health when it is not the answer hoped for."""

from __future__ import annotations

from collections.abc import Mapping

from nexus.core.model import Model
from nexus.engines.adapter import Answer, CheckResult, Health
from nexus.engines.errors import error_text, is_loading
from nexus.engines.reading import ENTRIES_MAX

__all__ = ["healthy", "refusal", "wrong_answer"]

_REASON_CHARS_MAX = 200


def refusal(answer: Answer) -> CheckResult | None:
    """Why ``answer`` is no success, or ``None`` when it is a 2xx."""
    if answer.status == 0:
        if answer.refused:
            return CheckResult(
                health=Health.LOST, reason=answer.error or "connection refused: nobody listens"
            )
        return CheckResult(health=Health.FAILED, reason=answer.error or "no answer")
    if 200 <= answer.status < 300:
        return None
    if 300 <= answer.status < 400:
        return CheckResult(
            health=Health.FAILED, reason=f"answered {answer.status}, a redirect: is the URL right?"
        )
    said = error_text(answer.body).message[:_REASON_CHARS_MAX]
    told = f": {said}" if said else ""
    if answer.status in (401, 403):
        return CheckResult(
            health=Health.CREDENTIALS, reason=f"credentials refused ({answer.status}){told}"
        )
    if answer.status == 503 and is_loading(answer.body):
        return CheckResult(health=Health.LOADING, reason=f"loading{told}")
    return CheckResult(health=Health.FAILED, reason=f"answered {answer.status}{told}")


def wrong_answer(answer: Answer, wanted: str, doubt: str) -> CheckResult:
    """A 2xx that is not ``wanted`` ("a model list"); ``doubt`` is the question it raises."""
    said = error_text(answer.body)
    # Only an error object is worth quoting: the rest is a page or a value that says nothing.
    quoted = b'"error"' in answer.body and said.message
    told = f": {said.message[:_REASON_CHARS_MAX]}" if quoted else ""
    return CheckResult(
        health=Health.FAILED, reason=f"answered {answer.status} but not {wanted}{told}: {doubt}"
    )


def healthy(
    models: tuple[Model, ...],
    *,
    version: str | None = None,
    capacity: int | None = None,
    load: CheckResult | None = None,
    evidence: Mapping[str, str] | None = None,
    note: str = "",
) -> CheckResult:
    """All is well; the reason counts the models, ``note`` adds to it. ``load`` is what the engine
    said of its load, ``evidence`` where the other facts about it were read."""
    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    if len(models) >= ENTRIES_MAX:
        count += f" (it may list more: the first {ENTRIES_MAX} are taken)"
    load = load or _NOT_TOLD
    return CheckResult(
        health=Health.HEALTHY,
        reason=f"{count}; {note}" if note else count,
        engine_version=version,
        models=models,
        capacity=capacity or load.capacity,
        running=load.running,
        waiting=load.waiting,
        kv_usage=load.kv_usage,
        evidence={**load.evidence, **(evidence or {})},
    )


_NOT_TOLD = CheckResult(health=Health.HEALTHY)
