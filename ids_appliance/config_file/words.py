"""Sections of the configuration in, words on each setting out: type, range, default, meaning."""

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect as shapes

from ids_appliance import config

_WORDS = {
    shapes.IntType: "a whole number",
    shapes.FloatType: "a number",
    shapes.StrType: "a text",
    shapes.BoolType: "true or false",
}
_RANGE = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the file."""

    place: str
    """Dotted, as in trigger.dos.syns."""
    shape: shapes.Type
    default: Any
    """msgspec.UNSET where it has to be given."""
    meaning: str

    @property
    def section(self) -> str:
        """Return the table that it stands in, "" for the file's beginning."""
        return self.place.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Return its name in that table."""
        return self.place.rpartition(".")[2]


def describe(shape: shapes.Type) -> str:
    """Return what is expected of a value: "a whole number, >= 1 and <= 65535"."""
    if isinstance(shape, shapes.LiteralType):
        return "one of " + ", ".join(toml(value) for value in shape.values)
    if isinstance(shape, shapes.VarTupleType):
        return f"a list, each {describe(shape.item_type)}"
    if isinstance(shape, shapes.DictType):
        return f"a table of names, each {describe(shape.value_type)}"
    if isinstance(shape, shapes.StructType):
        return "a table"
    bounds = [
        f"{sign} {_number(value)}"
        for field, sign in _RANGE
        if (value := getattr(shape, field, None)) is not None
    ]
    return _WORDS[type(shape)] + (f", {' and '.join(bounds)}" if bounds else "")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def toml(value: Any) -> str:
    """Return a value of the configuration as the file would spell it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        pairs = (f"{toml(key)} = {toml(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    return str(value)


@functools.cache
def fields(struct: Any) -> dict[str, shapes.Field]:
    """Return the settings of a section by name."""
    shape = shapes.type_info(struct)
    assert isinstance(shape, shapes.StructType)
    return {field.name: field for field in shape.fields}


def settings() -> Iterator[Setting]:
    """Yield every setting there is: in each table its own ones first, then the tables below."""
    yield from _below(config.Config, "", None)


def _below(struct: Any, place: str, defaults: Any) -> Iterator[Setting]:
    meanings = _meanings(struct.__module__)[struct.__name__]
    tables = []
    for name, field in fields(struct).items():
        dotted = f"{place}.{name}".lstrip(".")
        default = getattr(defaults, name) if defaults is not None else field.default
        if isinstance(field.type, shapes.StructType):
            tables.append((field.type.cls, dotted, default))
        else:
            if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            value = msgspec.UNSET if default is msgspec.NODEFAULT else default
            yield Setting(dotted, field.type, value, meanings.get(name, ""))
    for below, dotted, default in tables:
        yield from _below(below, dotted, default)


@functools.cache
def _meanings(module: str) -> dict[str, dict[str, str]]:
    """Return a module's docstrings: section class -> field ("" for itself) -> text."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        texts = {"": ast.get_docstring(node) or ""}
        for one, following in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(one, ast.AnnAssign)
                and isinstance(one.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                texts[one.target.id] = " ".join(str(following.value.value).split())
        found[node.name] = texts
    return found


def section_meanings() -> dict[str, str]:
    """Return what each table is about, by its dotted name; "" is the file itself."""
    found: dict[str, str] = {}

    def walk(struct: Any, place: str, own: str) -> None:
        meanings = _meanings(struct.__module__)[struct.__name__]
        # A section that several rules share says nothing of any of them: their fields do.
        found[place] = own or " ".join(meanings[""].split())
        for name, field in fields(struct).items():
            if isinstance(field.type, shapes.StructType):
                walk(field.type.cls, f"{place}.{name}".lstrip("."), meanings.get(name, ""))

    walk(config.Config, "", "")
    return found
