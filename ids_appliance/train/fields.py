"""Frames in, one column per field that a label rule may ask for; a whole batch at a time.

The fields are those of labels.json (docs of the reference reader): addresses and ARP claims, which
the packet record leaves out on purpose, so that a model cannot learn them. A field that a frame
does not have is absent there, and no rule on it matches, negated or not.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.types import FrameBatch

ETH_ARP: Final = 0x0806
ETH_IPV4: Final = 0x0800
ETH_IPV6: Final = 0x86DD
_VLANS: Final = (0x8100, 0x88A8)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of every frame of a batch."""

    values: npt.NDArray[Any]
    """(n,) numbers, or byte strings: 6 of a MAC, 17 of an address (family, then 16 bytes)."""
    present: Mask


class _Bytes:
    """Reads of big-endian numbers and byte strings at a place of every frame, without copying
    frames; what lies past a frame's end reads as anything and must be masked by the caller."""

    def __init__(self, batch: FrameBatch) -> None:
        self._data = batch.data if len(batch.data) else np.zeros(1, np.uint8)
        self._start = batch.frames["offset"].astype(np.int64)
        self.length = batch.frames["caplen"].astype(np.int64)

    def raw(self, at: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.uint8]:
        index = (self._start + at)[:, None] + np.arange(n)
        return np.asarray(self._data[np.minimum(index, len(self._data) - 1)])

    def number(self, at: npt.NDArray[np.int64], n: int = 2) -> npt.NDArray[np.int64]:
        total = np.zeros(len(self._start), np.int64)
        for column in self.raw(at, n).T:
            total = (total << 8) | column
        return total


def read_fields(batch: FrameBatch) -> dict[str, Field]:
    """Return every field of labels.json for a batch, by name (t_min and t_max aside).

    Link types 1 (Ethernet, with VLAN tags) and 113 (Linux cooked); of others nothing is read.
    """
    n = len(batch.frames)
    octets = _Bytes(batch)
    length = octets.length
    zero = np.zeros(n, np.int64)
    ethernet = (batch.frames["linktype"] == 1) & (length >= 14)
    cooked = (batch.frames["linktype"] == 113) & (length >= 16)
    linked = ethernet | cooked

    etype = np.where(ethernet, octets.number(zero + 12), octets.number(zero + 14))
    start = np.where(ethernet, 14, 16)
    tagged = ethernet & np.isin(etype, _VLANS) & (length >= start + 4)
    while tagged.any():
        etype = np.where(tagged, octets.number(start + 2), etype)
        start = np.where(tagged, start + 4, start)
        tagged = tagged & np.isin(etype, _VLANS) & (length >= start + 4)
    left = length - start

    fields = {
        "eth_dst": Field(_text(octets.raw(zero, 6)), ethernet),
        "eth_src": Field(
            _text(octets.raw(zero + 6, 6)),
            linked,
        ),
        "etype": Field(etype, linked),
    }
    arp = linked & (etype == ETH_ARP) & (left >= 28)
    fields["arp_op"] = Field(octets.number(start + 6), arp)
    for name, at in (("arp_sha", 8), ("arp_tha", 18)):
        fields[name] = Field(_text(octets.raw(start + at, 6)), arp)
    for name, at in (("arp_spa", 14), ("arp_tpa", 24)):
        fields[name] = Field(_address(octets.raw(start + at, 4), 4), arp)

    v4 = linked & (etype == ETH_IPV4) & (left >= 20)
    v6 = linked & (etype == ETH_IPV6) & (left >= 40)
    for name, at4, at6 in (("ip_src", 12, 8), ("ip_dst", 16, 24)):
        short = _address(octets.raw(start + at4, 4), 4)
        long = _address(octets.raw(start + at6, 16), 6)
        fields[name] = Field(np.where(v4, short, long), v4 | v6)

    fragment = v4 & ((octets.number(start + 6) & 0x1FFF) != 0)
    header = np.where(v4, (octets.number(start, 1) & 15) * 4, 40)
    proto = np.where(v4, octets.number(start + 9, 1), octets.number(start + 6, 1))
    hops = v6 & (proto == 0) & (left - 40 > 8)
    proto = np.where(hops, octets.number(start + 40, 1), proto)
    header = np.where(hops, header + (octets.number(start + 41, 1) + 1) * 8, header)
    fields["proto"] = Field(proto, v4 | v6)

    above = np.where(fragment, 0, np.maximum(left - header, 0))
    ported = (v4 | v6) & ((proto == 6) | (proto == 17)) & (above >= 4)
    place = np.minimum(start + header, length)
    fields["sport"] = Field(octets.number(place), ported)
    fields["dport"] = Field(octets.number(place + 2), ported)
    flagged = (v4 | v6) & (proto == 6) & (above >= 14)
    fields["tcp_flags"] = Field(octets.number(place + 13, 1), flagged)
    return fields


def address_text(packed: bytes) -> bytes:
    """Return an address (4 or 16 bytes) in the form in which a Field holds it."""
    return bytes([4 if len(packed) == 4 else 6]) + packed.ljust(16, b"\0")


def _text(octets: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    # Fixed-size records, compared as a whole; numpy's "S" would cut trailing zeros off.
    return np.ascontiguousarray(octets).view(f"V{octets.shape[1]}").ravel()


def _address(octets: npt.NDArray[np.uint8], family: int) -> npt.NDArray[Any]:
    out = np.zeros((len(octets), 17), np.uint8)
    out[:, 0] = family
    out[:, 1 : 1 + octets.shape[1]] = octets
    return _text(out)
