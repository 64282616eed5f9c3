"""The admin API as a Starlette application (behaviour § 13).

Imported when the first admin request comes: Starlette and what it brings stay out of a gateway
that is never asked. Who may ask is decided before, by ``admin/access.py``. Each family of routes
has a file of its own; this one puts them together.
"""

from __future__ import annotations

from starlette.applications import Starlette

from nexus.admin.answers import EXCEPTION_HANDLERS
from nexus.admin.backends import backend_routes
from nexus.admin.config import config_routes
from nexus.admin.control import AdminControl
from nexus.admin.dashboard import dashboard_routes
from nexus.admin.events import event_routes
from nexus.admin.models import model_routes
from nexus.admin.observe import observe_routes
from nexus.admin.openapi import openapi_route
from nexus.admin.route import AdminRoute, starlette_routes
from nexus.admin.session import session_routes

__all__ = ["admin_routes", "create_admin_app"]


def admin_routes(control: AdminControl) -> list[AdminRoute]:
    """Every route of the API."""
    rows = [
        *backend_routes(control),
        *model_routes(control),
        *config_routes(control),
        *observe_routes(control),
        *event_routes(control),
        *session_routes(control),
    ]
    return [*rows, openapi_route(rows)]


def create_admin_app(control: AdminControl) -> Starlette:
    """The application that answers ``/admin/v1/...`` and ``/v1/stats`` out of ``control``, and the
    dashboard's files."""
    return Starlette(
        routes=[*starlette_routes(admin_routes(control)), *dashboard_routes()],
        exception_handlers=EXCEPTION_HANDLERS,
    )
