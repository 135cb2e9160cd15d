"""What may be asked of a running gateway and ordered of it, and what it answers.

The control sockets call an object with these methods in the gateway's own loop, between two
batches, one at a time: so no method may block, and none needs a lock. What goes wrong for people's
reasons (an unknown address, a protected one) is raised as IdsError with one line.

Answers are frozen msgspec structs: they travel as JSON objects with these very names. Times of day
are ns since the epoch, 0 where there is none yet; what remains is in seconds. Texts may come from
the network (names of devices): whoever prints them strips control characters.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

AllowOp = Literal["add", "remove", "list"]
Mode = Literal["gateway-only", "offloaded"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What all answers share."""


class WindowInfo(Reply, frozen=True, kw_only=True):
    """One scrutiny window, open or closed."""

    id: int
    cause: str
    """What opened it, readable: "port_scan 192.0.2.7 -> 192.0.2.9"."""
    opened_ns: int
    closed_ns: int = 0
    """0 while it is open."""
    why_closed: str = ""
    packets: int = 0
    """Frames delivered while it was open."""
    judged: int = 0
    shed: int = 0
    contained: int = 0
    cells: int = 0
    """Cells asked of the classifier."""
    votes: int = 0
    """Packets whose verdict was malicious."""
    triggers: int = 0
    decisions: int = 0
    drill: bool = False
    """A drill's own sender has opened it."""


class DecisionInfo(Reply, frozen=True, kw_only=True):
    """One decision about a sender."""

    number: int
    subject: str
    """What it holds for, as `release` takes it: a MAC, an address, a /64, or VICTIM:PORT."""
    interface: str = ""
    """Where a LAN sender is."""
    address: str = ""
    """Latest address seen from a MAC."""
    device: str = ""
    """Name or vendor, where known."""
    response: str
    """What is done: observe, rate_limit, quarantine, ..."""
    would: str = ""
    """What would be done were it enforced; empty where that is done."""
    reason: str
    since_ns: int
    remaining_s: float
    """0 once it has ended."""
    count: int = 1
    """Which decision about this sender it is: 1 the first."""
    by_hand: bool = False
    probation: bool = False
    """The time is over, the sender is watched more closely."""
    enforced: bool = False
    """The kernel has it."""
    note: str = ""
    """Why it is not enforced, or what was done instead."""
    score: float | None = None
    drill: bool = False
    """About a drill's own sender: nobody real."""


class DecisionPage(Reply, frozen=True, kw_only=True):
    """Some of what stands, and how much there is of it."""

    rows: tuple[DecisionInfo, ...]
    """The latest first."""
    total: int
    """Standing."""
    matching: int
    """Of those, how many the text was found in."""
    by_response: dict[str, int] = {}
    """Of all that stand: what is done -> how many."""
    now_ns: int = 0
    """The gateway's time of day, which `since_ns` is to be compared with."""


class InterfaceInfo(Reply, frozen=True, kw_only=True):
    """One captured port."""

    name: str
    up: bool
    frames: int = 0
    drops: int = 0
    """Frames that the kernel could not store in the ring, which all ports share: it counts them
    for all together."""


class Status(Reply, frozen=True, kw_only=True):
    """The whole gateway at one glance."""

    version: str
    pid: int
    uptime_s: float
    mode: Mode
    profile: str = "appliance"
    model: str = ""
    """Model in use: its id in hex."""
    node: str = ""
    """Address of the node that judges; empty where this gateway does."""
    interfaces: tuple[InterfaceInfo, ...] = ()
    enforcing: bool = False
    """Decisions go into the kernel at this moment."""
    held: str = ""
    """Why not, where they do not: "observe: enforcement is off", "paused", "breaker", "panic"."""
    paused_s: float = 0.0
    """Until the pause ends; 0 where there is none."""
    window: WindowInfo | None = None
    """The open one."""
    windows: int = 0
    """Opened since the start."""
    decisions: int = 0
    """Standing now."""
    intended: int = 0
    """Elements that the kernel should have."""
    found: int = 0
    """Of those, how many it had at the last look."""
    alarms: tuple[str, ...] = ()
    """What needs somebody's attention, one line each, the worst first."""
    counters: dict[str, int] = {}
    """Every counter by name, as Prometheus gets them."""


class TriggerInfo(Reply, frozen=True, kw_only=True):
    """One event that named the sender."""

    rule: str
    timestamp_ns: int
    detail: str


class CellInfo(Reply, frozen=True, kw_only=True):
    """One cell of a sender's packets."""

    cell: str
    """Its keyed hash in hex: equal for packets that the forest cannot tell apart."""
    log_odds: float | None
    """Of one packet; above 0 malicious."""
    packets: int


class WhyInfo(Reply, frozen=True, kw_only=True):
    """Everything that speaks for and against a sender."""

    asked: str
    subject: str
    """The sender that the question was taken to be about."""
    interface: str = ""
    address: str = ""
    device: str = ""
    summary: str
    """One sentence: what is done about it, and why."""
    decision: DecisionInfo | None = None
    triggers: tuple[TriggerInfo, ...] = ()
    score: float | None = None
    """Sum of log-odds now; None where nothing was judged."""
    upper: float | None = None
    """Bound that makes a decision."""
    lower: float | None = None
    """Bound that clears."""
    packets: int = 0
    """Judged packets behind the score."""
    cells: tuple[CellInfo, ...] = ()
    """Those that weigh most, in either direction."""
    standing: tuple[str, ...] = ()
    """proven, called, ...: see types.Standing."""
    allowed: str = ""
    """The allow entry that matches."""
    doubted: str = ""
    """The allowed or protected address that it claims, where nobody knows better."""
    ceiling: str = ""
    """The setting that limits what may be done to it."""
    protected: str = ""
    """Why it can never be cut off."""
    history: tuple[str, ...] = ()
    """What was decided, refused and ended, one line each, the latest first."""
    others: int = 0
    """Further senders that the question may have meant."""


class AllowEntry(Reply, frozen=True, kw_only=True):
    """Somebody about whom no decision is made."""

    text: str
    """A MAC, an address or a network."""
    interface: str = ""
    """Only there; empty: for a sender beyond us."""
    since_ns: int = 0
    comment: str = ""


class AllowList(Reply, frozen=True, kw_only=True):
    """The allow list, or what was changed of it."""

    entries: tuple[AllowEntry, ...]
    message: str = ""
    """One sentence: what is so from now on; empty for "list"."""


class Done(Reply, frozen=True, kw_only=True):
    """An order was carried out."""

    message: str
    """One sentence: what is so from now on."""
    details: tuple[str, ...] = ()
    changed: int = 0
    """How many things changed; 0: it was so already."""


class Actions(Protocol):
    """What the control sockets call; the running gateway implements it."""

    def status(self) -> Status:
        """Say how everything is."""

    def windows(self, n: int) -> Sequence[WindowInfo]:
        """Return the latest n windows, the latest first."""

    def decisions(self, n: int) -> Sequence[DecisionInfo]:
        """Return at most n standing decisions, the latest first."""

    def page(self, n: int, *, offset: int = 0, find: str = "") -> DecisionPage:
        """Return at most n standing decisions from the offset on, the latest first, of those that
        have every word of `find` in their sender, device or reason."""

    def why(self, text: str) -> WhyInfo:
        """Explain what is known of a sender: a MAC, an address, MAC@INTERFACE, VICTIM:PORT."""

    def allow(self, op: AllowOp, text: str, *, interface: str = "", comment: str = "") -> AllowList:
        """Change the allow list and return the entries concerned; for "list", all of them
        (`text` is then empty)."""

    def release(self, text: str) -> Done:
        """End the decisions about a sender, about everybody where `text` is empty."""

    def quarantine(self, text: str, for_s: float) -> Done:
        """Cut a sender off for so long. Protected ones are refused."""

    def pause(self, for_s: float) -> Done:
        """Enforce nothing for so long; 0 ends a pause."""

    def panic(self) -> Done:
        """Remove everything of ours from the kernel and only observe from now on."""

    def enforce(self, on: bool) -> Done:
        """Let decisions go into the kernel, or only be told."""

    def window(self, open_: bool) -> Done:
        """Open the scrutiny window, or keep it open for its whole length from now; or close it."""

    def mode(self, name: Mode) -> Done:
        """Judge here, or on the node."""

    def reload(self) -> Done:
        """Read configuration, model and certificates again; `details` names what changed and what
        takes a restart. A configuration that is not good changes nothing."""
