"""Aliases."""

from __future__ import annotations

from nexus.routing.aliases import resolve_alias


def test_a_name_without_alias_stands_for_itself() -> None:
    """No alias, no chain, known or not."""
    assert resolve_alias("m", {}, {"m"}) == ("m", ())
    assert resolve_alias("x", {"y": "m"}, {"m"}) == ("x", ())


def test_an_alias_is_followed() -> None:
    """One hop; the chain shows both ends."""
    assert resolve_alias("gpt-4", {"gpt-4": "llama"}, {"llama"}) == ("llama", ("gpt-4", "llama"))


def test_a_real_model_wins_over_the_alias_of_its_name() -> None:
    """At the first name and on the way."""
    assert resolve_alias("a", {"a": "b"}, {"a", "b"}) == ("a", ())
    assert resolve_alias("a", {"a": "b", "b": "c"}, {"b", "c"}) == ("b", ("a", "b"))


def test_three_hops_are_followed_and_no_fourth() -> None:
    """The fourth alias in a row is not resolved."""
    aliases = {"a": "b", "b": "c", "c": "d", "d": "e"}
    assert resolve_alias("b", aliases, {"e"}) == ("e", ("b", "c", "d", "e"))
    assert resolve_alias("a", aliases, {"e"}) == ("d", ("a", "b", "c", "d"))


def test_a_cycle_ends() -> None:
    """Configuration refuses cycles; the router would survive one."""
    name, chain = resolve_alias("a", {"a": "b", "b": "a"}, set())
    assert (name, len(chain)) == ("b", 4)
