"""A TOML file in, a Config out; whatever is wrong with it becomes one ConfigError line."""

from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes

from ids_appliance.config import Config
from ids_appliance.config_file import paper
from ids_appliance.config_file.contradictions import contradictions
from ids_appliance.config_file.strict import (
    Table,
    convert,
    parse,
    refuse_contradictions,
    refuse_unknown,
    shown,
)
from ids_appliance.config_file.words import fields, settings, toml
from ids_appliance.errors import ConfigError

DEFAULT_PATH: Final = "/etc/ids-appliance/gateway.toml"
_PATHS: Final = (
    *("model", "policy.bounds", "node.cert", "node.key", "node.ca", "node.crl"),
    *(f"enforce.openflow.{name}" for name in ("cert", "key", "ca")),
    *(f"notices.webhook.{name}" for name in ("url_file", "token_file", "ca")),
    *(f"notices.mqtt.{name}" for name in ("password_file", "ca")),
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
        refuse_unknown(given, Config, elsewhere=_sections_of)
        whole = _completed(given)
        config = _converted(whole, path.parent)
        wrong = contradictions(config)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    refuse_contradictions(path, wrong)
    return config


def _sections_of(key: str) -> list[str]:
    return [setting.section for setting in settings() if setting.key == key]


def _completed(given: Table) -> Table:
    """Return the file's settings over the defaults, with what its profile fixes."""
    # Over the defaults of each place, not of the section's class: [trigger.udp_rate] with only
    # `enabled` keeps the count of udp_rate.
    whole: Table = {}
    for setting in settings():
        if setting.default is not msgspec.UNSET:
            _put(whole, setting.place, setting.default)
    if given.get("profile") == "paper":
        mode, section = str(given.get("mode", whole["mode"])), given.get("inline")
        inline = isinstance(section, dict) and section.get("enabled") is True
        for place, value in paper.fixed(mode, inline=inline).items():
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


def _converted(whole: Table, beside: Path) -> Config:
    convert(whole, Config)  # whatever stands in them: a path is joined only where it is a text
    for place in _PATHS:
        *tables, key = place.split(".")
        table: Table = whole
        for part in tables:
            table = table[part]
        if table[key]:
            table[key] = str(beside.absolute() / table[key])
    return convert(whole, Config)
