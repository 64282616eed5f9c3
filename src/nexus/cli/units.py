"""Numbers as people read them."""

from __future__ import annotations

import time

__all__ = ["clock", "milliseconds", "size", "uptime"]


def uptime(seconds: object) -> str | None:
    """The two largest parts of a duration: ``1 d 2 h``."""
    if not isinstance(seconds, int | float):
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"


def milliseconds(value: object) -> str | None:
    """``8.4 ms``, ``350 ms``, ``12.3 s``."""
    if not isinstance(value, int | float):
        return None
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def size(value: object) -> str | None:
    """Bytes in the unit that fits, powers of 1000 as engines show them: ``4.7 GB``."""
    if not isinstance(value, int | float):
        return None
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def clock(at_s: object, now_s: float | None = None) -> str | None:
    """A moment (Unix time) in local time: the hour alone within the last half day, else with its
    date."""
    if not isinstance(at_s, int | float):
        return None
    now_s = time.time() if now_s is None else now_s
    form = "%H:%M:%S" if abs(now_s - at_s) < 43_200 else "%Y-%m-%d %H:%M:%S"
    try:
        return time.strftime(form, time.localtime(at_s))
    except (ValueError, OverflowError, OSError):
        return None
