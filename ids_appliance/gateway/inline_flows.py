"""Judged packets in, TCP connections that may pass beside the queue out.

Clean is a connection whose handshake is complete (the screen says so), with payload both ways and
so many judged packets, none of them malicious. It passes for a limited time, then it is judged
anew; whoever is named by a trigger or decided about has all his connections back at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ids_appliance._evidence import canonical_senders
from ids_appliance.capture.held import connection
from ids_appliance.config.inline import Inline
from ids_appliance.types import Records, Standing

Flow = tuple[bytes, int, bytes, int]
"""As in enforce.queue_rule."""
_ENDING: Final = 0x05  # FIN, RST


@dataclass(slots=True)
class _Followed:
    packets: int = 0
    ways: int = 0
    """Bit 1: payload one way, bit 2: the other."""
    senders: dict[int, bytes] = field(default_factory=dict)
    """Way -> SENDER record of who sends that way, canonical."""


@dataclass(slots=True)
class _Passing:
    until: float
    senders: frozenset[bytes]
    flow: Flow


class CleanFlows:
    """Connections followed, and those beside the queue; both bounded, the oldest gives way."""

    def __init__(self, settings: Inline) -> None:
        self._settings = settings
        self._followed: dict[bytes, _Followed] = {}
        self._passing: dict[bytes, _Passing] = {}
        self.passed = self.taken_back = 0

    @property
    def following(self) -> bool:
        """There are connections that may come to be clean."""
        return bool(self._followed)

    def follows(self, key: bytes) -> bool:
        """Say whether a connection may come to be clean."""
        return key in self._followed

    def saw(self, payload: bytes, sender: Records, *, standing: int, clean: bool) -> None:
        """Take note of a judged packet: its bytes from the IP header on, one SENDER record."""
        parts = tcp_parts(payload)
        if parts is None:
            return
        key, way, ending, has_payload = parts
        one = self._followed.get(key)
        if not clean or ending:
            if one is not None:
                del self._followed[key]
            return
        if one is None:
            if not standing & Standing.PROVEN:
                return  # half-open and forged ones never cost a place
            while len(self._followed) >= self._settings.bypass_flows:
                del self._followed[next(iter(self._followed))]
            one = self._followed[key] = _Followed()
        one.packets += 1
        if has_payload:
            one.ways |= 1 << way
        if way not in one.senders:
            one.senders[way] = canonical_senders(np.atleast_1d(sender)).tobytes()

    def due(self, now: float) -> list[Flow]:
        """Return connections that have become clean since the last call; they pass from now on."""
        wanted = self._settings.bypass_packets
        ripe = [
            key
            for key, one in self._followed.items()
            if one.packets >= wanted and one.ways == 3 and len(one.senders) == 2
        ]
        for key in [key for key, one in self._passing.items() if one.until <= now]:
            del self._passing[key]
        found = []
        for key in ripe[: self._settings.bypass_flows - len(self._passing)]:
            one = self._followed.pop(key)
            flow = flow_of(key)
            until = now + self._settings.bypass_s
            self._passing[key] = _Passing(until, frozenset(one.senders.values()), flow)
            found.append(flow)
        self.passed += len(found)
        return found

    def doubt(self, senders: Iterable[bytes]) -> list[Flow]:
        """Return the connections beside the queue of canonical senders: they are judged again."""
        doubted = set(senders)
        keys = [key for key, one in self._passing.items() if one.senders & doubted]
        gone = [self._passing.pop(key).flow for key in keys]
        for key, one in list(self._followed.items()):
            if doubted & set(one.senders.values()):
                del self._followed[key]
        self.taken_back += len(gone)
        return gone

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        return {
            "bypass_passed": self.passed,
            "bypass_taken_back": self.taken_back,
            "bypass_flows": len(self._passing),
            "bypass_followed": len(self._followed),
        }


def tcp_parts(payload: bytes) -> tuple[bytes, int, bool, bool] | None:
    """Return (the connection, which way, it ends, it has payload) of a TCP packet; None for others,
    fragments, and what was cut before its flags. The connection has the same key both ways."""
    key, way, at = connection(payload)
    if not key:
        return None
    if payload[0] >> 4 == 4:
        length = int.from_bytes(payload[2:4], "big")
    else:
        length = 40 + int.from_bytes(payload[4:6], "big")
    header = (payload[at + 12] >> 4) * 4
    return key, way, bool(payload[at + 13] & _ENDING), length > at + header


def flow_of(key: bytes) -> Flow:
    """Return a connection's key as addresses and ports."""
    half = len(key) // 2
    one, other = key[:half], key[half:]
    return (
        one[:-2],
        int.from_bytes(one[-2:], "big"),
        other[:-2],
        int.from_bytes(other[-2:], "big"),
    )
