"""What the command knows in, one argument of the page's process out; and back."""

from typing import Final

import msgspec

from ids_appliance.errors import ConfigError

REFRESH_S: Final = 2.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the page finds things: names of files only, for every user sees a process' words."""

    run_dir: str
    """Directory of the gateway's sockets."""
    model: str = ""
    """The bundle that the configuration names; "" where unknown."""
    token_file: str = ""
    """A token of the dashboard's own; "": the gateway's is asked for."""
    refresh_s: float = REFRESH_S


def encode_settings(settings: Settings) -> str:
    """Return them as one word of a command line."""
    return msgspec.json.encode(settings).decode()


def decode_settings(words: list[str]) -> Settings:
    """Return those that a process was started with. Raises ConfigError."""
    try:
        return msgspec.json.decode(words[1], type=Settings)
    except (IndexError, ValueError) as error:
        raise ConfigError(
            "this page is started by `ids-appliance dashboard --config FILE`, not by itself"
        ) from error
