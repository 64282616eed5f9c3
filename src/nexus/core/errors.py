"""What can go wrong, said once.

Two kinds, never mixed:

* :class:`ApiError` is an answer to the client: a status and the fields of OpenAI's error object.
* :class:`AttemptFailure` is what one attempt at one backend came to. It knows whether trying
  elsewhere may help and whether it speaks against the backend; ``proxy/retry.py`` asks those two
  questions, never class names.

The wire form of an :class:`ApiError` is made in one place per dialect (``dialects/errors.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

__all__ = ["ApiError", "AttemptFailure", "FailureKind"]


_NAME_CHARS_MAX = 200
"""A made-up model name of megabytes is not sent back."""


class ApiError(Exception):
    """An answer that says no, in OpenAI's terms.

    ``status`` is the HTTP status; ``type``, ``code``, ``param`` and ``message`` are the fields of
    ``{"error": {...}}`` (OpenAI API reference, "Error codes"; ``param`` is ``None`` where none
    applies). ``retry_after_s`` becomes ``Retry-After``; ``headers`` go out as they are;
    ``close`` asks that the connection be closed after the answer.
    """

    __slots__ = ("close", "code", "headers", "message", "param", "retry_after_s", "status", "type")

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002 - the wire's own word
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = headers
        self.close = close

    @classmethod
    def bad_request(cls, message: str, *, param: str | None = None) -> ApiError:
        """400: the request itself is wrong; the message says where."""
        return cls(400, "invalid_request_error", "invalid_request_error", message, param=param)

    @classmethod
    def malformed_http(cls, message: str, *, status: int = 400) -> ApiError:
        """400 (or 408, 414, 431): not HTTP we can trust; the connection closes after it."""
        return cls(status, "invalid_request_error", "invalid_request_error", message, close=True)

    @classmethod
    def model_not_found(cls, model: str, available: Sequence[str]) -> ApiError:
        """404: nobody serves ``model``; ``available`` has the names to offer, nearest first."""
        hint = f"Available: {', '.join(available)}" if available else "No models available"
        if len(model) > _NAME_CHARS_MAX:
            model = f"{model[:_NAME_CHARS_MAX]}..."
        return cls(
            404,
            "invalid_request_error",
            "model_not_found",
            f"Model '{model}' not found. {hint}",
            param="model",
        )

    @classmethod
    def backend_not_found(cls, name: str) -> ApiError:
        """404: ``x-nexus-pin`` names a backend that does not exist."""
        return cls(
            404,
            "invalid_request_error",
            "backend_not_found",
            f"Backend '{name}' (from x-nexus-pin) does not exist.",
        )

    @classmethod
    def not_found(cls, path: str) -> ApiError:
        """404: no such path."""
        return cls(404, "invalid_request_error", "not_found", f"Unknown path {path}.")

    @classmethod
    def method_not_allowed(cls, method: str, path: str, allowed: Sequence[str]) -> ApiError:
        """405 with ``Allow``."""
        allow = ", ".join(allowed)
        return cls(
            405,
            "invalid_request_error",
            "method_not_allowed",
            f"{method} is not allowed for {path}. Allowed: {allow}.",
            headers=(("Allow", allow),),
        )

    @classmethod
    def forbidden(cls, message: str) -> ApiError:
        """403: who asks may not; the message says how to be let in."""
        return cls(403, "invalid_request_error", "forbidden", message)

    @classmethod
    def unauthorized(cls, message: str) -> ApiError:
        """401: a key is missing or wrong."""
        return cls(
            401,
            "invalid_request_error",
            "invalid_api_key",
            message,
            headers=(("WWW-Authenticate", "Bearer"),),
        )

    @classmethod
    def payload_too_large(cls, limit_bytes: int) -> ApiError:
        """413: the body exceeds ``limit_bytes``."""
        return cls(
            413,
            "invalid_request_error",
            "payload_too_large",
            f"Request body is larger than {limit_bytes} bytes (server.max_body_bytes).",
        )

    @classmethod
    def unsupported_encoding(cls, encoding: str) -> ApiError:
        """415: the body's Content-Encoding is not one that Nexus decodes."""
        return cls(
            415,
            "invalid_request_error",
            "unsupported_encoding",
            f"Content-Encoding '{encoding}' is not supported; send identity, gzip or deflate.",
            headers=(("Accept-Encoding", "gzip, deflate"),),
        )

    @classmethod
    def unsupported_capability(cls, message: str, *, param: str | None = None) -> ApiError:
        """400: the model is there, but nobody who serves it can do what is asked."""
        return cls(400, "invalid_request_error", "unsupported_capability", message, param=param)

    @classmethod
    def too_many_requests(cls, message: str, retry_after_s: float | None = None) -> ApiError:
        """429: every backend asks for patience."""
        return cls(
            429, "rate_limit_error", "rate_limit_exceeded", message, retry_after_s=retry_after_s
        )

    @classmethod
    def bad_gateway(cls, message: str) -> ApiError:
        """502: every attempt failed. Official clients are told not to multiply the attempts."""
        return cls(
            502, "server_error", "bad_gateway", message, headers=(("x-should-retry", "false"),)
        )

    @classmethod
    def gateway_timeout(cls) -> ApiError:
        """504: the call's own deadline passed."""
        return cls(
            504,
            "server_error",
            "gateway_timeout",
            "Backend request timed out",
            headers=(("x-should-retry", "false"),),
        )

    @classmethod
    def service_unavailable(cls, message: str, retry_after_s: float | None = None) -> ApiError:
        """503: not now; ``retry_after_s`` says when to ask again."""
        return cls(503, "server_error", "service_unavailable", message, retry_after_s=retry_after_s)

    @classmethod
    def loop_detected(cls, message: str) -> ApiError:
        """508 (RFC 5842 § 7.2): the request goes in a circle. Trying again would not help."""
        return cls(
            508, "server_error", "loop_detected", message, headers=(("x-should-retry", "false"),)
        )

    @classmethod
    def internal(cls, request_id: str) -> ApiError:
        """500: a fault of our own, logged with its traceback under ``request_id``."""
        return cls(
            500, "server_error", "internal_error", f"Internal error (request id {request_id})."
        )


class FailureKind(StrEnum):
    """What an attempt failed of. The value is what logs, records and messages print."""

    CONNECT = "connect_failed"
    """Refused, unreachable, unresolvable, TLS refused, or not within the connect timeout."""
    RESET = "connection_lost"
    """The connection ended before the answer was whole."""
    TIMEOUT = "timeout"
    """First byte or idle deadline of the attempt."""
    STATUS = "error_status"
    """An HTTP error status that speaks of the backend (5xx, 408, 409, 429)."""
    INVALID = "invalid_response"
    """A 2xx that is not what was asked for: not JSON, not SSE, not HTTP."""
    ERROR_EVENT = "error_event"
    """A stream whose first data event is an error object."""
    BROKEN_STREAM = "broken_stream"
    """A stream that ended without its terminal event, after the commit."""
    MODEL_NOT_HERE = "model_not_here"
    CANNOT = "unsupported"
    PROMPT_TOO_LONG = "prompt_too_long"
    LOADING = "loading"
    OVERLOADED = "overloaded"
    CREDENTIALS = "credentials_refused"
    """401/403 to an attempt that carried no credential of the client's."""
    BACKEND_LOST = "backend_lost"
    """The backend turned unhealthy while the call was not yet committed."""
    LOOP = "loop_detected"
    """Another gateway there found that the request would go in a circle."""
    OURS = "gateway_shortage"
    """Out of descriptors or ports: our own shortage, never the backend's fault."""


class AttemptFailure(Exception):  # noqa: N818 - what an attempt came to, seldom raised
    """Why one attempt at one backend failed.

    ``message`` is fit for the client (no secrets); ``status`` is the backend's HTTP status if it
    gave one; ``body`` its error body; ``retry_after_s`` what it asked for. ``elsewhere`` says
    whether another backend may do better; ``against_backend`` whether the breaker counts it.
    """

    __slots__ = (
        "against_backend",
        "body",
        "elsewhere",
        "kind",
        "message",
        "retry_after_s",
        "status",
    )

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int = 0,
        body: bytes = b"",
        retry_after_s: float | None = None,
        elsewhere: bool = True,
        against_backend: bool = True,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s
        self.elsewhere = elsewhere
        self.against_backend = against_backend
