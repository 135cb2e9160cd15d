"""An inventory file (TOML, or Ansible's YAML) in, the four hosts of a live benchmark out.

TOML: a table a role, generator, gateway, node (may be missing) and sink.

    [generator]
    ssh = "root@192.0.2.66"            # words of ssh(1); -p, -i and such belong to ~/.ssh/config
    address = "192.0.2.66"             # as the others know it
    interface = "eth0"                 # generator: sends there; sink: counts there

YAML: Ansible's own, with groups `generators`, `gateways`, `classifiers`, `sinks`; of each the first
host; `ansible_host`, `ansible_user`, `ansible_port` as Ansible knows them, and `bench_interface`,
`bench_address` where they differ.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ids_appliance.errors import LabError

GROUPS: Final = {
    "generator": "generators",
    "gateway": "gateways",
    "node": "classifiers",
    "sink": "sinks",
}
NEEDED: Final = ("generator", "gateway", "sink")
_KEYS: Final = {"ssh", "address", "interface", "port"}
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@%\[\]-]{0,254}")
"""Never begins with a dash: ssh would take it as an option."""
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the benchmark."""

    role: str
    ssh: str
    """What ssh(1) calls it."""
    address: str
    interface: str
    port: int = 22


@dataclass(frozen=True, slots=True)
class Inventory:
    """Who takes part."""

    generator: Host
    gateway: Host
    sink: Host
    node: Host | None = None


def read(path: Path) -> Inventory:
    """Return the inventory of a file. Raises LabError with the place of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"inventory {path}: {error}") from error
    found = _ansible(path, text) if path.suffix in (".yml", ".yaml") else _toml(path, text)
    for role in NEEDED:
        if role not in found:
            raise LabError(f"inventory {path}: there is no {role}")
    hosts = {role: _host(path, role, table) for role, table in found.items()}
    if hosts["sink"].address == hosts["gateway"].address:
        raise LabError(f"inventory {path}: the sink is the gateway: nothing would be forwarded")
    for host in (hosts["generator"], hosts["sink"]):
        if not host.interface:
            raise LabError(f"inventory {path}: {host.role}: no interface")
    return Inventory(**hosts)


def _toml(path: Path, text: str) -> dict[str, Mapping[str, Any]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"inventory {path}: {error}") from error
    for role, table in document.items():
        if role not in GROUPS:
            raise LabError(f"inventory {path}: [{role}] is none of {', '.join(GROUPS)}")
        unknown = set(table) - _KEYS if isinstance(table, dict) else {"it is no table"}
        if unknown:
            raise LabError(f"inventory {path}: [{role}]: {', '.join(sorted(unknown))}?")
    return document


def _ansible(path: Path, text: str) -> dict[str, Mapping[str, Any]]:
    import yaml  # noqa: PLC0415 - an extra, and TOML works without

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LabError(f"inventory {path}: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise LabError(f"inventory {path}: no groups")
    groups = dict(document)
    everybody = groups.get("all")
    if isinstance(everybody, dict) and isinstance(everybody.get("children"), dict):
        groups |= everybody["children"]
    found: dict[str, Mapping[str, Any]] = {}
    for role, group in GROUPS.items():
        table = groups.get(group)
        hosts = table.get("hosts") if isinstance(table, dict) else None
        if not isinstance(hosts, dict) or not hosts:
            continue
        name, own = next(iter(hosts.items()))
        values = own if isinstance(own, dict) else {}
        address = str(values.get("ansible_host", name))
        user = values.get("ansible_user")
        found[role] = {
            "ssh": f"{user}@{address}" if user else address,
            "address": str(values.get("bench_address", address)),
            "interface": str(values.get("bench_interface", "")),
            "port": values.get("ansible_port", 22),
        }
    return found


def _host(path: Path, role: str, table: Mapping[str, Any]) -> Host:
    def wrong(what: str) -> LabError:
        return LabError(f"inventory {path}: {role}: {what}")

    ssh, interface = str(table.get("ssh", "")), str(table.get("interface", ""))
    address, port = str(table.get("address", "")), table.get("port", 22)
    if not _WORD.fullmatch(ssh):
        raise wrong(f"ssh = {ssh!r} is no host that ssh could reach")
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise wrong(f"address = {address!r} is no IPv4 address") from error
    if parsed.is_multicast or parsed.is_unspecified or parsed == ipaddress.IPv4Address(2**32 - 1):
        raise wrong(f"address = {address} is nobody's own")
    if interface and not _INTERFACE.fullmatch(interface):
        raise wrong(f"interface = {interface!r} is no interface's name")
    if not isinstance(port, int) or not 1 <= port <= 65_535:
        raise wrong(f"port = {port!r} is none")
    return Host(role, ssh, address, interface, port)
