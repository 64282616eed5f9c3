"""Aliases: other names for models, given by the operator."""

from __future__ import annotations

from collections.abc import Container, Mapping

__all__ = ["HOPS_MAX", "resolve_alias"]

HOPS_MAX = 3
"""How many aliases may lead to one another (behaviour § 5.1)."""


def resolve_alias(
    name: str, aliases: Mapping[str, str], real: Container[str]
) -> tuple[str, tuple[str, ...]]:
    """The model that ``name`` stands for, and the names passed on the way (empty: no alias).

    A ``real`` model wins over an alias of its name, at every hop. After ``HOPS_MAX`` hops the name
    reached stands, real or not; so a cycle (which configuration refuses) ends too.
    """
    if name in real or name not in aliases:
        return name, ()
    chain = [name]
    while name not in real and name in aliases and len(chain) <= HOPS_MAX:
        name = aliases[name]
        chain.append(name)
    return name, tuple(chain)
