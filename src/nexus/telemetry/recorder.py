"""Where a finished call goes: every view of it, from one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nexus.telemetry.logs import get_logger
from nexus.telemetry.record import CallRecord
from nexus.telemetry.stats import Stats

if TYPE_CHECKING:
    from nexus.telemetry.access import AccessLog

__all__ = ["Recorder", "Sink"]

Sink = Callable[[CallRecord], None]
"""A view of finished calls: cheap, called on the loop's thread."""

# A model's name, and an error that quotes it, may be as long as a request body.
_NAME_CHARS_MAX = 1_024
_ERROR_CHARS_MAX = 2_048


class Recorder:
    """Takes every finished call, once, and hands it to statistics, access log and further sinks.

    It never raises: a view that fails is logged, the others are served, and the call is not
    harmed. ``failures`` counts such failures.
    """

    __slots__ = ("_log", "_sinks", "failures", "stats")

    def __init__(
        self, stats: Stats, access_log: AccessLog | None = None, sinks: Iterable[Sink] = ()
    ) -> None:
        self.stats = stats
        self.failures = 0
        self._log = get_logger("telemetry")
        self._sinks: list[Sink] = [stats.count]
        if access_log is not None:
            self._sinks.append(access_log.write)
        self._sinks += sinks

    def add(self, sink: Sink) -> None:
        """One more view, from now on."""
        self._sinks.append(sink)

    def begin(self) -> None:
        """A call has been accepted: it is in flight until its record comes."""
        self.stats.begin()

    def __call__(self, record: CallRecord) -> None:
        """The call is over."""
        if len(record.model) > _NAME_CHARS_MAX:
            record.model = record.model[:_NAME_CHARS_MAX]
            record.profile = None  # it names the model in full
        if len(record.error) > _ERROR_CHARS_MAX:
            record.error = record.error[:_ERROR_CHARS_MAX]
        for sink in self._sinks:
            try:
                sink(record)
            except Exception:
                self.failures += 1
                if self.failures <= 10:  # the same fault ten thousand times says nothing new
                    self._log.exception("record_sink_failed")
