"""Source addresses at ports in, what the switch is to learn out; bounded whatever is forged."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

MAX_MACS: Final = 4096
MAX_PER_PORT: Final = 256
MOVE_PAUSE_S: Final = 1.0
"""One address moves once in this time: who forges it at another port cannot make us flap."""
MUTE_S: Final = 10
"""A port with too many addresses asks no more for so long."""


class Lesson(IntEnum):
    """What came of an address seen at a port."""

    NEW = 0
    MOVED = 1
    """It was known at another port."""
    KNOWN = 2
    """Frames that were under way when it was learned."""
    HELD = 3
    """It has just moved: not again yet."""
    FULL = 4
    """The port, or the whole table, has no room: the port is to be muted."""
    NOBODY = 5
    """A group's address, or none: nobody sends from it (IEEE 802.3, 3.2.3)."""


@dataclass(slots=True)
class _Place:
    port: int
    since_s: float


@dataclass(slots=True)
class Addresses:
    """Which port has which MAC, on one switch."""

    most: int = MAX_MACS
    per_port: int = MAX_PER_PORT
    counts: dict[Lesson, int] = field(default_factory=lambda: dict.fromkeys(Lesson, 0))
    _places: OrderedDict[bytes, _Place] = field(default_factory=OrderedDict)
    _held: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._places)

    def see(self, mac: bytes, port: int, *, now_s: float) -> Lesson:
        """Return what is to be done about a frame from `mac` (6 bytes) at `port`."""
        lesson = self._see(mac, port, now_s)
        self.counts[lesson] += 1
        return lesson

    def _see(self, mac: bytes, port: int, now_s: float) -> Lesson:
        if len(mac) != 6 or mac[0] & 1 or not any(mac):
            return Lesson.NOBODY
        place = self._places.get(mac)
        if place is not None and place.port == port:
            return Lesson.KNOWN
        if place is not None and now_s - place.since_s < MOVE_PAUSE_S:
            return Lesson.HELD
        full = place is None and len(self._places) >= self.most
        if full or self._held.get(port, 0) >= self.per_port:
            return Lesson.FULL
        if place is not None:
            self._leave(place.port)
        self._places[mac] = _Place(port, now_s)
        self._held[port] = self._held.get(port, 0) + 1
        return Lesson.NEW if place is None else Lesson.MOVED

    def forget(self, mac: bytes, port: int) -> bool:
        """Forget an address if it is known at that port; return whether it was."""
        place = self._places.get(mac)
        if place is None or place.port != port:
            return False
        del self._places[mac]
        self._leave(port)
        return True

    def forget_port(self, port: int) -> list[bytes]:
        """Forget everybody at a port that is no more; return them."""
        gone = [mac for mac, place in self._places.items() if place.port == port]
        for mac in gone:
            self.forget(mac, port)
        return gone

    def _leave(self, port: int) -> None:
        self._held[port] -= 1
        if not self._held[port]:
            del self._held[port]
