"""Dropped packets in, events out: each of its own up to a cap a second, then one that counts them.

No payload goes into the log: addresses, ports, length, probability and votes.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

SECOND_NS: Final = 10**9
MAX_REASONS: Final = 8
VOTE: Final = 0.5
"""A member's probability above which it votes "malicious" (docs/families.md)."""
_NAMES: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "IPv6-ICMP", 132: "SCTP"}
_PORTS: Final = (6, 17, 132)


@dataclass(frozen=True, slots=True)
class Dropped:
    """One packet that was dropped, or would have been."""

    payload: bytes
    """From its IP header on, at least that."""
    reason: str
    mac: bytes
    """Its sender's on the protected side; empty beyond."""
    interface: str
    probability: float | None = None
    votes: Mapping[str, float] | None = None
    """Member of the model -> what it says, where several vote."""


class DropLog:
    """emit: EventLog.emit. clock_ns: monotonic."""

    def __init__(
        self, emit: Callable[..., object], *, per_second: int, clock_ns: Callable[[], int]
    ) -> None:
        self._emit = emit
        self._per_second = per_second
        self._clock_ns = clock_ns
        self._second = clock_ns() // SECOND_NS
        self._told = 0
        self._more: Counter[str] = Counter()
        self._more_bytes = 0
        self._votes: Counter[str] = Counter()
        self.events = self.untold = 0

    def left(self) -> int:
        """Return how many more get an event of their own in this second: only then it is worth
        asking for votes."""
        self.tick()
        return self._per_second - self._told

    def add_up(self, reasons: Iterable[str], octets: int, *, acted: bool = True) -> None:
        """Count packets without an event of their own; octets: of all of them."""
        for reason, n in Counter(reasons).items():
            name = reason if acted else f"{reason} (passed: not enforcing)"
            if name not in self._more and len(self._more) >= MAX_REASONS:
                name = "other"
            self._more[name] += n
            self.untold += n
        self._more_bytes += octets

    def put(self, one: Dropped, *, acted: bool = True) -> None:
        """Report a packet; acted: False where it was only noted (observe)."""
        if self.left() <= 0:
            self.add_up([one.reason], length_of(one.payload), acted=acted)
            return
        self._told += 1
        self.events += 1
        fields: dict[str, Any] = {
            **five_tuple(one.payload),
            "interface": one.interface,
            "action": "dropped" if acted else "passed",
            "reason": one.reason,
            "length": length_of(one.payload),
        }
        if one.mac:
            fields["src_mac"] = one.mac
        if one.probability is not None:
            fields["probability"] = round(one.probability, 6)
        if one.votes:
            fields["votes"] = {name: round(said, 6) for name, said in one.votes.items()}
            self._votes.update({name: int(said > VOTE) for name, said in one.votes.items()})
        self._emit("drop", **fields)

    def tick(self) -> None:
        """Tell how many more there were, once their second is over."""
        second = self._clock_ns() // SECOND_NS
        if second == self._second:
            return
        self._second, self._told = second, 0
        if self._more:
            more, octets = dict(self._more), self._more_bytes
            self._more.clear()
            self._more_bytes = 0
            self._emit(
                "drop", action="more", packets=sum(more.values()), bytes=octets, reasons=more
            )

    def counters(self) -> dict[str, int]:
        """Return totals by name; votes_*: packets told here that this member calls malicious."""
        votes = {f"votes_{name}": n for name, n in self._votes.items()}
        return {"inline_drops_told": self.events, "inline_drops_summed": self.untold} | votes


def length_of(payload: bytes) -> int:
    """Return an IP packet's own length in bytes."""
    if payload[0] >> 4 == 6:
        return 40 + int.from_bytes(payload[4:6], "big")
    return int.from_bytes(payload[2:4], "big")


def five_tuple(payload: bytes) -> dict[str, object]:
    """Return an event's fields of a packet: addresses, ports where it has them, protocol."""
    if payload[0] >> 4 == 6 and len(payload) >= 40:
        at, protocol = 40, payload[6]
        source, target = payload[8:24], payload[24:40]
        first = True
    elif payload[0] >> 4 == 4 and len(payload) >= 20:
        at, protocol = (payload[0] & 15) * 4, payload[9]
        source, target = payload[12:16], payload[16:20]
        first = not (payload[6] & 0x1F or payload[7])
    else:
        return {}
    fields: dict[str, object] = {
        "src_ip": str(ipaddress.ip_address(source)),
        "dest_ip": str(ipaddress.ip_address(target)),
        "proto": _NAMES.get(protocol, str(protocol)),
    }
    if protocol in _PORTS and first and len(payload) >= at + 4:
        fields["src_port"] = int.from_bytes(payload[at : at + 2], "big")
        fields["dest_port"] = int.from_bytes(payload[at + 2 : at + 4], "big")
    return fields
