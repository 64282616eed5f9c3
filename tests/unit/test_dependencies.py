"""The offline audit of dependencies: it sees what it is there to see."""

from __future__ import annotations

import pytest

from tests.dependencies import decided, licence_fault, needed, pinned


def test_versions_are_read() -> None:
    """Names in one spelling, comments left out."""
    text = "# c\nPrometheus_Client==1.2  # x\n\na==1\n"
    assert pinned(text) == {"prometheus-client": "1.2", "a": "1"}


@pytest.mark.parametrize(
    ("expression", "licence", "classifiers", "good"),
    [
        ("MIT", None, [], True),
        ("GPL-3.0-only OR Apache-2.0", None, [], True),
        ("MIT AND PSF-2.0", None, [], True),
        ("MIT AND GPL-3.0-only", None, [], False),
        ("LGPL-2.1-or-later", None, [], True),
        (None, "Apache 2.0", [], True),
        (None, "", ["License :: OSI Approved :: MIT License"], True),
        (None, "MIT", ["License :: Other/Proprietary License"], False),
        (None, None, [], False),
    ],
)
def test_licences(
    expression: str | None, licence: str | None, classifiers: list[str], good: bool
) -> None:
    """By expression, else by classifier, else by word; nothing told is not good."""
    told = {"License-Expression": expression, "License": licence}
    metadata = {name: value for name, value in told.items() if value is not None}
    assert (licence_fault(metadata, classifiers) is None) is good


def test_what_a_package_brings() -> None:
    """Direct and indirect ones; an extra's only when it is asked for."""
    alone = set(needed("nexus-gateway"))
    assert {"starlette", "anyio", "idna", "ifaddr"} <= alone
    assert not alone & {"pytest", "numpy"}
    assert {"pytest", "iniconfig", "numpy"} <= set(needed("nexus-gateway", ("dev", "real")))


def test_rows_of_the_decision() -> None:
    """One for each package of the table."""
    assert decided("| Package | For |\n|---|---|\n| `a_b` | x |\n- `c`\n") == {"a-b"}
