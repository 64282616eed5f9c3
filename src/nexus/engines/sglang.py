"""SGLang (its OpenAI-compatible server; read from the source of 0.5.23, not run).

Never its ``/health``: that generates a token. ``/ready`` tells of starting, ``/model_info`` what
the model can do, ``/v1/loads`` the load. It does not check the model's name, and takes what stands
before a colon for a LoRA's base: the engine's own name must go upstream.
"""

from __future__ import annotations

import msgspec

from nexus.core.backend import (
    BackendSpec,
    Continuation,
    EngineKind,
    EngineTraits,
    Stopping,
)
from nexus.core.model import Capabilities, Model, ModelKind
from nexus.engines.adapter import Answer, Ask, Check, CheckResult, Health, UpstreamError
from nexus.engines.errors import read_openai_error
from nexus.engines.evidence import noted
from nexus.engines.generic import MODEL_LIST, NOT_A_LIST
from nexus.engines.listing import first_seen, listed_entries, openai_model, served
from nexus.engines.reading import Object, entries, flag, obj, parse, share, text, whole, word
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["SglangAdapter"]

_INFO = "/model_info"
_LOADS = Ask("/v1/loads?include=core")


class SglangAdapter:
    """SGLang."""

    kind = EngineKind.SGLANG
    traits = EngineTraits(
        refuses_long_output=True,  # "Requested token count exceeds ..." counts the output too
        idle_s=4.0,  # uvicorn closes idle connections after 5 s
        # Without the field it makes a user message of the partial answer.
        continuation=Continuation(fields=(("continue_final_message", True),)),
        stopping=Stopping.ALWAYS,  # within two seconds
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Readiness, list, model information and load together."""
        ready, listing, info, loads = yield (Ask("/ready"), MODEL_LIST, Ask(_INFO), _LOADS)
        if ready.status == 503:
            return CheckResult(health=Health.LOADING, reason="starting (503 at /ready)")
        ended = refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        if info.status in (404, 405):
            (info,) = yield (Ask("/get_model_info"),)  # before 0.5
        told = obj(parse(info.body)) if info.status == 200 else {}
        listed = [_with_info(openai_model(entry), told) for entry in found]
        version = word(obj(parse(loads.body)).get("version")) if loads.status == 200 else None
        return healthy(
            served(first_seen(listed, known), spec),
            version=version,
            load=_read_loads(loads),
            evidence={"engine_version": "/v1/loads version"} if version else None,
        )

    def load(self) -> Check | None:
        """``/v1/loads``, ``/get_load`` on older versions, summed over data-parallel ranks."""
        return _load()

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's (its errors are flat objects); see ``errors.py``."""
        return read_openai_error(status, body)


def _with_info(model: Model, info: Object) -> Model:
    generates = flag(info.get("is_generation"))
    told: dict[str, bool | None] = {
        "vision": flag(info.get("has_image_understanding")),
        # Without a parser the answer holds the call as text: no tools, though the model may.
        "tools": bool(text(info.get("tool_call_parser"))) if "tool_call_parser" in info else None,
        "embeddings": None if generates is None else not generates,
        "reasoning": True if text(info.get("reasoning_parser")) else None,
    }
    evidence = {field: _INFO for field, value in told.items() if value is not None}
    changed = msgspec.structs.replace(
        model,
        kind=ModelKind.EMBEDDING if generates is False else model.kind,
        capabilities=Capabilities(**told, json_mode=True),
        loaded=True,  # a process serves what it has in memory
        evidence={**model.evidence, **evidence, "json_mode": "engine", "loaded": "engine"},
    )
    return noted(changed, _INFO)


def _read_loads(answer: Answer) -> CheckResult:
    """``{"loads": [{num_running_reqs, num_waiting_reqs, max_running_requests, token_usage}]}``, one
    per data-parallel rank: counts are added, of the caches the fullest counts."""
    ranks = entries(obj(parse(answer.body)).get("loads")) if answer.status == 200 else []
    usages = [used for rank in ranks if (used := share(rank.get("token_usage"))) is not None]
    told: dict[str, int | float | None] = {
        "capacity": _total(ranks, "max_running_requests") or None,
        "running": _total(ranks, "num_running_reqs"),
        "waiting": _total(ranks, "num_waiting_reqs"),
        "kv_usage": max(usages, default=None),
    }
    evidence = {field: "/v1/loads" for field, value in told.items() if value is not None}
    return msgspec.convert({"health": Health.HEALTHY, "evidence": evidence, **told}, CheckResult)


def _total(ranks: list[Object], field: str) -> int | None:
    counts = [count for rank in ranks if (count := whole(rank.get(field))) is not None]
    return sum(counts) if counts else None


def _load() -> Check:
    (answer,) = yield (_LOADS,)
    if answer.status not in (404, 405):
        return refusal(answer) or _read_loads(answer)
    (answer,) = yield (Ask("/get_load"),)
    if answer.status in (404, 405):
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    ended = refusal(answer)
    if ended is not None:
        return ended
    ranks = entries(parse(answer.body))
    total, waiting = _total(ranks, "num_reqs"), _total(ranks, "num_waiting_reqs")
    running = None if total is None else max(total - (waiting or 0), 0)
    told = {"running": running, "waiting": waiting}
    evidence = {field: "/get_load" for field, value in told.items() if value is not None}
    return CheckResult(health=Health.HEALTHY, running=running, waiting=waiting, evidence=evidence)
