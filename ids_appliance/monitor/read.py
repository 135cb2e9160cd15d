"""A monitor's TOML file in, its settings out; whatever is wrong becomes one ConfigError line."""

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes

from ids_appliance.config_file.read import Table, parse, shown
from ids_appliance.config_file.words import describe, fields, toml
from ids_appliance.errors import ConfigError
from ids_appliance.monitor.contradictions import contradictions
from ids_appliance.monitor.settings import Monitor

DEFAULT_PATH: Final = "/etc/ids-appliance/monitor.toml"
_EXAMPLES: Final = resources.files("ids_appliance.monitor") / "examples"


def load(where: Path | str) -> Monitor:
    """Read and check a monitor's file, or an example that ships, by its name.

    Raises ConfigError: not readable, not TOML, a key that does not exist, a value of the wrong
    type or out of range, settings that contradict each other.
    """
    path = Path(where)
    if str(where) in examples() and not path.exists():
        path = Path(str(_EXAMPLES / f"{where}.toml"))
    try:
        given = parse(path)
        _refuse_unknown(given, Monitor, "")
        found = _convert(given)
        wrong = contradictions(found)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConfigError(f"{path}: {wrong[0]}{more}")
    return found


def examples() -> list[str]:
    """Return the names of the examples that ship."""
    files = (entry.name for entry in _EXAMPLES.iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def example(name: str) -> str:
    """Return the text of an example that ships. Raises ConfigError."""
    if name not in examples():
        raise ConfigError(f"there is no example {name!r}: there are {', '.join(examples())}")
    return (_EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")


def _refuse_unknown(table: Table, struct: Any, place: str) -> None:
    known = fields(struct)
    for key, value in table.items():
        dotted = f"{place}.{key}".lstrip(".")
        if key not in known:
            raise ValueError(_unknown(key, place, list(known)))
        shape = known[key].type
        if isinstance(shape, shapes.StructType):
            if not isinstance(value, dict):
                raise ValueError(f"{dotted} = {shown(value)}: expected a table, as in [{dotted}]")
            _refuse_unknown(value, shape.cls, dotted)
        elif isinstance(shape, shapes.VarTupleType) and isinstance(
            shape.item_type, shapes.StructType
        ):
            if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
                raise ValueError(f"{dotted} = {shown(value)}: expected tables, as in [[{dotted}]]")
            for number, one in enumerate(value):
                _refuse_unknown(one, shape.item_type.cls, f"{dotted}[{number}]")


def _unknown(key: str, place: str, known: list[str]) -> str:
    where = f"[{place}] has no setting" if place else "there is no setting"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"{where} {key!r}: did you mean {near[0]!r}"
    return f"{where} {key!r}: there are {', '.join(known)}"


def _convert(given: Table) -> Monitor:
    try:
        return msgspec.convert(given, Monitor)
    except msgspec.ValidationError as error:
        raise ValueError(_translated(str(error), given)) from error


def _translated(message: str, given: Table) -> str:
    """Return msgspec's message about a value as one with its place, the value, what is expected."""
    where = re.search(r" - at `\$\.?([^`]*)`$", message)
    steps = re.findall(r"[^.\[\]]+", where[1]) if where else []
    value: Any = given
    shape: shapes.Type = shapes.type_info(Monitor)
    for step in steps:
        value = value[int(step) if step.isdigit() else step]
        shape = (
            shape.item_type
            if isinstance(shape, shapes.VarTupleType)
            else fields(getattr(shape, "cls"))[step].type  # noqa: B009 - mypy knows no cls here
        )
    place = where[1] if where else ""
    if missing := re.match(r"Object missing required field `(\w+)`", message):
        inner = fields(getattr(shape, "cls"))[missing[1]].type  # noqa: B009
        return f"{place}.{missing[1]}".lstrip(".") + f" is missing: {describe(inner)}"
    near = ""
    if isinstance(shape, shapes.LiteralType) and isinstance(value, str):
        close = difflib.get_close_matches(value, [str(v) for v in shape.values], n=1, cutoff=0.6)
        near = f"; did you mean {toml(close[0])}" if close else ""
    return f"{place} = {shown(value)}: expected {describe(shape)}{near}"
