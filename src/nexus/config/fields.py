"""The schema looked at as data: which keys a table has, what each may hold, what it says.

A *key path* is a tuple of table keys and list positions: ``("backends", 0, "url")``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from nexus.config.schema import Config

__all__ = [
    "Field",
    "KeyPath",
    "Shape",
    "describe",
    "fields_of",
    "settings",
    "shape_of",
    "show_path",
]

KeyPath = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A type without its wrapping.

    ``base`` is ``str``, ``int``, ``float``, ``bool``, ``tuple``, ``dict``, a struct class, or
    ``Literal``; ``choices`` are a literal's values; ``item`` is the type of a list's items or a
    table's values, ``key`` of its keys. ``metas`` hold bounds and descriptions, outermost last.
    """

    base: Any
    optional: bool = False
    choices: tuple[str, ...] = ()
    item: Any = None
    key: Any = None
    metas: tuple[msgspec.Meta, ...] = ()

    @property
    def struct(self) -> type[msgspec.Struct] | None:
        """The struct class, if it is a table with a closed set of keys."""
        if isinstance(self.base, type) and issubclass(self.base, msgspec.Struct):
            return self.base
        return None


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a table. ``default`` is ``None`` where it has none (see ``required``)."""

    name: str
    type: Any
    shape: Shape
    description: str
    default: Any
    required: bool
    example: Any = None


def shape_of(annotation: Any) -> Shape:
    """Takes a type annotation of the schema apart."""
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        shape = shape_of(inner)
        metas = tuple(extra for extra in extras if isinstance(extra, msgspec.Meta))
        return msgspec.structs.replace(shape, metas=shape.metas + metas)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return msgspec.structs.replace(shape_of(inner), optional=True)
    if origin is Literal:
        return Shape(base=Literal, choices=arguments)
    if origin is tuple:
        return Shape(base=tuple, item=arguments[0])
    if origin is dict:
        return Shape(base=dict, key=arguments[0], item=arguments[1])
    return Shape(base=annotation)


@cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, Field]:
    """The keys of a table, in the order in which the schema lists them."""
    fields: dict[str, Field] = {}
    for info in msgspec.structs.fields(struct):
        shape = shape_of(info.type)
        default = info.default
        if default is msgspec.NODEFAULT:
            factory = info.default_factory
            default = None if factory is msgspec.NODEFAULT else factory()
        examples = [example for meta in shape.metas for example in meta.examples or ()]
        fields[info.name] = Field(
            name=info.name,
            type=info.type,
            shape=shape,
            description=" ".join(meta.description for meta in shape.metas if meta.description),
            default=default,
            required=info.required,
            example=examples[0] if examples else None,
        )
    return fields


def settings(
    struct: type[msgspec.Struct] = Config, prefix: KeyPath = ()
) -> Iterator[tuple[KeyPath, Field]]:
    """Every key that has a fixed path, tables left out: what an environment variable can name."""
    for name, field in fields_of(struct).items():
        if field.shape.struct is not None:
            yield from settings(field.shape.struct, (*prefix, name))
        elif prefix:
            yield (*prefix, name), field


def describe(annotation: Any) -> str:
    """What a value of this type is, for a person: ``a whole number from 1 to 65535``."""
    shape = shape_of(annotation)
    if shape.base is Literal:
        named = [f'"{choice}"' for choice in shape.choices]
        return f"one of {', '.join(named)}"
    if shape.base is tuple:
        return "a list, each item " + describe(shape.item)
    if shape.base is dict:
        return "a table, each value " + describe(shape.item)
    if shape.struct is not None:
        return "a table"
    if shape.base is bool:
        return "true or false"
    if shape.base is str:
        return _describe_text(shape.metas)
    noun = "a whole number" if shape.base is int else "a number"
    return noun + _describe_bounds(shape.metas)


def _describe_text(metas: tuple[msgspec.Meta, ...]) -> str:
    at_most = [meta.max_length for meta in metas if meta.max_length is not None]
    limit = f" of at most {min(at_most)} characters" if at_most else ""
    return f"text{limit}{', not empty' if any(meta.min_length for meta in metas) else ''}"


def _describe_bounds(metas: tuple[msgspec.Meta, ...]) -> str:
    least = [meta.ge for meta in metas if meta.ge is not None]
    above = [meta.gt for meta in metas if meta.gt is not None]
    most = [meta.le for meta in metas if meta.le is not None]
    if least and most:
        return f" from {least[0]} to {most[0]}"
    if above and most:
        return f" above {above[0]}, at most {most[0]}"
    return f" of at least {least[0]}" if least else ""


def show_path(path: KeyPath) -> str:
    """A key path as a person writes it: ``backends[0].url``, ``models."llama3:70b".vision``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else msgspec.json.encode(part).decode()
            text += f".{name}" if text else name
    return text
