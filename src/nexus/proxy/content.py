"""Calls whose content is logged: ``logging.content``, off unless the operator says so.

A class of its own, so that calls whose content is nobody's business do not even look whether it is.
"""

from __future__ import annotations

from collections.abc import Callable

from nexus.core.call import Outcome
from nexus.proxy.exchange import Exchange
from nexus.telemetry.logs import get_logger

__all__ = ["LoggedExchange"]

_BYTES_MAX = 16_384
_LOG = get_logger("content")


class LoggedExchange(Exchange):
    """A call that tells what was asked and answered: one line of the component ``content`` when it
    is over, with at most 16 KiB of each side as they went over the wire."""

    # No __slots__ here: what is set once in a while has its default in the class.
    _asked = b""
    _told = b""
    _told_bytes = 0

    def _read_request(self) -> None:
        super()._read_request()
        # After decoding; what could not be read is not logged, it may be anything.
        self._asked = self._body[:_BYTES_MAX]

    def pass_chunks(self, taker: Callable[[bytes], bool]) -> None:
        """No chunk goes past ``send``."""

    def send(self, data: bytes) -> None:
        """Relays bytes, and keeps them for the log."""
        self._keep(data)
        super().send(data)

    def complete(self, data: bytes) -> None:
        """The answer is whole."""
        if self._chunked:  # else they pass ``send``
            self._keep(data)
        super().complete(data)

    def deliver_json(self, body: bytes) -> None:
        """A plain answer."""
        self._keep(body)
        super().deliver_json(body)

    def relay_error(self, status: int, body: bytes, *, left: bool = False) -> None:
        """The backend's own error."""
        self._keep(body)
        super().relay_error(status, body, left=left)

    def _keep(self, data: bytes) -> None:
        room = _BYTES_MAX - len(self._told)
        if room > 0:
            self._told += data[:room]
        self._told_bytes += len(data)

    def _finish(
        self, outcome: Outcome, status: int, *, error: str = "", now_s: float | None = None
    ) -> None:
        if self._asked or self._told:
            _LOG.info(
                "content",
                request_id=self.request_id,
                endpoint=self.endpoint.path,
                outcome=outcome.value,
                request=_text(self._asked),
                request_bytes=self._record.bytes_in,
                answer=_text(self._told),
                answer_bytes=self._told_bytes,
            )
            self._asked = self._told = b""
        super()._finish(outcome, status, error=error, now_s=now_s)


def _text(data: bytes) -> str:
    """As text, whatever it is: audio and pictures are none, and only counted."""
    text = data.decode("utf-8", "replace")
    odd = text.count("\ufffd") + text.count("\0")
    return text if odd * 20 <= len(text) else "(not text)"
