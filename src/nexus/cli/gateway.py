"""Talks to the running gateway, and says in words what went wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from nexus.cli.address import Address, find_address
from nexus.cli.connection import open_connection
from nexus.cli.failure import Failure, NoGateway, Refused
from nexus.cli.shapes import read_json

__all__ = ["Gateway", "find_gateway", "segment"]

_TIMEOUT_S = 10.0
# What is longer is cut there, and no JSON then.
_ANSWER_BYTES_MAX = 256 * 1024 * 1024
_ERROR_BYTES_MAX = 1024 * 1024
_ERROR_LINES_MAX = 100
_LINE_BYTES_MAX = 1024 * 1024
_NO_HINTS: Mapping[int, str] = {}


class Gateway:
    """One gateway. Every method raises :class:`Failure` when nobody is there (its kind
    :class:`NoGateway`), when it is not Nexus that answers, or when it says no."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def get(
        self,
        path: str,
        query: dict[str, Any] | None = None,
        *,
        key: str,
        timeout_s: float = _TIMEOUT_S,
    ) -> dict[str, Any]:
        """The JSON object that ``GET path`` answers, which has ``key`` if Nexus made it. ``None``
        values of ``query`` are left out."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        answer = self.send("GET", target, timeout_s=timeout_s)
        if key not in answer:
            raise self.stranger()
        return answer

    def send(
        self,
        method: str,
        target: str,
        value: Any = None,
        *,
        body: bytes | None = None,
        hints: Mapping[int, str] = _NO_HINTS,
        timeout_s: float = _TIMEOUT_S,
    ) -> dict[str, Any]:
        """The JSON object that a request answers; it carries ``value`` as JSON, or ``body`` as it
        is. A 204 answers ``{}``. ``hints`` are added to refusals with that status."""
        if value is not None:
            body = json.dumps(value).encode()
        try:
            with self.open(method, target, body, timeout_s=timeout_s) as response:
                if response.status == 204:
                    return {}
                with self._explained(timeout_s):
                    text = response.read(_ANSWER_BYTES_MAX)
        except Refused as refusal:
            if refusal.status not in hints:
                raise
            message = f"{refusal.message}\n  {hints[refusal.status]}"
            raise Refused(message, refusal.status) from None
        answer = _json(text)
        if not isinstance(answer, dict):
            raise self.stranger()
        return answer

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, its body still to be read (see :meth:`lines`); closed
        afterwards, whole or not. ``timeout_s`` bounds each silence."""
        base = urlsplit(self.address.url).path
        fields = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            fields["Content-Type"] = "application/json"
        if self.address.admin_key and target.startswith("/admin/"):
            fields["Authorization"] = f"Bearer {self.address.admin_key}"
        connection = open_connection(self.address, timeout_s)
        try:
            with self._explained(timeout_s):
                connection.request(method, base + target, body=body, headers=fields)
                response = connection.getresponse()
            try:
                if response.status >= 400:
                    with self._explained(timeout_s):
                        refusal = response.read(_ERROR_BYTES_MAX)
                    raise self._refused(response.status, refusal)
                yield response
            finally:
                response.close()
        finally:
            connection.close()

    def lines(
        self, response: http.client.HTTPResponse, *, timeout_s: float = _TIMEOUT_S
    ) -> Iterator[bytes]:
        """The lines of an answer as they come, each at most 1 MiB."""
        while True:
            with self._explained(timeout_s):
                line = response.readline(_LINE_BYTES_MAX)
            if not line:
                return
            yield line

    @contextlib.contextmanager
    def _explained(self, timeout_s: float) -> Iterator[None]:
        place = self.address
        try:
            yield
        except (ConnectionRefusedError, FileNotFoundError):
            raise NoGateway(
                f"no gateway is running at {place}. Start one with `nexus serve`, or say where it "
                f"is with --gateway URL or NEXUS_GATEWAY."
            ) from None
        except TimeoutError:
            raise Failure(f"{place} did not answer within {timeout_s:.0f} s") from None
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message if hasattr(error, "verify_message") else error.args[-1]
            raise Failure(
                f"the certificate of {place} is not trusted: {why}. Name the authority that signed "
                f"it with --ca FILE, or do without checking with --insecure."
            ) from None
        except ssl.SSLError as error:
            plain = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
            hint = ": it speaks http, not https" if plain else f": {error.reason or error}"
            raise Failure(f"no secure connection to {place}{hint}") from None
        except (ConnectionError, http.client.IncompleteRead):
            raise Failure(f"{place} broke off: the gateway ended, or the way to it did") from None
        except http.client.HTTPException:
            raise self.stranger() from None
        except OSError as error:
            raise Failure(f"cannot reach {place}: {error.strerror or error}") from None

    def _refused(self, status: int, body: bytes) -> Failure:
        answer = _json(body)
        error = answer.get("error") if isinstance(answer, dict) else None
        told = error if isinstance(error, dict) else {}
        message = told.get("message")
        # Other engines have codes that are numbers, or none.
        if not isinstance(message, str) or not isinstance(told.get("code"), str):
            if status in (502, 503, 504):
                return Failure(
                    f"{self.address} answered {status}, and not as Nexus does: is a proxy "
                    f"in front of a gateway that is down?"
                )
            return self.stranger()
        if status == 401:
            return Failure(f"{self.address} refused: {self._key_advice()}")
        from nexus.telemetry.text import printable

        # Several problems are several lines.
        shown = "\n".join(map(printable, message.splitlines()[:_ERROR_LINES_MAX]))
        return Refused(f"{self.address} answered {status}: {shown}", status)

    def _key_advice(self) -> str:
        if self.address.admin_key:
            return "the admin key (NEXUS_ADMIN_KEY) is wrong."
        return "it wants its admin key: put it into the variable NEXUS_ADMIN_KEY."

    def stranger(self) -> Failure:
        """What to say when something else answers."""
        return Failure(
            f"what answers at {self.address} is not a Nexus gateway. Say where yours is with "
            f"--gateway URL or NEXUS_GATEWAY."
        )


def find_gateway(option: str | None, *, ca: str | None = None, insecure: bool = False) -> Gateway:
    """The gateway that :func:`find_address` finds."""
    return Gateway(find_address(option, ca=ca, insecure=insecure))


def segment(name: str) -> str:
    """``name`` as one segment of a path."""
    return quote(name, safe="")


def _json(text: bytes) -> Any:
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None
