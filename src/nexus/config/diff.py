"""What differs between two configurations, with secrets masked: what a reload tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nexus.config.fields import KeyPath, show_path
from nexus.config.loader import Loaded
from nexus.config.mask import MASK, masked
from nexus.config.schema import Config
from nexus.config.specs import backend_config
from nexus.core.backend import BackendSpec

__all__ = [
    "BackendChange",
    "ConfigDiff",
    "SettingChange",
    "diff_configs",
    "keep_unchangeable",
]

_FIXED: tuple[KeyPath, ...] = (
    ("server", "host"),
    ("server", "port"),
    ("server", "unix"),
    ("server", "tls_cert"),
    ("server", "tls_key"),
    ("discovery",),
    ("logging", "format"),
)
"""What cannot change while the gateway runs."""


class SettingChange(msgspec.Struct, frozen=True, kw_only=True):
    """One key that changed; ``None`` where it was not, or is not, set."""

    key: str
    before: Any
    after: Any


class BackendChange(msgspec.Struct, frozen=True, kw_only=True):
    """One backend whose settings changed; the keys are those of its table."""

    name: str
    changes: tuple[SettingChange, ...]


class ConfigDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What a new configuration changes.

    ``settings`` took effect; ``needs_restart`` did not. ``added``, ``removed`` and ``changed`` are
    backends that the file names.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[BackendChange, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    needs_restart: tuple[SettingChange, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not (
            self.added or self.removed or self.changed or self.settings or self.needs_restart
        )


def diff_configs(before: Loaded, after: Loaded) -> ConfigDiff:
    """From the configuration that runs to another one."""
    specs = {spec.name: spec for spec in before.backends}
    wanted = {spec.name: spec for spec in after.backends}
    changed = [
        BackendChange(name=name, changes=tuple(_changes(specs[name], spec)))
        for name, spec in wanted.items()
        if name in specs and specs[name] != spec
    ]
    old, new = _leaves_of(before.config), _leaves_of(after.config)
    changes = {
        path: SettingChange(key=show_path(path), before=old.get(path), after=new.get(path))
        for path in {**old, **new}
        if old.get(path) != new.get(path)
    }
    if before.admin_key != after.admin_key:
        path = ("server", "admin_key")
        changes[path] = SettingChange(key=show_path(path), before=MASK, after=MASK)
    return ConfigDiff(
        added=tuple(name for name in wanted if name not in specs),
        removed=tuple(name for name in specs if name not in wanted),
        changed=tuple(changed),
        settings=tuple(one for path, one in changes.items() if not _fixed(path)),
        needs_restart=tuple(one for path, one in changes.items() if _fixed(path)),
    )


def keep_unchangeable(running: Config, wanted: Config) -> Config:
    """``wanted`` as it can run now: what cannot change stays as it is."""
    kept = {
        name: msgspec.structs.replace(
            getattr(wanted, name),
            **{
                str(path[1]): getattr(getattr(running, name), str(path[1]))
                for path in _FIXED
                if path[0] == name and len(path) > 1
            },
        )
        for name in ("server", "logging")
    }
    return msgspec.structs.replace(wanted, discovery=running.discovery, **kept)


def _fixed(path: KeyPath) -> bool:
    return any(path[: len(fixed)] == fixed for fixed in _FIXED)


def _leaves_of(config: Config) -> dict[KeyPath, Any]:
    shown = masked(config)
    del shown["backends"]
    return dict(_leaves(shown))


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _changes(before: BackendSpec, after: BackendSpec) -> Iterator[SettingChange]:
    old, new = (msgspec.to_builtins(backend_config(spec)) for spec in (before, after))
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            was, now = old.get(key), new.get(key)
            if key in ("headers", "query"):
                was, now = dict.fromkeys(was or {}, MASK), dict.fromkeys(now or {}, MASK)
            elif key == "url":
                was, now = str(was).partition("?")[0], str(now).partition("?")[0]
            yield SettingChange(key=key, before=was, after=now)
    if before.api_key != after.api_key:
        was, now = (MASK if key else None for key in (before.api_key, after.api_key))
        yield SettingChange(key="api_key", before=was, after=now)
