"""exo (its API as of 0.3.70, read from the source, not run).

``/v1/models`` lists every model card it knows of; what can be used is what has an instance, which
only ``/state`` tells. The state document is large, so its parts are asked for.
"""

from __future__ import annotations

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
from nexus.engines.adapter import Answer, Ask, Check, CheckResult, Health, UpstreamError
from nexus.engines.errors import read_openai_error
from nexus.engines.evidence import noted
from nexus.engines.generic import MODEL_LIST, NOT_A_LIST
from nexus.engines.listing import first_seen, listed_entries, openai_model, served
from nexus.engines.reading import Object, name, obj, parse, positive, text, texts, word
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["ExoAdapter"]

_STATE_BYTES_MAX = 16 * 1024 * 1024
_INSTANCES = Ask("/state/instances")
_RUNNERS = Ask("/state/runners")
_TASKS = Ask("/state/tasks")
_READY = frozenset({"RunnerReady", "RunnerRunning"})
_GONE = frozenset({"RunnerFailed", "RunnerShuttingDown", "RunnerShutdown"})
_AT_WORK = {"Running": "running", "Pending": "waiting"}


class ExoAdapter:
    """exo, a cluster behind one address."""

    kind = EngineKind.EXO
    traits = EngineTraits(
        # Its request type takes them, but nothing is made of them (api/adapters).
        ignored_fields=frozenset(
            {
                "response_format",
                "tool_choice",
                "parallel_tool_calls",
                "n",
                "logit_bias",
                "frequency_penalty",
                "presence_penalty",
            }
        ),
        field_copies=(FieldCopy(field="max_completion_tokens", target="max_tokens"),),
        idle_s=4.0,
        paths=frozenset(
            {
                "/v1/chat/completions",
                "/v1/models",
                "/v1/responses",
                "/v1/messages",
                "/v1/images/generations",
                "/v1/images/edits",
            }
        ),
        continuation=Continuation(),  # the text stands behind the generation prompt
        stopping=Stopping.ALWAYS,
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """The cards, and which of them have an instance."""
        listing, instances, runners, tasks = yield (MODEL_LIST, _INSTANCES, _RUNNERS, _TASKS)
        ended = refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        running: Object = _object(instances)
        states: Object = _object(runners)
        told = instances.status == 200
        if not told:
            (whole_state,) = yield (Ask("/state", body_bytes_max=_STATE_BYTES_MAX),)
            state = _object(whole_state)
            running, states = obj(state.get("instances")), obj(state.get("runners"))
            told = "instances" in state
        cards = [_card(entry) for entry in found]
        if told:
            loaded = _loaded(running, states)
            cards = [
                noted(
                    msgspec.structs.replace(card, loaded=loaded[card.engine_name]), "/state runners"
                )
                for card in cards
                if card.engine_name in loaded
            ]
        return healthy(
            served(first_seen(cards, known), spec),
            load=_read_tasks(tasks),
            note="" if told else "its state is not told: all known cards are taken as usable",
        )

    def load(self) -> Check | None:
        """``/state/tasks``: text generations running and pending."""
        return _load()

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's; see ``errors.py``."""
        return read_openai_error(status, body)


def _object(answer: Answer) -> Object:
    return obj(parse(answer.body)) if answer.status == 200 else {}


def _variant(value: object) -> tuple[str, Object]:
    """A tagged union ``{"Tag": {...}}``."""
    for tag, fields in obj(value).items():
        return tag, obj(fields)
    return (value, {}) if isinstance(value, str) else ("", {})


def _loaded(instances: Object, runners: Object) -> dict[str, bool]:
    """Models that have an instance → whether it is ready; a failed instance counts as none. One
    that is still loading takes calls and keeps them waiting."""
    result: dict[str, bool] = {}
    for instance in instances.values():
        shards = obj(_variant(instance)[1].get("shardAssignments"))
        own = name(shards.get("modelId"))
        if own is None:
            continue
        ids = obj(shards.get("runnerToShard"))
        states = {_variant(runners.get(runner))[0] for runner in ids}
        if states & _GONE:
            continue
        result[own] = result.get(own, False) or (bool(states) and states <= _READY)
    return result


def _card(entry: Object) -> Model:
    model = openai_model(entry)
    can = {word.lower() for word in texts(entry.get("capabilities"))}
    told = {
        "vision": True if "vision" in can else None,
        "reasoning": True if can & {"thinking", "reasoning"} else None,
    }
    evidence = {field: MODEL_LIST.path for field, value in told.items() if value}
    size_mb = positive(entry.get("storage_size_megabytes"))
    card = msgspec.structs.replace(
        model,
        # It drops response_format without a word.
        capabilities=Capabilities(**told, json_mode=False),
        size_bytes=size_mb * 1024 * 1024 if size_mb else None,
        quantization=word(entry.get("quantization")),
        family=word(entry.get("family")),
        evidence={**model.evidence, **evidence, "json_mode": "engine"},
    )
    return noted(card, MODEL_LIST.path)


def _load() -> Check:
    (answer,) = yield (_TASKS,)
    if answer.status == 404:
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    return refusal(answer) or _read_tasks(answer)


def _read_tasks(answer: Answer) -> CheckResult:
    tasks = parse(answer.body) if answer.status == 200 else None
    if not isinstance(tasks, dict):
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    counts = {"running": 0, "waiting": 0}
    for task in tasks.values():
        tag, fields = _variant(task)
        at_work = _AT_WORK.get(text(fields.get("taskStatus")) or "")
        if tag == "TextGeneration" and at_work:
            counts[at_work] += 1
    return CheckResult(
        health=Health.HEALTHY,
        running=counts["running"],
        waiting=counts["waiting"],
        evidence=dict.fromkeys(counts, _TASKS.path),
    )
