"""``python -m tests.dependencies``: what is installed is what was decided upon. No network.

For every package that the gateway, its tests and checks bring: its version is the one in
``constraints.txt``, and its licence one of those below. What the gateway itself needs has a row in
``docs/decisions/0002-dependencies.md``, and no row is left over. Whether a version has a known
vulnerability only a service can tell: ``make audit``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["ROOT", "decided", "licence_fault", "needed", "pinned", "problems"]

ROOT = Path(__file__).parents[1]
_PROJECT = "nexus-gateway"
_EXTRAS = ("dev", "real")
_PERMISSIVE = frozenset(
    {
        *("MIT", "MIT-0", "ISC", "0BSD", "Zlib", "CC0-1.0", "PSF-2.0", "Apache-2.0"),
        *("BSD-2-Clause", "BSD-3-Clause", "Unlicense"),
    }
)
_LIBRARIES = frozenset({"LGPL-2.1-or-later", "LGPL-3.0-or-later", "MPL-2.0"})
"""Fine for a library that is installed beside the program, unchanged and replaceable, as pip does;
not for code that is copied in."""
ALLOWED = _PERMISSIVE | _LIBRARIES
_WORDS = {
    "MIT License": "MIT",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""How packages without an SPDX expression name the same licences."""


def pinned(text: str) -> dict[str, str]:
    """Name to version of a ``constraints.txt``."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line)
    }


def needed(root: str, extras: tuple[str, ...] = ()) -> Iterator[str]:
    """The installed packages that ``root`` brings, directly or not. A missing one is given too."""
    waiting = [(canonicalize_name(root), extras)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        if name != canonicalize_name(root):
            yield name
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in requires:
            one = Requirement(text)
            marks = [{"extra": extra} for extra in wanted] or [{"extra": ""}]
            if one.marker is None or any(one.marker.evaluate(mark) for mark in marks):
                waiting.append((canonicalize_name(one.name), tuple(sorted(one.extras))))


def licence_fault(metadata: Mapping[str, str], classifiers: list[str]) -> str | None:
    """What is wrong with a package's licence; ``None`` when it is one of :data:`ALLOWED`."""
    told = metadata.get("License-Expression") or ""
    if not told:
        words = [line.rpartition("::")[2].strip() for line in classifiers if "License ::" in line]
        # A text as long as this is the licence itself.
        words = words or [(metadata.get("License") or "").strip()]
        told = " AND ".join(_WORDS.get(word, word) for word in words)
    alternatives = [part.strip(" ()") for part in re.split(r"\bOR\b", told)]
    for alternative in alternatives:
        if all(part.strip(" ()") in ALLOWED for part in re.split(r"\bAND\b", alternative)):
            return None
    return f"its licence ({told[:60] or 'not told'}) is not one of those allowed"


def decided(text: str) -> set[str]:
    """The packages that have a row in the decision's table."""
    return {canonicalize_name(name) for name in re.findall(r"^\| `([\w.-]+)` \|", text, re.M)}


def problems() -> list[str]:
    """Everything that is not as decided, in words."""
    found: list[str] = []
    versions = pinned((ROOT / "constraints.txt").read_text("utf-8"))
    for name in sorted(set(needed(_PROJECT, _EXTRAS)) - {_PROJECT}):
        try:
            package = distribution(name)
        except PackageNotFoundError:
            found.append(f"{name} is not installed: run make setup")
            continue
        if name not in versions:
            found.append(f"{name} {package.version} is not in constraints.txt: run make lock")
        elif package.version != versions[name]:
            found.append(
                f"{name} {package.version} is installed, constraints.txt has {versions[name]}: run "
                "make setup"
            )
        metadata = package.metadata
        told = {key: metadata[key] for key in ("License-Expression", "License") if key in metadata}
        fault = licence_fault(told, metadata.get_all("Classifier") or [])
        if fault is not None:
            found.append(f"{name}: {fault} (tests/dependencies.py)")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    direct = {canonicalize_name(Requirement(one).name) for one in project["dependencies"]}
    page = ROOT / "docs/decisions/0002-dependencies.md"
    rows = decided(page.read_text("utf-8"))
    found += [f"{name} has no row in {page.relative_to(ROOT)}" for name in sorted(direct - rows)]
    found += [f"{name} has a row there, but is no dependency" for name in sorted(rows - direct)]
    return found


def main() -> int:
    """Prints the problems; 1 when there are any."""
    found = problems()
    sys.stderr.write("".join(f"{line}\n" for line in found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
