"""After a failed attempt: what it means for the backend, and what the client is told at the end.

The questions are asked of the failure itself (``core/errors.py``), never of its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from time import time

import msgspec

from nexus.core.errors import ApiError, AttemptFailure, FailureKind
from nexus.engines.adapter import ErrorMeaning, UpstreamError

__all__ = ["Failed", "failure_of_status", "final_error", "may_repeat_here", "parse_retry_after"]

RETRY_AFTER_MAX_S = 60.0

_KINDS = {
    ErrorMeaning.MODEL_NOT_HERE: FailureKind.MODEL_NOT_HERE,
    ErrorMeaning.CANNOT: FailureKind.CANNOT,
    ErrorMeaning.PROMPT_TOO_LONG: FailureKind.PROMPT_TOO_LONG,
    ErrorMeaning.LOADING: FailureKind.LOADING,
    ErrorMeaning.OVERLOADED: FailureKind.OVERLOADED,
}
_RETRIED_STATUSES = frozenset({408, 409, 429})
_BREAKER_STATUSES = frozenset({502, 503, 504})
_MESSAGE_MAX = 300


class Failed(msgspec.Struct, frozen=True):
    """A failed attempt, remembered until the call ends."""

    backend: str
    failure: AttemptFailure


def failure_of_status(
    status: int,
    read: UpstreamError,
    body: bytes,
    retry_after_s: float | None,
    *,
    client_credential: bool,
) -> AttemptFailure | None:
    """What an error answer makes of an attempt, or ``None`` when it is the client's to have: it is
    relayed (behaviour § 5.2). ``client_credential``: the client's own credential went along."""
    message = (
        f"answered {status}: {read.message[:_MESSAGE_MAX]}"
        if read.message
        else f"answered {status}"
    )
    kind = _KINDS.get(read.meaning)
    # Whatever it says: a client that followed it would take prompt and key elsewhere.
    if 300 <= status < 400:
        return AttemptFailure(
            FailureKind.INVALID,
            f"Invalid backend response (redirect {status}: the backend's URL may be wrong)",
            status=status,
        )
    if status == 508:
        return AttemptFailure(FailureKind.LOOP, message, status=status, against_backend=False)
    if read.meaning is ErrorMeaning.CREDENTIALS:
        if client_credential:
            return None
        return AttemptFailure(
            FailureKind.CREDENTIALS,
            f"refused the gateway's credentials ({status})",
            status=status,
            against_backend=False,
        )
    if kind is not None:
        loaded = kind in (FailureKind.LOADING, FailureKind.OVERLOADED)
        return AttemptFailure(
            kind,
            message,
            status=status,
            body=body,
            retry_after_s=retry_after_s,
            against_backend=loaded and status in _BREAKER_STATUSES,
        )
    if status >= 500 or status in _RETRIED_STATUSES or read.meaning is ErrorMeaning.SERVER:
        if status >= 500 and read.meaning is ErrorMeaning.CLIENT:
            # An engine that answers 500 to a bad request: relaying a 5xx would make clients retry
            # what can never work, so it counts as a failure that speaks against nobody.
            return AttemptFailure(
                FailureKind.STATUS, message, status=status, body=body, against_backend=False
            )
        return AttemptFailure(
            FailureKind.STATUS,
            message,
            status=status,
            body=body,
            retry_after_s=retry_after_s,
            against_backend=status in _BREAKER_STATUSES,
        )
    return None


def may_repeat_here(failure: AttemptFailure) -> bool:
    """Whether the same backend may do better at once: only asked when it is the only one."""
    return failure.kind in (
        FailureKind.CONNECT,
        FailureKind.RESET,
        FailureKind.STATUS,
        FailureKind.INVALID,
        FailureKind.ERROR_EVENT,
        FailureKind.OVERLOADED,
        FailureKind.OURS,
    )


def parse_retry_after(value: bytes) -> float | None:
    """Seconds of a ``Retry-After`` (RFC 9110 § 10.2.3), a number or a date, at most 60."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_MAX_S)
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def final_error(failed: Sequence[Failed], model: str, listed: Sequence[str]) -> ApiError:
    """The answer after the last attempt failed (behaviour § 2.2). ``failed`` is not empty."""
    failures = [one.failure for one in failed]
    kinds = {failure.kind for failure in failures}
    waits = [failure.retry_after_s for failure in failures if failure.retry_after_s is not None]
    retry_after_s = min(waits) if waits else None
    told = "; ".join(f"{one.backend}: {one.failure.message}" for one in failed)
    last = failures[-1]
    count = "1 attempt" if len(failed) == 1 else f"{len(failed)} attempts"
    message = f"All {count} failed: {told}" if len(failed) > 1 else f"1 attempt failed: {told}"
    if all(failure.status == 429 for failure in failures):
        return ApiError.too_many_requests(message, retry_after_s)
    if all(
        failure.status in (429, 503) or failure.kind in (FailureKind.LOADING, FailureKind.OURS)
        for failure in failures
    ):
        return ApiError.service_unavailable(message, 1 if retry_after_s is None else retry_after_s)
    if kinds == {FailureKind.LOOP}:
        return ApiError.loop_detected(message)
    if kinds == {FailureKind.MODEL_NOT_HERE}:
        return ApiError.model_not_found(model, listed)
    if kinds <= {FailureKind.CANNOT, FailureKind.PROMPT_TOO_LONG, FailureKind.MODEL_NOT_HERE}:
        if FailureKind.PROMPT_TOO_LONG in kinds:
            error = ApiError.unsupported_capability(
                f"The prompt is too long for every backend of model '{model}': {told}",
                param="messages",
            )
            error.code = "context_length_exceeded"
            return error
        return ApiError.unsupported_capability(
            f"No backend of model '{model}' can do what this request asks: {told}"
        )
    if last.kind is FailureKind.TIMEOUT and kinds == {FailureKind.TIMEOUT}:
        return ApiError.gateway_timeout()
    if last.kind is FailureKind.INVALID:
        message = f"Invalid backend response. {message}"
    return ApiError.bad_gateway(message)
