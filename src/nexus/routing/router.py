"""The router: one request's profile and one snapshot in, one plan out. Synchronous and pure.

Resolve the alias; take the candidates that serve the model; filter, what they can do before how
they are; score; order. When nobody is left the model's fallbacks are tried in their order, then
the refusal says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from nexus.core.call import RequestProfile, RouteReason
from nexus.core.errors import ApiError
from nexus.core.live import BackendLive, BreakerState
from nexus.core.snapshot import Snapshot
from nexus.routing import refusals
from nexus.routing.aliases import resolve_alias
from nexus.routing.filters import (
    FULL,
    TRIPPED,
    Ask,
    detail,
    ignored_fields,
    lets_through,
    obstacle,
)
from nexus.routing.lineup import Lineups, Player
from nexus.routing.plan import Dropped, DropReason, Plan, Scored, ScoreParts, explain_view
from nexus.routing.ratio import Ratios
from nexus.routing.scorers import (
    Weights,
    latency_part,
    load_part,
    priority_part,
)
from nexus.routing.strategies import STRATEGIES, Contender, Strategy

__all__ = ["Router", "RoutingSettings"]

_CLOSED = BreakerState.CLOSED


class RoutingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to route; ``[routing]`` of the configuration.

    ``weights`` may have any scale: they are normalised here. ``aliases``: name → model or further
    alias. ``fallbacks``: model → models to serve instead, in order. ``candidates_max``: how many
    candidates a plan names, at least as many as attempts are made (an explained plan names all).
    The strategy ``least_load`` knows one part of the score only, whatever the weights.
    Raises ``ValueError`` for an unknown strategy or weights that mean nothing.
    """

    strategy: Strategy = Strategy.SMART
    weights: Weights = Weights()
    aliases: Mapping[str, str] = {}
    fallbacks: Mapping[str, tuple[str, ...]] = {}
    strict_parameters: bool = False
    candidates_max: int = 16

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "strategy", Strategy(self.strategy))
        weights = self.weights.normalised()
        if self.strategy is Strategy.LEAST_LOAD:
            weights = Weights(priority=0.0, load=1.0, latency=0.0)
        msgspec.structs.force_setattr(self, "weights", weights)


class Router:
    """Decides where requests go. Keeps whose turn it is per model, and learned token ratios.

    ``settings`` may be replaced whole at any time between two calls.
    """

    __slots__ = ("_lineups", "_settings", "_turns", "ratios")

    explain_view = staticmethod(explain_view)

    def __init__(self, settings: RoutingSettings | None = None) -> None:
        self._settings = settings or RoutingSettings()
        self.ratios = Ratios()
        self._turns: dict[str, int] = {}
        self._lineups: Lineups | None = None

    @property
    def settings(self) -> RoutingSettings:
        """How to route. Setting it forgets the scores that the old weights made."""
        return self._settings

    @settings.setter
    def settings(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._lineups = None

    def route(
        self,
        snapshot: Snapshot,
        profile: RequestProfile,
        *,
        now_s: float,
        rng: Random,
        explain: bool = False,
    ) -> Plan:
        """Where ``profile`` goes: a plan with at least one candidate.

        ``now_s`` is monotonic seconds. Raises ``ApiError``: 404 (model or pinned backend unknown),
        503 (nobody healthy, or all at their limits), 400 (nobody able), 429 (all ask for patience).
        With ``explain`` nothing is raised: the plan has ``dropped`` and ``refusal`` filled in, and
        nobody's turn passes.
        """
        if not explain:
            plan = self._plain_route(snapshot, profile, now_s, rng)
            if plan is not None:
                return plan
        requested = profile.model
        settings = self._settings
        depth = settings.candidates_max
        model, chain = resolve_alias(requested, settings.aliases, snapshot.candidates)
        try:
            if profile.pin is not None and profile.pin not in snapshot.backends:
                raise ApiError.backend_not_found(profile.pin)
            ask = self._ask(model, profile)
            contenders = self._contenders(snapshot, model, ask, now_s)
            fallback = None
            if not contenders and settings.fallbacks:
                for name in self._fallbacks(model, chain):
                    other, _ = resolve_alias(name, settings.aliases, snapshot.candidates)
                    other_ask = self._ask(other, profile)
                    contenders = self._contenders(snapshot, other, other_ask, now_s)
                    if contenders:
                        fallback = model = other
                        ask = other_ask
                        break
            if not contenders:
                raise self._refusal(snapshot, model, ask, requested, now_s)
        except ApiError as refusal:
            if not explain:
                raise
            ask = self._ask(model, profile)
            return Plan(
                requested_model=requested,
                model=model,
                profile=profile,
                candidates=(),
                reason=RouteReason.CAPABILITY_MATCH,
                estimated_tokens=ask.input_tokens,
                alias_chain=chain,
                dropped=self._dropped(snapshot, model, ask, now_s, ()),
                refusal=refusal,
            )
        ordered = contenders
        if len(contenders) > 1:
            ordered = self._ordered(contenders, model, rng, explain)
        if fallback is not None:
            reason = RouteReason.FALLBACK
        elif len(ordered) > 1 and _overflowed(ordered):
            reason = RouteReason.OVERFLOW
        else:
            reason = RouteReason.CAPABILITY_MATCH
        return Plan(
            requested_model=requested,
            model=model,
            profile=profile,
            candidates=tuple(
                [_explained(one, ask) for one in ordered]
                if explain
                else [_scored(one, ask) for one in ordered[:depth]]
            ),
            reason=reason,
            estimated_tokens=ask.input_tokens,
            alias_chain=chain,
            dropped=self._dropped(snapshot, model, ask, now_s, ordered) if explain else (),
            fallback_model=fallback,
        )

    def _plain_route(
        self, snapshot: Snapshot, profile: RequestProfile, now_s: float, rng: Random
    ) -> Plan | None:
        """The way of most requests, which ask for nothing special: the same decision with nothing
        worked out that it does not need. ``None`` when the long way must look."""
        model = profile.model
        lineups = self._lineups
        if lineups is None or lineups.snapshot is not snapshot or self._settings.strict_parameters:
            return None
        tokens = self.ratios.estimate_tokens(model, profile)
        players = lineups.plain(model, profile, tokens)
        if players is None:
            return None
        reason = RouteReason.CAPABILITY_MATCH
        candidates = players[0].alone() if len(players) == 1 else None
        if candidates is None:
            contenders = self._ready(players, now_s)
            if not contenders:
                return None
            if len(contenders) > 1:
                contenders = self._ordered(contenders, model, rng, explain=False)
                if _overflowed(contenders):
                    reason = RouteReason.OVERFLOW
            candidates = tuple(
                [
                    Scored(candidate, score, (), behind)
                    for behind, score, candidate in contenders[: self._settings.candidates_max]
                ]
            )
        return Plan(
            requested_model=model,
            model=model,
            profile=profile,
            candidates=candidates,
            reason=reason,
            estimated_tokens=tokens,
        )

    def _ask(self, model: str, profile: RequestProfile) -> Ask:
        tokens = self.ratios.estimate_tokens(model, profile)
        return Ask(profile, tokens, self._settings.strict_parameters)

    def _fallbacks(self, model: str, chain: tuple[str, ...]) -> tuple[str, ...]:
        """What may be served instead of ``model``; what was configured for a name on the way to it
        counts when nothing was for the model itself."""
        fallbacks = self._settings.fallbacks
        for name in (model, *reversed(chain)):
            if name in fallbacks:
                return fallbacks[name]
        return ()

    def _contenders(
        self, snapshot: Snapshot, model: str, ask: Ask, now_s: float
    ) -> list[Contender]:
        """Who may be tried for ``model``, with rank and score, in the snapshot's order."""
        lineups = self._lineups
        if lineups is None or lineups.snapshot is not snapshot:
            lineups = self._lineups = Lineups(snapshot)
        return self._ready(lineups.players(model, ask), now_s)

    def _ready(self, players: list[Player], now_s: float) -> list[Contender]:
        """Those of ``players`` who may be tried just now."""
        contenders: list[Contender] = []
        weights = self._settings.weights
        waiting = False
        for player in players:
            if player.seen != player.live.version:
                player.look(weights)
            contender = player.contender
            if contender is not None:
                contenders.append(contender)
            else:
                waiting = True
        return self._with_waiting(players, now_s) if waiting else contenders

    def _with_waiting(self, players: list[Player], now_s: float) -> list[Contender]:
        """The same when the clock has a say on some: parked, or with a breaker that tripped."""
        contenders: list[Contender] = []
        tripped: list[Contender] = []
        weights = self._settings.weights
        trial = _trial(players, now_s)
        for player in players:
            contender = player.contender or player.ready(weights)
            live = player.live
            if contender is None or live.parked_until_s > now_s:
                continue
            if live.breaker is _CLOSED:
                contenders.append(contender)
            elif not lets_through(live, now_s):
                tripped.append(contender)
            elif live.breaker is BreakerState.OPEN and live is not trial:
                behind, score, candidate = contender
                contenders.append((behind + TRIPPED, score, candidate))
            else:
                # Half-open, by a probe's good word or because its time has come: it waits for one
                # trial. Behind others it would never get it, and stay out while they do well.
                contenders.append(contender)
        if not contenders and tripped:
            # Better a doubtful backend than none (behaviour § 4).
            contenders.append(min(tripped, key=lambda one: one[2].live.open_until_s))
        return contenders

    def _ordered(
        self, contenders: list[Contender], model: str, rng: Random, explain: bool
    ) -> list[Contender]:
        """In the order of attempt: by rank, and within a rank by the strategy."""
        turn = self._turns.get(model, 0)
        if not explain:
            self._turns[model] = turn + 1
        order = STRATEGIES[self._settings.strategy]
        ranks = {one[0] for one in contenders}
        if len(ranks) == 1:
            return order(contenders, rng, turn)
        by_rank: dict[int, list[Contender]] = {value: [] for value in sorted(ranks)}
        for one in contenders:
            by_rank[one[0]].append(one)
        ordered: list[Contender] = []
        for equals in by_rank.values():
            ordered += order(equals, rng, turn)
        return ordered

    def _dropped(
        self,
        snapshot: Snapshot,
        model: str,
        ask: Ask,
        now_s: float,
        kept: Sequence[Contender],
    ) -> tuple[Dropped, ...]:
        """Every backend that serves ``model`` and is not ``kept``, each with its reason."""
        names = {candidate.backend.name for _, _, candidate in kept}
        dropped = []
        for candidate in snapshot.candidates.get(model, ()):
            reason = obstacle(candidate, ask, now_s)
            name = candidate.backend.name
            if reason is not None and name not in names:
                dropped.append(Dropped(name, reason, detail(reason, candidate, ask, now_s)))
        return tuple(dropped)

    def _refusal(
        self, snapshot: Snapshot, model: str, ask: Ask, requested: str, now_s: float
    ) -> ApiError:
        candidates = snapshot.candidates.get(model, ())
        if not candidates:
            return refusals.unknown_model(requested, snapshot)
        dropped = self._dropped(snapshot, model, ask, now_s, ())
        if all(one.reason is DropReason.PIN for one in dropped):
            return refusals.not_on_pinned(requested, str(ask.pin), snapshot)
        return refusals.no_candidate(requested, candidates, dropped, ask, now_s)


def _trial(players: list[Player], now_s: float) -> BackendLive | None:
    """Of those whose breaker's time has come the one that waits longest: one at a time, since a
    call that met several that are still ill would use up its attempts."""
    due = [
        player.live
        for player in players
        if player.live.breaker is BreakerState.OPEN and lets_through(player.live, now_s)
    ]
    return min(due, key=lambda live: live.open_until_s) if due else None


def _scored(contender: Contender, ask: Ask) -> Scored:
    behind, score, candidate = contender
    ignored = ignored_fields(candidate, ask) if ask.fields else ()
    return Scored(candidate, score, ignored, behind)


def _explained(contender: Contender, ask: Ask) -> Scored:
    """The same with the parts of the score, which nobody else looks at."""
    candidate = contender[2]
    backend, live = candidate.backend, candidate.live
    parts = ScoreParts(
        priority_part(backend.spec.priority),
        load_part(live.busy, backend.capacity),
        latency_part(live.ttft_s(candidate.model.id)),
    )
    return msgspec.structs.replace(_scored(contender, ask), parts=parts)


def _overflowed(ordered: list[Contender]) -> bool:
    """Whether a full backend would have stood first: it has the better score and nothing else
    against it."""
    chosen, best, _ = ordered[0]
    # The last one has the highest rank: in most calls this is all there is to look at.
    if chosen & FULL or ordered[-1][0] == 0:
        return False
    for behind, score, _ in ordered:
        if behind & FULL:
            without = behind - FULL
            if without < chosen or (without == chosen and score > best):
                return True
    return False
