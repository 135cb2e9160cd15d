"""A TOML file in, a msgspec struct out; whatever does not fit it is one line: where, what, how."""

import difflib
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect as shapes

from ids_appliance.config_file.words import describe, fields, toml
from ids_appliance.errors import ConfigError

MAX_BYTES: Final = 1 << 20
Table = dict[str, Any]
Struct = TypeVar("Struct", bound=msgspec.Struct)


def parse(path: Path) -> Table:
    """Return the tables of a TOML file. Raises ValueError with what is wrong, without the path."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES >> 10} KiB: no configuration")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_syntax(str(error), data.count(b"\n") + 1)) from error
    except RecursionError as error:
        raise ValueError("is nested too deeply: no configuration") from error


def _syntax(message: str, lines: int) -> str:
    """Return tomllib's message with the line in front."""
    where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if where is None:
        return f"not TOML: {message}"
    line = where[1] or lines
    return f"line {line}: not TOML: {message[: where.start()]}"


def refuse_unknown(
    table: Table,
    struct: type[msgspec.Struct],
    *,
    elsewhere: Callable[[str], Sequence[str]] = lambda key: (),
    place: str = "",
) -> None:
    """Raise ValueError for the first key that the struct does not know, and for what is no table
    where one belongs.

    elsewhere: the tables that do know such a key, "" for the file's beginning. place: the table's
    own name, dotted.
    """
    known = fields(struct)
    for key, value in table.items():
        dotted = f"{place}.{key}".lstrip(".")
        if key not in known:
            raise ValueError(_unknown(key, place, list(known), elsewhere=elsewhere))
        shape = known[key].type
        if isinstance(shape, shapes.StructType):
            if not isinstance(value, dict):
                raise ValueError(f"{dotted} = {shown(value)}: expected a table, as in [{dotted}]")
            refuse_unknown(value, shape.cls, elsewhere=elsewhere, place=dotted)
        elif (cls := _listed(shape)) is not None:
            if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
                raise ValueError(f"{dotted} = {shown(value)}: expected tables, as in [[{dotted}]]")
            for number, one in enumerate(value):
                refuse_unknown(one, cls, elsewhere=elsewhere, place=f"{dotted}[{number}]")


def _listed(shape: shapes.Type) -> type[msgspec.Struct] | None:
    """Return the struct that a list is of, None for what is no list of tables."""
    item = shape.item_type if isinstance(shape, shapes.VarTupleType) else None
    return item.cls if isinstance(item, shapes.StructType) else None


def _unknown(
    key: str, place: str, known: list[str], *, elsewhere: Callable[[str], Sequence[str]]
) -> str:
    where = f"[{place}] has no setting" if place else "there is no setting"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"{where} {key!r}: did you mean {near[0]!r}"
    found = elsewhere(key)
    if found and len(found) <= 3:
        tables = " or ".join(f"[{section}]" if section else "the top" for section in found)
        return f"{where} {key!r}: it belongs to {tables}"
    return f"{where} {key!r}: there are {', '.join(known)}"


def convert(given: Table, struct: type[Struct]) -> Struct:
    """Return tables as a struct. Raises ValueError: a value is missing, of another type, or out
    of its range."""
    try:
        return msgspec.convert(given, struct)
    except msgspec.ValidationError as error:
        raise ValueError(_translated(str(error), given, struct)) from error


def _translated(message: str, given: Table, struct: type[msgspec.Struct]) -> str:
    """Return msgspec's message about a value as one with its place, the value, what is expected."""
    where = re.search(r" - at `\$\.?([^`]*)`$", message)
    # What is in a table of names has no place of its own: msgspec writes [...] there.
    place = where[1].partition("[...]")[0] if where else ""
    value: Any = given
    shape: shapes.Type = shapes.type_info(struct)
    for step in re.findall(r"[^.\[\]]+", place):
        value = value[int(step) if step.isdigit() else step]
        if isinstance(shape, shapes.StructType):
            shape = fields(shape.cls)[step].type
        elif isinstance(shape, shapes.VarTupleType):
            shape = shape.item_type
    missing = re.match(r"Object missing required field `(\w+)`", message)
    if missing and isinstance(shape, shapes.StructType):
        inner = fields(shape.cls)[missing[1]].type
        return f"{place}.{missing[1]}".lstrip(".") + f" is missing: {describe(inner)}"
    if not place:
        return message
    near = ""
    if isinstance(shape, shapes.LiteralType) and isinstance(value, str):
        close = difflib.get_close_matches(value, [str(v) for v in shape.values], n=1, cutoff=0.6)
        near = f"; did you mean {toml(close[0])}" if close else ""
    return f"{place} = {shown(value)}: expected {describe(shape)}{near}"


def refuse_contradictions(path: Path, wrong: Sequence[str]) -> None:
    """Raise ConfigError with the first of what is wrong, and how much more there is."""
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConfigError(f"{path}: {wrong[0]}{more}")


def shown(value: Any) -> str:
    """Return a value as the file spells it, shortened for a message of one line."""
    text = toml(value) if not isinstance(value, dict | list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
