"""Lines of Zeek's trigger log in, trigger events out; and whether Zeek is there at all.

The other half is the Zeek package in ansible/roles/zeek/files (docs/zeek.md). Zeek is trusted to
open the window and to name a sender, as a rule of our own is, and with nothing else: what it writes
is typed and bounded here, and a name becomes a sender only through what our own screen knows.
"""

import ipaddress
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from ids_appliance import config
from ids_appliance.trigger.zeek_log import LogTail
from ids_appliance.types import SENDER, Side, TriggerEvent

Rule = Literal["dos", "port_scan", "mirai", "arp_spoof", "overflow"]
RULES: Final = ("dos", "port_scan", "mirai", "arp_spoof")
"""What Zeek counts; its `overflow` says what its tables or its mirror could not hold."""
LOOK_NS: Final = 10_000_000
"""Between two looks at the file: far less than Zeek itself takes, and no cost per batch."""
MAX_AGE_NS: Final = 10 * 10**9
"""A line that is older (a Zeek that hung, a clock that was set), or that much ahead, is no news."""
MAX_DETAIL: Final = 200
MAX_TOLD: Final = 200
"""Triggers believed within a second. Zeek has its hold-downs; whoever writes in its place has none,
and each costs a look at who is who, and a line in the events."""
SECOND_NS: Final = 10**9

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=256)]


class Names(Protocol):
    """What our own screen knows of who is who."""

    def sender(self, mac: bytes, address: bytes) -> bytes | None:
        """Return the canonical SENDER record of a MAC, or of an address where `mac` is empty."""

    def named(self, rule: str, key: str) -> bytes | None:
        """Return whom our own rule names with the same key just now."""


_PRINTABLE: Final = frozenset(string.printable) - frozenset("\t\n\r\x0b\x0c")


class Line(msgspec.Struct, frozen=True):
    """One line of the log; fields that are not known here are passed over."""

    ts: Annotated[float, Meta(ge=0, le=1e11)]
    kind: Literal["trigger", "alive"]
    rule: Rule | None = None
    key: Text = ""
    orig: Text = ""
    mac: Text = ""
    resp: Text = ""
    resp_p: Annotated[int, Meta(ge=0, le=65_535)] = 0
    detail: Text = ""
    decisive: bool = False
    packets: Count = 0
    lost: Count = 0
    entries: Count = 0
    resting: bool = False


class ZeekTrigger:
    """A `types.Trigger`: what Zeek has written since the last poll.

    wall_ns: time of day, against which the lines' is held. on_change: hears in one line that Zeek
    has come or gone, or rests.
    """

    def __init__(
        self,
        settings: config.Zeek,
        *,
        names: Names,
        wall_ns: Callable[[], int],
        on_change: Callable[[str, str], None] = lambda state, line: None,
    ) -> None:
        self._tail = LogTail(Path(settings.log))
        self._log = settings.log
        self._silence_ns = round(settings.silence_s * 1e9)
        self._names = names
        self._wall_ns = wall_ns
        self._on_change = on_change
        self._decoder = msgspec.json.Decoder(Line)
        self._look_ns = -(2**62)
        self._heard_ns: int | None = None
        self._told_silence = False
        self._rests_ns = -(2**62)
        self._second_ns = -(2**62)
        self._told = 0
        self.alive = False
        """Zeek has written within `silence_s`."""
        self.resting = False
        """Zeek or its mirror loses packets: its rules that count answers rest."""
        self.heard = 0
        """Lines that show that packets reach it."""
        self.counts = dict.fromkeys(
            (
                *("zeek_lines", "zeek_events", "zeek_malformed", "zeek_stale"),
                *("zeek_gone", "zeek_excess"),
            ),
            0,
        )
        self.seen = dict.fromkeys(("zeek_packets", "zeek_lost", "zeek_entries"), 0)

    def poll(self, now_ns: int) -> Sequence[TriggerEvent]:
        """Return what fired since the last call, in the log's order; Trigger."""
        if now_ns < self._look_ns:
            return ()
        self._look_ns = now_ns + LOOK_NS
        if self._heard_ns is None:
            self._heard_ns = now_ns
        if now_ns - self._second_ns >= SECOND_NS:
            self._second_ns, self._told = now_ns, 0
        events = []
        for line in self._tail.lines():
            event = self._take(line, now_ns)
            if event is not None:
                events.append(event)
        if now_ns - self._heard_ns > self._silence_ns and not self._told_silence:
            self._gone(now_ns)
        return events

    def counters(self) -> dict[str, int]:
        """Totals by name; `zeek_alive` is 1 or 0."""
        return self.counts | self.seen | self._tail.counts | {"zeek_alive": int(self.alive)}

    def close(self) -> None:
        """Let go of the log."""
        self._tail.close()

    def _take(self, text: bytes, now_ns: int) -> TriggerEvent | None:
        self.counts["zeek_lines"] += 1
        try:
            line = self._decoder.decode(text)
        except msgspec.MsgspecError:  # also: not UTF-8
            self.counts["zeek_malformed"] += 1
            return None
        at_ns = round(line.ts * 1e9)
        if abs(self._wall_ns() - at_ns) > MAX_AGE_NS:
            self.counts["zeek_stale"] += 1
            return None
        self._heard(line, now_ns)
        if line.kind == "alive":
            return None
        if line.rule is None or not line.key:
            self.counts["zeek_malformed"] += 1
            return None
        self._told += 1
        if self._told > MAX_TOLD:
            self.counts["zeek_excess"] += 1
            if self._told > MAX_TOLD + 1:
                return None
            said = f"Zeek: more than {MAX_TOLD} triggers in a second: others are passed over"
            return TriggerEvent("overflow", "zeek", at_ns, 0, None, said)
        self.counts["zeek_events"] += 1
        sender = self._sender(line)
        # Who cannot be named cannot be decided about.
        decisive = line.decisive and line.rule == "arp_spoof" and sender is not None
        detail = f"Zeek: {printable(line.detail)}"[:MAX_DETAIL]
        return TriggerEvent(line.rule, printable(line.key), at_ns, 0, sender, detail, decisive)

    def _heard(self, line: Line, now_ns: int) -> None:
        self._heard_ns, self._told_silence = now_ns, False
        if not self.alive:
            self.alive = True
            self._on_change("up", "Zeek prescreens")
        if line.kind != "alive":
            self.heard += 1
            return
        self.heard += line.packets > self.seen["zeek_packets"]
        self.seen = {
            "zeek_packets": line.packets,
            "zeek_lost": line.lost,
            "zeek_entries": line.entries,
        }
        if line.resting:
            self._rests_ns = now_ns
            if not self.resting:
                self.resting = True
                self._on_change("resting", "Zeek loses packets: our own rules count too")
        elif self.resting and now_ns - self._rests_ns >= SECOND_NS // 2:
            # Signs of life come once a second; were they believed faster, each could be an event.
            self.resting = False
            self._on_change("up", "Zeek sees every packet again")

    def _gone(self, now_ns: int) -> None:
        assert self._heard_ns is not None
        self._told_silence = True
        self.alive = self.resting = False
        self.counts["zeek_gone"] += 1
        silence_s = (now_ns - self._heard_ns) / 1e9
        self._on_change(
            "down",
            f"Zeek has written nothing to {self._log} for {silence_s:.0f} s: our own rules "
            "prescreen until it is back",
        )

    def _sender(self, line: Line) -> bytes | None:
        if line.orig or line.mac:
            return self._names.sender(_mac(line.mac), _address(line.orig))
        victim = _address(line.resp)
        if line.rule != "dos" or not victim or not line.resp_p:
            return None
        # A MAC behind many forged addresses is seen by ours alone where Zeek has a mirror.
        return self._names.named(line.rule, line.key) or flood(victim, line.resp_p)


def flood(victim: bytes, port: int) -> bytes:
    """Return the SENDER record that stands for the unproven senders of a flood (Side.FLOOD)."""
    record = bytearray(SENDER.itemsize)
    record[:4] = port.to_bytes(4, "little")
    record[4], record[5] = Side.FLOOD, 4 if len(victim) == 4 else 6
    record[12 : 12 + len(victim)] = victim
    return bytes(record)


def printable(text: str) -> str:
    """Return a text without what could steer a terminal or a log."""
    return "".join(one if one in _PRINTABLE else "?" for one in text)


def _mac(text: str) -> bytes:
    parts = text.split(":")
    try:
        return bytes(int(part, 16) for part in parts) if len(parts) == 6 else b""
    except ValueError:
        return b""


def _address(text: str) -> bytes:
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return b""
