"""A screen whose rules keep silent in, one whose rules speak where Zeek cannot out.

The screen has to see every frame anyway, for it says who is who; so its rules count on behind Zeek
and have nothing to catch up with when it is gone. What they saw since Zeek's last sign of life was
noticed by nobody else, and is told then.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from ids_appliance.trigger.gate import Screen
from ids_appliance.types import U8, Records, TriggerEvent

MAX_KEPT: Final = 256
"""Silent events kept for the case that Zeek turns out to be gone; the oldest give way."""
BLIND_NS: Final = 5 * 10**9
"""Zeek lives, but no packet has reached it for so long after a rule of ours has fired."""
RESTING: Final = frozenset(("dos", "port_scan", "mirai"))
"""Rules that count answers: Zeek's rest while it loses packets."""
CONVICTING: Final = frozenset(("port_scan", "mirai"))
"""Rules of Zeek's that convict alone with us: Zeek, which counts as published, never says that."""

Fired = Sequence[tuple[Any, ...] | TriggerEvent]


class Other(Protocol):
    """The prescreener that speaks first."""

    alive: bool
    resting: bool
    heard: int
    """How often it has shown that packets reach it."""


class StandIn:
    """A `gate.Screen` whose events are told only where `other` does not speak for these rules.

    All else is the wrapped screen's: marks, standings, floods, suspects. rules: which the other
    one has; further ones of the screen's are told always. on_blind: hears True where the other one
    is alive and yet sees nothing (a mirror that is gone), False once it sees again.
    """

    def __init__(
        self,
        screen: Screen,
        other: Other,
        *,
        rules: Sequence[str],
        on_blind: Callable[[bool], None] = lambda blind: None,
    ) -> None:
        self.behind = screen
        self._other = other
        self._rules = frozenset(rules)
        self._on_blind = on_blind
        self._kept: deque[TriggerEvent] = deque(maxlen=MAX_KEPT)
        self._names: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._heard = other.heard
        self._blind = False
        self._now_ns = 0
        self.counts = {"standin_silent": 0, "standin_told_late": 0}

    def screen(self, data: U8, frames: Records, host: bytes, marks: U8) -> Fired:
        """As the wrapped one; Screen."""
        if len(frames):
            self._now_ns = max(self._now_ns, int(frames["timestamp_ns"][-1]))
        return self._told(self.behind.screen(data, frames, host, marks))

    def expire(self, now_ns: int) -> Fired:
        """As the wrapped one; Screen."""
        self._now_ns = max(self._now_ns, now_ns)
        return self._told(self.behind.expire(now_ns))

    def named(self, rule: str, key: str) -> bytes | None:
        """Return whom a silent rule has named with this key of late: it sees MACs, Zeek may not."""
        at_ns, sender = self._names.get((rule, key), (0, None))
        return sender if self._now_ns - at_ns < BLIND_NS else None

    def contain(self, senders: Records) -> None:
        """As the wrapped one; Screen."""
        self.behind.contain(senders)

    def open_window(self) -> None:
        """As the wrapped one; Screen."""
        self.behind.open_window()

    def close_window(self) -> None:
        """As the wrapped one; Screen."""
        self.behind.close_window()

    def name(self, sender: bytes) -> None:
        """As the wrapped one; Screen."""
        self.behind.name(sender)

    def floods(self) -> Sequence[tuple[int, bytes]]:
        """As the wrapped one; Screen."""
        return self.behind.floods()

    def devices(self) -> Sequence[Any]:
        """As the wrapped one; Screen."""
        return self.behind.devices()

    def counters(self) -> dict[str, int]:
        """Totals by name, the wrapped one's among them."""
        return self.behind.counters() | self.counts | {"standin_blind": int(self._blind)}

    # -------------------------------------------------------------------------------------------

    def _told(self, fired: Fired) -> Fired:
        if not fired and not self._kept and not self._blind:
            return fired
        self._look()
        told: list[TriggerEvent] = []
        if self._kept and not (self._other.alive and not self._blind):
            # Of whatever Zeek has not lived to see, nobody else will tell.
            told += self._kept
            self.counts["standin_told_late"] += len(self._kept)
            self._kept.clear()
        for one in fired:
            event = one if isinstance(one, TriggerEvent) else TriggerEvent(*one)
            if not self._speaks_for(event):
                told.append(event)
                continue
            self.counts["standin_silent"] += 1
            self._kept.append(replace(event, frame=0))
            if event.sender is not None:
                if len(self._names) >= MAX_KEPT:
                    self._names.clear()
                self._names[event.rule, event.key] = (self._now_ns, event.sender)
        return told

    def _look(self) -> None:
        """See whether the other one has seen packets since the last look."""
        if self._other.heard != self._heard:
            self._heard = self._other.heard
            self._kept.clear()
            if self._blind:
                self._blind = False
                self._on_blind(False)
        elif self._kept and self._now_ns - self._kept[0].timestamp_ns > BLIND_NS:
            if self._other.alive and not self._blind:
                self._blind = True
                self._on_blind(True)

    def _speaks_for(self, event: TriggerEvent) -> bool:
        if not self._other.alive or self._blind or event.rule not in self._rules:
            return False
        if event.decisive and event.rule in CONVICTING:
            return False
        return not (self._other.resting and event.rule in RESTING)
