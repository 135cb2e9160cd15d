"""Judged batches in, totals per sender out."""

import ipaddress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ids_appliance.types import SENDER, JudgedBatch, Outcome, Records

OTHERS = b""
"""Key of the row that takes every sender past the cap."""


@dataclass(slots=True)
class Totals:
    """What one sender's packets came to."""

    sender: bytes
    """A SENDER record's bytes, of its first packet with an IPv4 address if there was one (that is
    what people know a device by); OTHERS past the cap."""
    packets: int = 0
    judged: int = 0
    malicious: int = 0
    bytes: int = 0
    """Bytes on the wire."""
    probability_sum: float = 0.0

    @property
    def share(self) -> float:
        """Malicious verdicts per judged packet, 0 where nothing was judged."""
        return self.malicious / self.judged if self.judged else 0.0


class SenderTotals:
    """Add up verdicts per sender in a table that never grows past `max_senders` rows.

    by="device": a sender on the protected side is its MAC and interface, one beyond our forwarding
    its IPv4 address or IPv6 /64 (live). by="address": the source address, the MAC where there is
    none (capture files, which do not say on which side a frame was seen).
    """

    def __init__(
        self, *, by: Literal["device", "address"] = "device", max_senders: int = 4096
    ) -> None:
        self._by = by
        self._max = max_senders
        self.rows: dict[bytes, Totals] = {}

    def take(self, batch: JudgedBatch) -> None:
        """Add a batch; VerdictSink."""
        acting = batch.outcomes != Outcome.UNPARSABLE
        acting &= (batch.outcomes != Outcome.OWN) & (batch.outcomes != Outcome.ECHO)
        if not acting.any():
            return
        senders = batch.senders[acting]
        named = (senders["family"] == 4) & senders["address"].any(axis=1)
        order = np.argsort(~named, kind="stable")  # so that `first` below finds a named packet
        senders, named = senders[order], named[order]
        keys = self._keys(senders)
        unique, first, inverse = np.unique(
            keys.view(f"V{SENDER.itemsize}"), return_index=True, return_inverse=True
        )
        n = len(unique)
        judged = batch.outcomes[acting][order] == Outcome.JUDGED
        wire = batch.frames["wirelen"][acting][order].astype(np.float64)
        probabilities = np.where(judged, batch.probabilities[acting][order], 0.0)
        packets = np.bincount(inverse, minlength=n)
        n_judged = np.bincount(inverse, weights=judged, minlength=n)
        malicious = np.bincount(inverse, weights=batch.verdicts[acting][order], minlength=n)
        n_bytes = np.bincount(inverse, weights=wire, minlength=n)
        sums = np.bincount(inverse, weights=probabilities, minlength=n)
        for i in range(n):
            row = self._row(unique[i].tobytes(), senders[first[i]].tobytes())
            if named[first[i]] and row.sender != OTHERS and not _named(row.sender):
                row.sender = senders[first[i]].tobytes()
            row.packets += int(packets[i])
            row.judged += int(n_judged[i])
            row.malicious += int(malicious[i])
            row.bytes += int(n_bytes[i])
            row.probability_sum += float(sums[i])

    def top(self, n: int) -> list[Totals]:
        """Return the n rows with the most malicious verdicts, then the most packets."""
        return sorted(self.rows.values(), key=lambda r: (-r.malicious, -r.packets))[:n]

    def _row(self, key: bytes, sender: bytes) -> Totals:
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= self._max:
                return self.rows.setdefault(OTHERS, Totals(OTHERS))
            row = self.rows[key] = Totals(sender)
        return row

    def _keys(self, senders: Records) -> Records:
        keys = np.zeros_like(senders)
        if self._by == "device":
            lan = senders["side"] == 0
            has_mac = senders["mac"].any(axis=1)
            keys["ifindex"] = np.where(lan, senders["ifindex"], 0)
            keys["side"] = senders["side"]
            keys["mac"][lan & has_mac] = senders["mac"][lan & has_mac]
            by_address = ~lan | ~has_mac
        else:
            by_address = senders["family"] != 0
            keys["mac"][~by_address] = senders["mac"][~by_address]
        keys["family"][by_address] = senders["family"][by_address]
        keys["address"][by_address] = senders["address"][by_address]
        if self._by == "device":
            keys["address"][by_address & (senders["family"] == 6), 8:] = 0
        return keys


def _named(sender: bytes) -> bool:
    record = np.frombuffer(sender, dtype=SENDER)[0]
    return bool(record["family"] == 4 and record["address"].any())


def mac_text(mac: bytes) -> str:
    """Return a MAC as people write it."""
    return mac.hex(":")


def address_text(family: int, address: bytes) -> str:
    """Return an IPv4 or IPv6 address as people write it; "" where there is none."""
    if family == 4:
        return str(ipaddress.IPv4Address(address[:4]))
    return str(ipaddress.IPv6Address(address)) if family == 6 else ""


def sender_text(sender: bytes) -> str:
    """Return one line naming a SENDER record: MAC and address, or the address beyond us."""
    if sender == OTHERS:
        return "(others)"
    record = np.frombuffer(sender, dtype=SENDER)[0]
    address = address_text(int(record["family"]), record["address"].tobytes())
    mac = record["mac"].tobytes()
    if record["side"] == 1 or not any(mac):
        return address or "(no address)"
    return f"{mac_text(mac)} {address}".strip()
