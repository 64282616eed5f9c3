"""Structured logs of what happens off the hot path: state changes, warnings, faults.

One chain of processors for everything: our own loggers and what libraries say through the standard
library's ``logging`` leave by the same handler in the same shape. Finished calls do not come this
way; they are the access log's (``telemetry/access.py``), which costs a tenth of it.

structlog is imported when the first line is logged, not with this module (``nexus --help`` stays
cheap), and without rich, which only its pretty tracebacks would want (:func:`_load_structlog`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor

__all__ = ["LogFormat", "Logger", "configure_logging", "finish_logging", "get_logger", "is_pretty"]

LogFormat = Literal["auto", "pretty", "json"]

_ROOT = "nexus"
_MASK = "***"
_COMMON = ("timestamp", "level", "component", "event")
_SECRET_FIELDS = re.compile(
    r"authorization|cookie|passw|secret|(?:api|admin|private|access)[-_]?key|credential|^key$|^token$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"(?i)\b(bearer\s+|basic\s+)[^\s'\",;]+|\bsk-[A-Za-z0-9_-]{8,}")


class Logger:
    """Logs for one component: ``log.info("backend_healthy", backend="gpu")``.

    The first argument names the event; everything that varies is a field. Which lines come out is
    decided by :func:`configure_logging`, at the time of the call.
    """

    __slots__ = ("_bound", "_stdlib", "component")

    def __init__(self, component: str) -> None:
        self.component = component
        self._stdlib = logging.getLogger(f"{_ROOT}.{component}")
        self._bound: Any = None

    def enabled(self, level: int) -> bool:
        """Whether a line of ``level`` (``logging.DEBUG``, ...) would come out."""
        return self._stdlib.isEnabledFor(level)

    def debug(self, event: str, **fields: object) -> None:
        """For whoever looks for a fault."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Something changed, as it may."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something is not as the operator would want it; Nexus goes on."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """A fault of our own: the line carries the exception that is being handled (or the one
        given as ``exc_info``) with its traceback."""
        self._log(logging.ERROR, event, {"exc_info": sys.exception(), **fields})

    def _log(self, level: int, event: str, fields: dict[str, object]) -> None:
        if not self._stdlib.isEnabledFor(level):
            return
        bound = self._bound
        if bound is None:
            bound = self._bound = _bind(self._stdlib)
        bound.log(level, event, **fields)


def get_logger(component: str) -> Logger:
    """The logger of ``component`` (a room's name; the key of ``logging.component_levels``)."""
    return Logger(component)


def is_pretty(format: LogFormat, stream: object) -> bool:  # noqa: A002 - the setting's own name
    """Whether lines on ``stream`` are for people: ``auto`` means on a terminal only."""
    if format == "auto":
        isatty = getattr(stream, "isatty", None)
        return bool(isatty is not None and isatty())
    return format == "pretty"


def configure_logging(
    level: str = "info",
    format: LogFormat = "auto",  # noqa: A002 - the setting's own name
    component_levels: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
    *,
    background: bool = False,
) -> None:
    """Sends every log line to ``stream`` (standard error unless given). May be called again.

    With ``background`` a thread writes them, so that a reader who does not read holds up nobody;
    :func:`finish_logging` then waits for the last lines.

    ``level`` and the values of ``component_levels`` are names of levels in any case
    (``debug`` ... ``critical``). Libraries are held to warnings and above unless ``level`` is
    ``debug``: their chatter is not news of this gateway. Raises ``ValueError`` for an unknown
    level.
    """
    out = stream if stream is not None else sys.stderr
    root_level = _level(level)
    levels = {name: _level(value) for name, value in (component_levels or {}).items()}

    _load_structlog()
    import structlog

    structlog.configure(**_structlog_settings(), logger_factory=structlog.stdlib.LoggerFactory())
    handler = _handler(out, background=background)
    handler.setFormatter(_formatter(pretty=is_pretty(format, out), colors=_colors(out)))
    root = logging.getLogger()
    root.setLevel(root_level if root_level <= logging.DEBUG else max(root_level, logging.WARNING))

    ours = logging.getLogger(_ROOT)
    ours.setLevel(root_level)
    for name in list(logging.Logger.manager.loggerDict):
        if name.startswith(f"{_ROOT}."):
            logging.getLogger(name).setLevel(levels.get(name[len(_ROOT) + 1 :], logging.NOTSET))
    for component, component_level in levels.items():
        logging.getLogger(f"{_ROOT}.{component}").setLevel(component_level)


def finish_logging() -> None:
    """Takes our handler away again; of one in the background, waits a moment for its lines."""
    while _ours:
        handler = _ours.pop()
        logging.getLogger().removeHandler(handler)
        finish = getattr(handler, "finish", None)
        if finish is not None:
            finish()


_ours: list[logging.Handler] = []
"""The handler that :func:`configure_logging` put on the root logger, if it did."""


def _handler(out: TextIO, *, background: bool) -> logging.Handler:
    """Our handler on the root logger, the present one where it writes so already."""
    handler: logging.Handler
    if background:
        from nexus.telemetry.background import BackgroundHandler

        for handler in _ours:
            if isinstance(handler, BackgroundHandler) and handler.stream is out:
                return handler
        handler = BackgroundHandler(out)
    else:
        handler = logging.StreamHandler(out)
    finish_logging()
    _ours.append(handler)
    logging.getLogger().addHandler(handler)
    return handler


def _level(name: str) -> int:
    number = logging.getLevelNamesMapping().get(name.upper())
    if number is None:
        raise ValueError(f"unknown log level {name!r}")
    return number


def _colors(stream: object) -> bool:
    import os

    return is_pretty("auto", stream) and not os.environ.get("NO_COLOR")


def _load_structlog() -> None:
    """Imports structlog without rich: it takes that along where it finds it, 70 modules and 4 MB
    for tracebacks that are never drawn here, and does without where it does not. For a moment
    there is no rich, said as the import system has it said; for everybody else it stays."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


def _shared_processors() -> list[Processor]:
    """What every line passes, ours and the libraries'."""
    import structlog

    return [
        structlog.stdlib.add_log_level,
        _name_component,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]


def _bind(stdlib: logging.Logger) -> Any:
    """A structlog logger that hands its lines to ``stdlib``'s handlers."""
    _load_structlog()
    import structlog

    return structlog.wrap_logger(stdlib, **_structlog_settings())


def _structlog_settings() -> dict[str, Any]:
    import structlog

    return {
        "processors": [
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        "wrapper_class": structlog.stdlib.BoundLogger,
        "context_class": dict,
        "cache_logger_on_first_use": False,
    }


def _formatter(*, pretty: bool, colors: bool) -> logging.Formatter:
    import structlog

    # Secrets go after the traceback has become text, control characters last of all.
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _mask_secrets,
        _common_first,
    ]
    if pretty:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        )
        last += [_escape_controls, renderer]
    else:
        last.append(structlog.processors.JSONRenderer(_to_json))
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(), processors=last
    )


def _to_json(value: object, **_: object) -> str:
    import msgspec

    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except (UnicodeError, msgspec.MsgspecError, RecursionError, TypeError):
        import json

        return json.dumps(value, default=repr)


def _name_component(
    logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Who says it: one of our components, or a library by its logger's name."""
    record = event.get("_record")
    name = record.name if record is not None else getattr(logger, "name", None) or _ROOT
    event.setdefault("component", name.removeprefix(f"{_ROOT}."))
    return event


def _common_first(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Every line begins with the same keys, as the access log's do."""
    common = {key: event.pop(key) for key in _COMMON if key in event}
    return {**common, **event}


def _mask_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """No credential leaves in a log line, whoever put it there: fields by name, text by shape."""
    for key, value in event.items():
        event[key] = _masked(key, value)
    return event


def _masked(key: str, value: Any) -> Any:
    if _SECRET_FIELDS.search(key) and value:
        return _MASK
    if isinstance(value, str):
        return _SECRET_TEXT.sub(lambda found: (found[1] or "") + _MASK, value)
    if isinstance(value, dict):
        # Of a changed setting, ``key`` is its name.
        named = "setting" if value.keys() == {"key", "before", "after"} else "key"
        return {
            name: _masked(named if name == "key" else str(name), inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(key, inner) for inner in value]
    return value


def _escape_controls(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """On a terminal, what a backend said must neither break the line nor steer the terminal."""
    from nexus.telemetry.text import harmless, printable

    for key, value in event.items():
        if isinstance(value, str):
            # A traceback is of several lines; its last one may quote what a backend said.
            event[key] = (harmless if key in ("exception", "stack") else printable)(value)
    return event
