"""Values remember where they are from."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.config.layers import DEFAULT, FLAG, Layers
from nexus.config.parse import read_toml

TEXT = "[routing]\nmax_retries = 1\naliases = { a = 'b' }\n[server]\nport = 1\n"


@pytest.fixture
def layers() -> Layers:
    """A file's tables with nothing over them yet."""
    return Layers(Path("n.toml"), TEXT, read_toml(TEXT, source="n.toml"))


def test_a_value_of_the_file_is_from_the_file(layers: Layers) -> None:
    """What a file says comes from it, what it does not say is default."""
    assert layers.origin(("server", "port")) == "file n.toml"
    assert layers.origin(("server", "host")) == DEFAULT
    assert layers.locate(("server", "port")) == ("n.toml", 5)


def test_a_value_put_over_another_replaces_it_and_its_origin(layers: Layers) -> None:
    """The later layer wins, in value and in origin."""
    layers.put(("server", "port"), 2, FLAG)
    assert layers.raw["server"] == {"port": 2}
    assert layers.origin(("server", "port")) == FLAG
    assert layers.locate(("server", "port")) == (FLAG, None)


def test_a_table_put_over_another_replaces_all_of_it(layers: Layers) -> None:
    """What was in the table before is gone, with its origins."""
    layers.put(("routing", "aliases"), {"c": "d"}, "env A")
    assert layers.raw["routing"]["aliases"] == {"c": "d"}
    assert layers.origin(("routing", "aliases", "c")) == "env A"
    assert layers.origin(("routing", "max_retries")) == "file n.toml"


def test_a_value_put_into_a_table_leaves_the_rest(layers: Layers) -> None:
    """One more alias does not remove the file's."""
    layers.put(("routing", "aliases", "c"), "d", "env A")
    assert layers.raw["routing"]["aliases"] == {"a": "b", "c": "d"}
    assert layers.origin(("routing", "aliases", "a")) == "file n.toml"


def test_a_value_cannot_be_put_into_what_is_no_table(layers: Layers) -> None:
    """The mistake in the file stays, to be told."""
    layers.put(("server", "port", "x"), 1, FLAG)
    assert layers.raw["server"] == {"port": 1}


def test_a_problem_of_a_table_is_placed_where_its_values_are(layers: Layers) -> None:
    """A table that only a flag wrote into is the flag's problem."""
    layers.put(("routing", "weights", "load"), 0, FLAG)
    assert layers.locate(("routing", "weights")) == (FLAG, None)
    assert layers.locate(("routing",))[0] == "n.toml"
    assert layers.locate(("logging", "level"))[0] == "n.toml"
