"""Every target, by name."""

from __future__ import annotations

from tests.fuzz.bodies import BODY
from tests.fuzz.configs import ADMIN, CONFIG, EDIT
from tests.fuzz.engines import ADAPTERS_TARGET
from tests.fuzz.http import SERVER, UPSTREAM
from tests.fuzz.network import FIELDS, TXT
from tests.fuzz.routes import ROUTES
from tests.fuzz.streams import DIALECTS, NDJSON, SSE
from tests.fuzz.target import Target

__all__ = ["TARGETS"]

_ALL = (
    *(SERVER, UPSTREAM, SSE, NDJSON, DIALECTS, BODY),
    *(CONFIG, EDIT, ADMIN, ADAPTERS_TARGET, TXT, FIELDS, ROUTES),
)
TARGETS: dict[str, Target] = {one.name: one for one in _ALL}
