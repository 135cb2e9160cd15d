"""A TOML file in, a Config out; whatever is wrong with it becomes one ConfigError line."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes

from ids_appliance.config import Config
from ids_appliance.config_file import paper
from ids_appliance.config_file.contradictions import contradictions
from ids_appliance.config_file.words import describe, fields, settings, toml
from ids_appliance.errors import ConfigError

MAX_BYTES: Final = 1 << 20
Table = dict[str, Any]

DEFAULT_PATH: Final = "/etc/ids-appliance/gateway.toml"
_PATHS: Final = (
    *("model", "policy.bounds", "node.cert", "node.key", "node.ca", "node.crl"),
    *(f"enforce.openflow.{name}" for name in ("cert", "key", "ca")),
)
"""Settings that name files; relative ones are looked up beside the configuration."""


def load(path: Path | str, *, mode: str | None = None) -> Config:
    """Read, check and complete a configuration; `mode` stands for the file's own `mode`.

    Raises ConfigError: not readable, not TOML, a key that does not exist, a value of the wrong
    type or out of range, settings that contradict each other or the profile.
    """
    path = Path(path)
    try:
        given = parse(path)
        if mode is not None:
            given["mode"] = mode
        _refuse_unknown(given, Config, "")
        whole = _completed(given)
        config = _convert(whole, path.parent)
        wrong = contradictions(config)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConfigError(f"{path}: {wrong[0]}{more}")
    return config


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


def _unknown(key: str, place: str, known: list[str]) -> str:
    where = f"[{place}] has no setting" if place else "there is no setting"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"{where} {key!r}: did you mean {near[0]!r}"
    elsewhere = [s.section for s in settings() if s.key == key]
    if elsewhere and len(elsewhere) <= 3:
        tables = " or ".join(f"[{section}]" if section else "the top" for section in elsewhere)
        return f"{where} {key!r}: it belongs to {tables}"
    return f"{where} {key!r}: there are {', '.join(known)}"


def _completed(given: Table) -> Table:
    """Return the file's settings over the defaults, with what its profile fixes."""
    # Over the defaults of each place, not of the section's class: [trigger.udp_rate] with only
    # `enabled` keeps the count of udp_rate.
    whole: Table = {}
    for setting in settings():
        if setting.default is not msgspec.UNSET:
            _put(whole, setting.place, setting.default)
    if given.get("profile") == "paper":
        for place, value in paper.fixed(str(given.get("mode", whole["mode"]))).items():
            _refuse_contradiction(given, place, value)
            _put(whole, place, value)
        for place, value in paper.PRESET.items():
            _put(whole, place, value)
    _overlay(whole, given, Config)
    return whole


def _refuse_contradiction(given: Table, place: str, value: Any) -> None:
    table, _, key = place.rpartition(".")
    section: Any = given
    for part in table.split("."):
        section = section.get(part, {})
    if key not in section:
        return
    said = section[key]
    if isinstance(value, dict) and isinstance(said, dict):
        agrees = said.items() <= value.items()
    else:
        agrees = said == value
    if not agrees:
        fixed = "all 0" if isinstance(value, dict) else toml(value)
        raise ValueError(
            f'{place} = {shown(said)} contradicts profile = "paper", which fixes it to {fixed}: '
            'leave it away, or use profile = "appliance"'
        )


def _put(whole: Table, place: str, value: Any) -> None:
    *tables, key = place.split(".")
    for part in tables:
        whole = whole.setdefault(part, {})
    whole[key] = value


def _overlay(whole: Table, given: Table, struct: Any) -> None:
    known = fields(struct)
    for key, value in given.items():
        shape = known[key].type
        if isinstance(shape, shapes.StructType):
            _overlay(whole.setdefault(key, {}), value, shape.cls)
        elif isinstance(shape, shapes.DictType) and isinstance(value, dict):
            whole[key] = {**whole[key], **value}
        else:
            whole[key] = value


def _convert(whole: Table, beside: Path) -> Config:
    try:
        msgspec.convert(whole, Config)
    except msgspec.ValidationError as error:
        raise ValueError(_translated(str(error), whole)) from error
    for place in _PATHS:
        *tables, key = place.split(".")
        table: Table = whole
        for part in tables:
            table = table[part]
        if table[key]:
            table[key] = str(beside.absolute() / table[key])
    return msgspec.convert(whole, Config)


def _translated(message: str, whole: Table) -> str:
    """Return msgspec's message about a value as one with its place, the value, what is expected."""
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return f"{missing[1]} is missing: {describe(fields(Config)[missing[1]].type)}"
    where = re.search(r" - at `\$\.([^`]*)`$", message)
    if where is None:
        return message
    place, _, index = where[1].partition("[")
    value: Any = whole
    struct: Any = Config
    shape: shapes.Type | None = None
    for part in place.split("."):
        value = value[part]
        shape = fields(struct)[part].type
        struct = getattr(shape, "cls", None)
    assert shape is not None
    if index and isinstance(shape, shapes.VarTupleType) and isinstance(value, list | tuple):
        value, shape = value[int(index.rstrip("]"))], shape.item_type
        place = f"{place}[{index}"
    near = ""
    if isinstance(shape, shapes.LiteralType) and isinstance(value, str):
        close = difflib.get_close_matches(value, [str(v) for v in shape.values], n=1, cutoff=0.6)
        near = f"; did you mean {toml(close[0])}" if close else ""
    return f"{place} = {shown(value)}: expected {describe(shape)}{near}"


def shown(value: Any) -> str:
    """Return a value as the file spells it, shortened for a message of one line."""
    text = toml(value) if not isinstance(value, dict | list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
