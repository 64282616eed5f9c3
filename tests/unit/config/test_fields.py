"""The schema as data."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from msgspec import Meta

from nexus.config.fields import KeyPath, describe, fields_of, settings, shape_of, show_path
from nexus.config.schema import BackendConfig, ServerConfig, Weights


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "text"),
        (bool, "true or false"),
        (int, "a whole number"),
        (Annotated[int, Meta(ge=1)], "a whole number of at least 1"),
        (Annotated[int, Meta(ge=1, le=9)], "a whole number from 1 to 9"),
        (Annotated[float, Meta(gt=0, le=9)], "a number above 0, at most 9"),
        (Annotated[float, Meta(ge=0)] | None, "a number of at least 0"),
        (Annotated[str, Meta(min_length=1)], "text, not empty"),
        (Annotated[str, Meta(max_length=7)], "text of at most 7 characters"),
        (Literal["a", "b"], 'one of "a", "b"'),
        (tuple[int, ...], "a list, each item a whole number"),
        (dict[str, bool], "a table, each value true or false"),
        (Weights, "a table"),
    ],
)
def test_a_type_is_described_in_words(annotation: object, text: str) -> None:
    """What a value must be is said without Python's words."""
    assert describe(annotation) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("server", "port"), "server.port"),
        (("backends", 0, "url"), "backends[0].url"),
        (("models", "llama3:70b", "vision"), 'models."llama3:70b".vision'),
        (("routing", "aliases", 'a"b'), 'routing.aliases."a\\"b"'),
    ],
)
def test_a_path_is_shown_as_toml_would_write_it(path: KeyPath, text: str) -> None:
    """Names that are no bare keys are quoted; list positions are in brackets."""
    assert show_path(path) == text


def test_bounds_of_nested_annotations_are_all_kept() -> None:
    """A bound that a shared alias gives holds under a field's own description."""
    shape = shape_of(Annotated[Annotated[int, Meta(ge=1)], Meta(le=5, description="x")])
    assert [(meta.ge, meta.le) for meta in shape.metas] == [(1, None), (None, 5)]


def test_required_keys_are_known() -> None:
    """A backend needs a name and a URL, nothing else."""
    required = [field.name for field in fields_of(BackendConfig).values() if field.required]
    assert required == ["name", "url"]


def test_settings_are_the_keys_with_fixed_paths() -> None:
    """Every key of every section is listed once, backends and models (free names) are not."""
    paths = [path for path, _ in settings()]
    assert len(paths) == len(set(paths))
    assert ("routing", "weights", "load") in paths
    assert {path[1] for path in paths if path[0] == "server"} == set(fields_of(ServerConfig))
    assert not {path[0] for path in paths} & {"backends", "models"}
