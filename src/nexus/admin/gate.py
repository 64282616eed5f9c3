"""The gate of the control plane: the rules of ``access.py`` with the state that they need."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from nexus.admin.access import check_access, key_matches
from nexus.admin.sessions import FailedKeys, Sessions, cookie_token
from nexus.core.errors import ApiError

__all__ = ["Gate"]

_PAGES = frozenset({"/", "/dashboard"})
_SIGN_IN = frozenset({"/admin/v1/session", "/admin/v1/session/"})


class Gate:
    """Who may come in: key, sessions, and the names of this gateway.

    Time is an argument, monotonic seconds. ``allowed_hosts`` and ``admin_key`` change with the
    configuration; a new key ends all sessions.
    """

    __slots__ = ("_admin_key", "_failed", "_own_names", "allowed_hosts", "sessions")

    def __init__(
        self, admin_key: str, allowed_hosts: Collection[str], own_names: Collection[str]
    ) -> None:
        self._admin_key = admin_key
        self._own_names = own_names
        self._failed = FailedKeys()
        self.allowed_hosts = allowed_hosts
        self.sessions = Sessions()

    @property
    def key_required(self) -> bool:
        """Whether an admin key is configured."""
        return bool(self._admin_key)

    def change_key(self, admin_key: str) -> bool:
        """Takes the key of a new configuration; whether it is another one."""
        if admin_key == self._admin_key:
            return False
        self._admin_key = admin_key
        self.sessions.clear()
        return True

    def check(
        self, *, peer: str | None, headers: Mapping[str, str], path: str, now_s: float
    ) -> ApiError | None:
        """``None`` for who may come in, or the answer that refuses.

        ``headers`` have lower-case names, ``path`` no query. The dashboard's pages and the place to
        sign in want no key, and all else.
        """
        page = path in _PAGES or path.startswith("/dashboard/")
        free = page or path in _SIGN_IN
        if not page and _embedded(headers):
            return ApiError.forbidden("Pages of another origin may not use the admin API.")
        signed_in = self.signed_in(headers, now_s)
        asked = "authorization" in headers and not signed_in and not free
        if asked and self._admin_key:
            wait_s = self._failed.wait_s(peer, now_s)
            if wait_s is not None:
                return _too_many(wait_s)
        refusal = check_access(
            peer=peer,
            headers=headers,
            admin_key=self._admin_key,
            allowed_hosts=self.allowed_hosts,
            own_names=self._own_names,
            signed_in=signed_in or free,
        )
        if refusal is not None and refusal.status == 401 and asked:
            self._failed.note(peer, now_s)
        return refusal

    def signed_in(self, headers: Mapping[str, str], now_s: float) -> bool:
        """Whether the request comes with a session's cookie that is good."""
        token = cookie_token(headers.get("cookie"))
        return bool(token) and self.sessions.use(token, now_s)

    def sign_in(self, key: str, peer: str | None, now_s: float) -> str:
        """A new session's token for who knows the key. Raises ``ApiError`` 401, 429."""
        wait_s = self._failed.wait_s(peer, now_s)
        if wait_s is not None:
            raise _too_many(wait_s)
        if not key_matches(key, self._admin_key):
            self._failed.note(peer, now_s)
            raise ApiError.unauthorized("The admin key is wrong.")
        return self.sessions.open(now_s)


def _embedded(headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin makes a browser ask (Fetch Metadata, W3C): an image or
    script is asked for without an ``Origin``. To follow a link is a person's own wish."""
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != (
        "navigate",
        "document",
    )


def _too_many(wait_s: float) -> ApiError:
    return ApiError.too_many_requests("Too many wrong admin keys came from your address.", wait_s)
