"""Where a finished call goes: every view of it, from one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from nexus.core.call import Outcome
from nexus.telemetry.history import History, drop_big_profile
from nexus.telemetry.logs import get_logger
from nexus.telemetry.metrics import Metrics
from nexus.telemetry.record import CallRecord
from nexus.telemetry.stats import Stats
from nexus.telemetry.window import slice_number

if TYPE_CHECKING:
    from nexus.telemetry.access import AccessLog

__all__ = ["Recorder", "Sink"]

Sink = Callable[[CallRecord], None]
"""A view of finished calls: cheap, called on the loop's thread."""

_Noted = tuple[float, CallRecord]
"""A call that is over, and since when: monotonic seconds."""

# A model's name, and an error that quotes it, may be as long as a request body.
_NAME_CHARS_MAX = 1_024
_ERROR_CHARS_MAX = 2_048
_BATCH = 64


class Recorder:
    """Takes every finished call, once, and hands it to every view of calls.

    The access log and ``sinks`` are told at once. Statistics, metrics and history are told of 64
    calls at a time, or before they are read: counting while code and numbers are in the CPU's
    caches takes a third of the time that it takes between two calls, and those that are alike are
    counted together.

    It never raises: a view that fails is logged, the others are served, and the call is not
    harmed. ``failures`` counts such failures.
    """

    __slots__ = ("_history", "_log", "_metrics", "_noted", "_sinks", "failures", "stats")

    def __init__(
        self,
        stats: Stats,
        access_log: AccessLog | None = None,
        sinks: Iterable[Sink] = (),
        *,
        metrics: Metrics | None = None,
        history: History | None = None,
    ) -> None:
        self.stats = stats
        self.failures = 0
        self._log = get_logger("telemetry")
        self._noted: list[_Noted] = []
        self._sinks: list[Sink] = [] if access_log is None else [access_log.write]
        self._sinks += sinks
        self._metrics = metrics
        self._history = history
        stats.settle = self.settle
        if history is not None:
            history.settle = self.settle

    def add(self, sink: Sink) -> None:
        """One more view, told at once, from now on."""
        self._sinks.append(sink)

    def __call__(self, record: CallRecord) -> None:
        """The call is over."""
        if len(record.model) > _NAME_CHARS_MAX:
            record.model = record.model[:_NAME_CHARS_MAX]
            record.profile = None  # it names the model in full
        if len(record.error) > _ERROR_CHARS_MAX:
            record.error = record.error[:_ERROR_CHARS_MAX]
        drop_big_profile(record)
        noted = self._noted
        noted.append((monotonic(), record))
        for sink in self._sinks:
            try:
                sink(record)
            except Exception:
                self._failed()
        if len(noted) >= _BATCH:
            self.settle()

    def settle(self) -> None:
        """Tells the views that are told later of every call up to now."""
        noted = self._noted
        if not noted:
            return
        self._noted = []
        rest = noted
        at_s = noted[-1][0]
        if slice_number(noted[0][0]) == slice_number(at_s):
            groups, rest = _alike(noted)
            for group in groups:
                self._try(self.stats.count_alike, at_s, group)
                if self._metrics is not None:
                    self._try(self._metrics.record_alike, group)
        for ended_s, record in rest:
            self._try(self.stats.count_at, ended_s, record)
            if self._metrics is not None:
                self._try(self._metrics.record, record)
        if self._history is not None:
            self._try(self._history.add_all, [record for _, record in noted])

    def _try(self, tell: Callable[..., None], *what: object) -> None:
        try:
            tell(*what)
        except Exception:
            self._failed()

    def _failed(self) -> None:
        self.failures += 1
        if self.failures <= 10:  # the same fault ten thousand times says nothing new
            self._log.exception("record_sink_failed")


def _alike(noted: list[_Noted]) -> tuple[list[list[CallRecord]], list[_Noted]]:
    """The plain calls that went well at the first attempt, by endpoint, model and backend, and all
    others: of most calls there is little to tell one by one."""
    groups: dict[tuple[str, str, str], list[CallRecord]] = {}
    rest: list[_Noted] = []
    for one in noted:
        record = one[1]
        if (
            record.outcome is not Outcome.OK
            or record.stream
            or len(record.attempts) != 1
            or not record.served_model
        ):
            rest.append(one)
            continue
        key = (record.endpoint, record.served_model, record.backend)
        group = groups.get(key)
        if group is None:
            groups[key] = [record]
        else:
            group.append(record)
    return list(groups.values()), rest
