"""A monitor's TOML file in, its settings out; whatever is wrong becomes one ConfigError line."""

from importlib import resources
from pathlib import Path
from typing import Final

from ids_appliance.config_file.strict import (
    convert,
    parse,
    refuse_contradictions,
    refuse_unknown,
)
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
        refuse_unknown(given, Monitor)
        found = convert(given, Monitor)
        wrong = contradictions(found)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    refuse_contradictions(path, wrong)
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
