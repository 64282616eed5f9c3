"""The control paths of a fake engine that runs as a process of its own: ``/_demo/…``.

``POST /_demo/fault`` puts a fault in force (fields of ``FaultOrder``; ``body`` as text),
``DELETE /_demo/fault`` clears it, ``GET /_demo/stats`` tells the counters, ``POST /_demo/speed``
sets the speed. Only clients on this machine are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from nexus.demo.faults import FaultOrder, Faults
from nexus.demo.profile import Profile, SeenRequest, Speed
from nexus.demo.reply import Plain

__all__ = ["PREFIX", "answer_control"]

PREFIX = "/_demo/"


def answer_control(
    request: SeenRequest,
    faults: Faults,
    profile: Profile,
    stats: Callable[[], Mapping[str, int]],
) -> Plain:
    """Does what a control request asks; 400 when it does not make sense."""
    try:
        match request.method, request.path:
            case "GET", "/_demo/stats":
                return _json(dict(stats()))
            case "POST", "/_demo/fault":
                faults.apply(_read_order(request.body))
                return _json({"mode": faults.mode.value})
            case "DELETE", "/_demo/fault":
                faults.clear()
                return _json({"mode": faults.mode.value})
            case "POST", "/_demo/speed":
                profile.speed = msgspec.json.decode(request.body, type=Speed)
                return _json(profile.speed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return _json({"error": str(error)}, status=400)
    return _json({"error": "unknown control path"}, status=404)


def _read_order(body: bytes) -> FaultOrder:
    """A fault as JSON. Raises ``msgspec.MsgspecError``."""
    document = msgspec.json.decode(body, type=dict[str, object])
    text = document.pop("body", None)
    order = msgspec.convert(document, FaultOrder)
    unknown = document.keys() - set(FaultOrder.__struct_fields__)
    if unknown:
        raise msgspec.ValidationError(f"unknown fields {', '.join(sorted(unknown))}")
    if text is None:
        return order
    return msgspec.structs.replace(order, body=str(text).encode())


def _json(document: object, *, status: int = 200) -> Plain:
    return Plain(status=status, body=msgspec.json.encode(document))
