"""A TOML file in, a checked configuration out, or one line that says where and what."""

from ids_appliance.config_file.read import DEFAULT_PATH, load
from ids_appliance.config_file.texts import host_port

__all__ = ["DEFAULT_PATH", "host_port", "load"]
