"""A link's rate in, HTB classes with their queues out: what tc(8) has to be told, and why so.

    1d5: root HTB, `default 30`: what nobody has classed is normal, nothing goes past the classes
     1d5:1   the link's rate
      1d5:10 control   5 %, up to 25 %              queue 1d6:
      1d5:20 priority  its share, up to 90 %        queue 1d7:
      1d5:30 normal    what is left, up to all      queue 1d8:
      1d5:40 suspect   a fifth of its ceiling       queue 1d9:

Every class is assured of its rate whatever the others want, and what is left goes to the most
urgent: so a flood that calls itself urgent (anybody can set a code point) leaves nine tenths of
normal's share alone. Traps (tc-htb(8), sch_htb.c):
 * `quantum` is given, or the kernel reckons one from the rate, and complains at most rates.
 * Bursts are a millisecond's worth: the default, meant for timers of 100 Hz, is too small for fast
   links and lets HTB miss its rate. On slow ones they are less than a frame, so that two never
   leave back to back (a class may send while it owes nothing, sch_htb.c, htb_class_mode): at
   2 Mbit/s each takes 6 ms, and an urgent packet would wait for all of them in the modem.
 * Offloads hand over up to 64 KiB as one packet, which at 20 Mbit/s keeps the line for 26 ms,
   and HTB does not split it; TBF does (sch_tbf.c, tbf_segment). So below SPLIT a class's queue is
   a TBF far too fast ever to wait, and the queue proper is in it (1e6: ... 1e9:).
 * Queues count packets: one of bytes that holds less than such a packet drops every one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config.priorities import Tc
from ids_appliance.enforce.marks import TrafficClass

HANDLE: Final = "1d5:"
PARENT: Final = f"{HANDLE}1"
CLASS_IDS: Final = {which: f"{HANDLE}{int(which)}0" for which in TrafficClass}
QUEUES: Final = {which: f"{0x1D5 + int(which):x}:" for which in TrafficClass}
"""Handle of each class's queue."""
INNER: Final = {which: f"{0x1E5 + int(which):x}:" for which in TrafficClass}
"""Handle of the queue proper, where the class's has to split packets."""
KINDS: Final = ("fq_codel", "sfq", "pfifo")
"""Queues in the order in which they are tried: the first two keep flows of a class apart."""
SPLIT: Final = 250_000_000
"""Bits a second below which packets of 64 KiB are split: they would take 2 ms and more."""
_SPLITTER: Final = "tbf rate 10gbit limit 100mb burst"
_MICROSECOND: Final = 1250
"""Bytes that 10 Gbit/s are in one."""
_CONTROL: Final = (0.05, 0.25)
_PRIORITY_CEILING: Final = 0.9
_FRAME: Final = 1514
_BURST_S: Final = 0.001
_LEAST_BURST: Final = 1000
"""Bytes: below a frame, and still enough for a timer that is some milliseconds late."""
_QUEUE_S: Final = 0.1
"""A full queue is emptied in about so long at the class's ceiling."""


@dataclass(frozen=True, slots=True)
class Share:
    """One class."""

    which: TrafficClass
    rate: int
    """Bits a second it is assured of."""
    ceiling: int
    """Bits a second it may have when others leave some."""
    queue: int
    """Packets that may wait."""

    def line(self) -> str:
        """Return it as `tc class` takes it, after `dev NAME`."""
        return (
            f"parent {PARENT} classid {CLASS_IDS[self.which]} htb {_shape(self.rate, self.ceiling)}"
            f" prio {int(self.which) - 1}"
        )


def shares(tc: Tc, bits: int) -> tuple[Share, ...]:
    """Return the classes of a link of so many bits a second."""
    control, most = _CONTROL
    assured = {
        TrafficClass.CONTROL: (control, most),
        TrafficClass.PRIORITY: (tc.priority_share, _PRIORITY_CEILING),
        TrafficClass.NORMAL: (1 - control - tc.priority_share - tc.suspect_share / 5, 1.0),
        TrafficClass.SUSPECT: (tc.suspect_share / 5, tc.suspect_share),
    }
    return tuple(
        Share(which, _bits(bits * least), _bits(bits * ceiling), _packets(bits * ceiling))
        for which, (least, ceiling) in assured.items()
    )


def class_lines(name: str, verb: str, tc: Tc, bits: int) -> list[str]:
    """Return the commands that add the classes of an interface, or replace them in place."""
    root = f"class {verb} dev {name} parent {HANDLE} classid {PARENT} htb {_shape(bits, bits)}"
    return [root, *(f"class {verb} dev {name} {one.line()}" for one in shares(tc, bits))]


def queue_lines(name: str, kind: str, classes: Sequence[Share], *, mtu: int) -> list[str]:
    """Return the commands that give every class its queue; control's is first come, first served.

    mtu: the interface's, where packets have to be split; 0 where not.
    """
    lines = []
    for one in classes:
        parent, handle = CLASS_IDS[one.which], QUEUES[one.which]
        if mtu:
            # What is longer and cannot be split is dropped; tc(8) rounds down to microseconds.
            burst = 2 * (mtu + 18) + _MICROSECOND
            lines.append(
                f"qdisc add dev {name} parent {parent} handle {handle} {_SPLITTER} {burst}b"
            )
            parent, handle = f"{handle}1", INNER[one.which]
        own = "pfifo" if one.which is TrafficClass.CONTROL else kind
        lines.append(
            f"qdisc add dev {name} parent {parent} handle {handle} {own} limit {one.queue}"
        )
    return lines


def root_line(name: str) -> str:
    """Return the command that makes HTB an interface's root."""
    default = CLASS_IDS[TrafficClass.NORMAL].partition(":")[2]
    return f"qdisc add dev {name} root handle {HANDLE} htb default {default}"


def _shape(bits: int, ceiling: int) -> str:
    quantum = min(60_000, max(_FRAME, int(bits / 8 * _BURST_S)))
    words = f"rate {bits}bit ceil {ceiling}bit quantum {quantum}"
    return f"{words} burst {_burst(bits)}b cburst {_burst(ceiling)}b"


def _burst(bits: int) -> int:
    return max(_LEAST_BURST, int(bits / 8 * _BURST_S))


def _bits(value: float) -> int:
    return max(8_000, int(value))


def _packets(bits: float) -> int:
    return min(1000, max(16, int(bits / 8 * _QUEUE_S / _FRAME)))
