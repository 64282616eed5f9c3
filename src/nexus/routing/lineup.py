"""Line-ups: who can serve a request of one kind, remembered for as long as the snapshot stands.

What a backend is and can do changes only with the snapshot, and few kinds of request are told
apart by the filters. So the answer of ``filters.unfit`` is worked out once per model and kind, and
a score once per change of the backend's live figures: in a large fleet few of them change between
two requests.
"""

from __future__ import annotations

from bisect import bisect_left

from nexus.core.call import RequestProfile
from nexus.core.live import BreakerState
from nexus.core.snapshot import Candidate, Snapshot
from nexus.routing.filters import FULL, Ask, lasting_rank, unfit
from nexus.routing.plan import Scored
from nexus.routing.scorers import Weights, priority_part, quick_score
from nexus.routing.strategies import Contender

__all__ = ["Lineups", "Player"]

_CLOSED = BreakerState.CLOSED

_Kind = tuple[str, bool, bool, bool, bool, frozenset[str], int, int, int]

_KINDS_MAX = 64
_NO_FIELDS: frozenset[str] = frozenset()
_NO_WINDOW = 1 << 62


class Player:
    """A candidate in a line-up, with what was worked out about it when its figures last changed.

    ``contender`` is its rank, score and candidate while nothing but the figures speaks for or
    against it; ``None`` when it is at its limit, or when the clock has a say (its breaker is not
    closed, or it asked to be left alone). ``seen`` is the version of the figures it was made from.
    """

    __slots__ = (
        "_alone",
        "_behind",
        "_capacity",
        "_limit",
        "_model_id",
        "_priority",
        "candidate",
        "contender",
        "live",
        "seen",
    )

    def __init__(self, candidate: Candidate, behind: int) -> None:
        self.candidate = candidate
        self.live = candidate.live
        self.seen = -1
        self.contender: Contender | None = None
        self._behind = behind
        self._limit = candidate.backend.spec.max_concurrency
        self._capacity = candidate.backend.capacity or None
        self._priority = priority_part(candidate.backend.spec.priority)
        self._model_id = candidate.model.id
        self._alone = (Scored(candidate, 1.0, (), behind),)

    def alone(self) -> tuple[Scored, ...] | None:
        """The order of attempt where nobody else can serve: there is nothing to compare its figures
        with. ``None`` when they are not all that counts: a limit, its breaker, a wish to be left
        alone."""
        live = self.live
        if self._limit or live.breaker is not _CLOSED or live.parked_until_s:
            return None
        return self._alone

    def look(self, weights: Weights) -> None:
        """Takes in the figures as they are now."""
        live = self.live
        self.seen = live.version
        steady = live.breaker is _CLOSED and not live.parked_until_s
        self.contender = self.ready(weights) if steady else None

    def ready(self, weights: Weights) -> Contender | None:
        """Its rank and score as things are, breaker and parking aside; ``None`` at its limit."""
        live = self.live
        if self._limit and live.in_flight >= self._limit:
            return None
        busy, capacity, behind = live.busy, self._capacity, self._behind
        if capacity is not None and busy >= capacity:
            behind += FULL
        ttft_s = live.ttft_s(self._model_id)
        score = quick_score(self._priority, busy, capacity, ttft_s, weights)
        return behind, score, self.candidate


class Lineups:
    """The line-ups of one snapshot, made as they are asked for."""

    __slots__ = ("_by_model", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._by_model: dict[str, _ModelLineups] = {}

    def players(self, model: str, ask: Ask) -> list[Player]:
        """Who can serve ``model`` as asked, however they are just now, in the snapshot's order."""
        known = self._by_model.get(model)
        if known is None:
            candidates = self.snapshot.candidates.get(model)
            if not candidates:
                return []  # not remembered: anybody may ask for any name
            known = self._by_model[model] = _ModelLineups(candidates)
        return known.players(ask)

    def plain(self, model: str, profile: RequestProfile, tokens: int) -> list[Player] | None:
        """The same for a request that asks for nothing special and fits every window; ``None``
        when it is not sure to be one. ``tokens``: the input's estimate."""
        known = self._by_model.get(model)
        if (
            known is None
            or profile.needs_vision
            or profile.needs_tools
            or profile.needs_json
            or profile.pin is not None
            or tokens + (profile.max_output_tokens or 0) > known.fits_all_tokens
            or not known.dropped_fields.isdisjoint(profile.fields)
        ):
            return None
        return known.plain.get(profile.endpoint)


class _ModelLineups:
    """The line-ups of one model: by all of a request that ``unfit`` and ``lasting_rank`` see.

    Of its fields only those that some engine here drops, of its size only which windows it
    exceeds: so there are few kinds, and a client cannot make up new ones without end.
    """

    __slots__ = (
        "_by_kind",
        "_candidates",
        "_windows",
        "dropped_fields",
        "fits_all_tokens",
        "plain",
    )

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        self._candidates = candidates
        self._by_kind: dict[_Kind, list[Player]] = {}
        self.dropped_fields = _NO_FIELDS.union(
            *(one.backend.traits.ignored_fields for one in candidates)
        )
        self._windows = sorted({one.model.context_length or 0 for one in candidates})
        known = [window for window in self._windows if window]
        self.fits_all_tokens = min(known) if known else _NO_WINDOW
        self.plain: dict[str, list[Player]] = {}

    def players(self, ask: Ask) -> list[Player]:
        if ask.pin is not None:
            return self._line_up(ask)
        kind = (
            ask.endpoint,
            ask.vision,
            ask.tools,
            ask.json,
            ask.strict,
            ask.fields & self.dropped_fields if ask.fields else _NO_FIELDS,
            bisect_left(self._windows, ask.input_tokens),
            bisect_left(self._windows, ask.total_tokens),
            bisect_left(self._windows, ask.output_tokens),
        )
        players = self._by_kind.get(kind)
        if players is None:
            if len(self._by_kind) >= _KINDS_MAX:
                self._by_kind.clear()
            players = self._by_kind[kind] = self._line_up(ask)
            largest = max(ask.input_tokens, ask.total_tokens)
            if not (ask.special or ask.strict or kind[5]) and largest <= self.fits_all_tokens:
                self.plain[ask.endpoint] = players
        return players

    def _line_up(self, ask: Ask) -> list[Player]:
        return [
            Player(one, lasting_rank(one, ask))
            for one in self._candidates
            if unfit(one, ask) is None
        ]
