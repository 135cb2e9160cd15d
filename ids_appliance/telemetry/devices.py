"""A MAC and an address in, what people call the device out: its name and its maker.

Names are those of the configuration, else those that devices gave the DHCP server. The latter come
from the devices themselves: they are cut, cleaned and believed by nobody.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ids_appliance.telemetry.vendors import Vendors

MAX_NAMES: Final = 4096
_MAX_BYTES: Final = 1 << 20
_MAX_NAME: Final = 64


class Devices:
    """Names of devices; a `records.Describe`. Any thread may ask."""

    def __init__(self, names: Mapping[str, str], vendors: Vendors, *, leases: str = "") -> None:
        """names: MAC or address -> name, as in the configuration. leases: dnsmasq's file."""
        self._named = {_key(key): name for key, name in names.items()}
        self._vendors = vendors
        self._leases = leases
        self._seen: tuple[int, int, int] | None = None
        self._learned: dict[str, str] = {}

    def __call__(self, mac: str, address: str) -> dict[str, str]:
        """Return "name" and "vendor", those that are known."""
        found = {}
        mac = _key(mac) if mac else ""
        for key in (mac, _key(address) if address else ""):
            if name := self._named.get(key) or self._learned.get(key):
                found["name"] = name
                break
        if mac and (vendor := self._vendors.of(bytes.fromhex(mac.replace(":", "")))):
            found["vendor"] = vendor
        return found

    def label(self, mac: str, address: str) -> str:
        """Return the name, else the maker, else ""."""
        found = self(mac, address)
        return found.get("name") or found.get("vendor", "")

    def refresh(self) -> bool:
        """Read the leases again if their file has changed; True if it has. Never raises OSError."""
        if not self._leases:
            return False
        try:
            found = os.stat(self._leases)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return False
            with Path(self._leases).open("rb") as file:
                text = file.read(_MAX_BYTES)
        except OSError:
            return False
        self._seen = seen
        self._learned = read_leases(text)  # replaced as a whole: who asks needs no lock
        return True


def read_leases(text: bytes) -> dict[str, str]:
    """Return MAC or address -> host name of a lease file of dnsmasq(8), at most MAX_NAMES names.

    A line: time of expiry, MAC (IPv6: a DUID's part), address, host name or *, client id."""
    names: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        parts = line.split()
        if len(parts) < 4 or parts[3] == "*" or not parts[0].isdigit():
            continue
        name = "".join(c for c in parts[3] if c.isprintable())[:_MAX_NAME]
        for key in (_key(parts[1]), _key(parts[2])):
            if name and key and len(names) < 2 * MAX_NAMES:
                names[key] = name
    return names


def _key(text: str) -> str:
    """Return a MAC or an address in the one spelling that is looked up, "" for neither."""
    if re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text):
        return text.replace("-", ":").lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
