"""A MAC in, who made the device out, by a registry that the machine already has.

Nothing is shipped: Debian's ieee-data, nmap, Wireshark and arp-scan each bring the IEEE's list. It
is read once into sorted arrays (some 60,000 entries, 2 MiB); a look-up takes microseconds.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from ids_appliance.types import U64

FILES: Final = (
    "/usr/share/ieee-data/oui.txt",
    "/usr/share/wireshark/manuf",
    "/usr/share/nmap/nmap-mac-prefixes",
    "/usr/share/arp-scan/ieee-oui.txt",
)
LOCAL: Final = "locally administered (randomised?)"
"""What a MAC with the bit 0x02 is: of no maker; phones draw theirs anew for each network."""

_MAX_BYTES: Final = 32 << 20
_MAX_NAME: Final = 64
_LENGTHS: Final = (36, 28, 24)
"""Bits of a prefix, the most specific first."""

_LINE: Final = re.compile(
    rb"^(?P<prefix>[0-9A-Fa-f]{2}(?:[-:]?[0-9A-Fa-f]{1,2}){2,5}) *(?:/(?P<bits>\d\d))?"
    rb"(?: +\(hex\))?[ \t]+(?P<name>[^\r\n]+)",
    re.MULTILINE,
)
"""oui.txt "00-00-0C   (hex)  Cisco", manuf "00:00:0C<TAB>Cisco<TAB>Cisco Systems, Inc",
"00:1B:C5:00:00:00/36<TAB>...", nmap and arp-scan "00000C Cisco"."""


class Vendors:
    """Makers of devices by the first bits of their MACs."""

    def __init__(self, text: bytes = b"") -> None:
        """Read the text of a registry; what is no entry is passed over."""
        found: dict[int, dict[int, int]] = {bits: {} for bits in _LENGTHS}
        names: dict[bytes, int] = {}
        for match in _LINE.finditer(text):
            digits = re.sub(rb"[-:]", b"", match["prefix"])
            bits = int(match["bits"] or min(len(digits) * 4, 36))
            if bits in found and len(digits) * 4 >= bits:
                key = int(digits, 16) >> (len(digits) * 4 - bits)
                name = match["name"].rpartition(b"\t")[2].strip()[:_MAX_NAME]
                found[bits][key] = names.setdefault(name, len(names))
        # One block instead of 30,000 objects.
        self._text = b"".join(names)
        self._ends = np.cumsum([len(name) for name in names], dtype=np.uint64)
        self._tables: list[tuple[int, U64, U64]] = []
        for bits, entries in found.items():
            keys = np.array(sorted(entries), np.uint64)
            which = np.array([entries[int(key)] for key in keys], np.uint64)
            self._tables.append((bits, keys, which))

    def __len__(self) -> int:
        return sum(len(keys) for _, keys, _ in self._tables)

    def of(self, mac: bytes) -> str:
        """Return who made the device with this MAC, LOCAL, or "" where nobody knows."""
        if len(mac) != 6 or not any(mac) or mac[0] & 1:
            return ""
        if mac[0] & 2:
            return LOCAL
        value = int.from_bytes(mac)
        for bits, keys, which in self._tables:
            prefix = np.uint64(value >> (48 - bits))
            at = int(np.searchsorted(keys, prefix))
            if at < len(keys) and keys[at] == prefix:
                return self._name(int(which[at]))
        return ""

    def _name(self, number: int) -> str:
        start = int(self._ends[number - 1]) if number else 0
        return self._text[start : int(self._ends[number])].decode("utf-8", "replace")


def installed(files: Iterable[str] = FILES) -> Vendors:
    """Return the vendors by the first of the files that can be read; by none, nobody's known."""
    for name in files:
        try:
            with Path(name).open("rb") as file:
                vendors = Vendors(file.read(_MAX_BYTES))
        except OSError:
            continue
        if len(vendors):
            return vendors
    return Vendors()
