"""What flows between the stages, and what each stage promises.

Data is frozen or a numpy array with one of the dtypes below; the protocols say who calls whom and
what may never happen. Nothing here does I/O or knows a concrete stage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ids_appliance.schema import SCHEMA_HASH

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Records = npt.NDArray[Any]
"""A structured array of FRAME or SENDER records."""

FRAME: Final = np.dtype(
    [
        ("offset", "<u8"),  # of the frame's first byte in the batch's buffer
        ("caplen", "<u4"),  # captured bytes
        ("wirelen", "<u4"),  # bytes on the wire
        ("timestamp_ns", "<i8"),  # since the epoch; packet time, never the reader's clock
        ("number", "<u8"),  # 1-based: of the frame in its file, or since the source was opened
        ("ifindex", "<u4"),  # kernel's interface index; 0 in a capture file
        ("linktype", "<u2"),  # LINKTYPE_* number of pcap (1 Ethernet, 101 raw IP, ...)
        ("direction", "u1"),  # see Direction
        ("standing", "u1"),  # of its sender; see Standing
    ]
)
"""One captured frame inside a batch's buffer; 40 bytes, mirrored by `Frame` in ext/packet.pxd."""

SENDER: Final = np.dtype(
    [
        ("ifindex", "<u4"),  # ingress interface; 0 in a capture file
        ("side", "u1"),  # see Side
        (
            "family",
            "u1",
        ),  # 4, 6, or 0 where the frame has no IP source (ARP: of the claimed address)
        ("mac", "u1", (6,)),  # zeros where the link type has none; of ourselves on the WAN side
        ("address", "u1", (16,)),  # IPv4 in the first four bytes; zeros past it
    ]
)
"""Who sent a frame; 28 bytes, mirrored by `Sender` in ext/packet.pxd."""


class Side(IntEnum):
    """Where a sender is, and so what names it."""

    LAN = 0
    """On the protected side: its MAC and ingress interface name it, its address where the link has
    no MACs."""
    WAN = 1
    """Beyond our own forwarding, or behind a router on the protected side: its IPv4 address or
    IPv6 /64 names it."""
    FLOOD = 2
    """Nobody: the unproven senders of a flood. `address` is the victim's, `ifindex` its port."""


class Standing(IntFlag):
    """What the screen knows about a frame's sender; bits of FRAME.standing."""

    ANSWER = 1
    """The frame belongs to an exchange that the other side opened."""
    PROVEN = 2
    """The frame's own exchange went both ways (TCP, our ISN returned): the sender's address is not
    forged in it."""
    CALLED = 4
    """A protected device has opened an exchange with the sender, and got an answer."""
    SUSPECT = 8
    """A trigger has named the sender in the present window."""
    FLOOD = 0xF0
    """Number of the flood that the frame is part of, 1 .. 15, shifted left by 4; 0 none."""


class Direction(IntEnum):
    """Direction of a frame at the capture point; the values of Linux' PACKET_* (packet(7))."""

    HOST = 0
    BROADCAST = 1
    MULTICAST = 2
    OTHERHOST = 3
    OUTGOING = 4
    UNKNOWN = 255
    """A capture file does not say."""


class Outcome(IntEnum):
    """What became of a delivered frame: exactly one of these, so that the sums add up."""

    JUDGED = 0
    UNPARSABLE = 1
    """Neither IPv4, IPv6 nor ARP, or cut before that could be told."""
    OWN = 2
    """Sent by the gateway itself; never a sender to act upon."""
    ECHO = 3
    """A bridged frame leaving one captured port that was already seen arriving at another."""
    UNANSWERED = 4
    """The node did not answer before the deadline."""
    SHED = 5
    """Given up under load, in the order that `on_overload` states."""
    WAITING = 6
    """Its cell is with the classifier; never the last word."""
    SCREENED = 7
    """The window was closed: prescreened only."""
    CONTAINED = 8
    """Its sender is already contained."""


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames as a source hands them over, valid only until the source is asked for the next."""

    data: U8
    """The buffer that all frames lie in (a file's chunk, a block of the ring)."""
    frames: Records
    """FRAME records in order of arrival."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A model's cut points: all that a gateway needs to turn packets into cells.

    Code of a value v of feature f = number of cuts of f that are <= v.
    """

    model_id: bytes
    """16 bytes; equal for two bundles only if they judge alike."""
    threshold: float
    """A packet's verdict is 1 if its probability is greater than this."""
    features: tuple[int, ...]
    """Indices into schema.COLUMNS, strictly increasing."""
    cuts: tuple[U16, ...]
    """Per feature: strictly increasing, each in 1 .. domain - 1."""
    schema_hash: bytes = SCHEMA_HASH


@dataclass(frozen=True, slots=True)
class CellRequest:
    """New cells, asked of a classifier in one go."""

    seq: int
    """Strictly increasing within one pipeline."""
    model_id: bytes
    """Model whose codes the cells are made of."""
    cells: U8
    """(n, key_bytes): the cells. See ext/cells.pyx for the layout."""
    rows: U16
    """(n, N_COLUMNS): the packet record that made each cell, for transports without cells."""


class AnswerStatus(IntEnum):
    ANSWERED = 0
    UNANSWERED = 1
    """Deadline passed or no node: `on_classifier_down` decides about the packets."""
    STALE = 2
    """Nobody can answer for that model any more: encode the packets again with the new one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer per request, whatever happens."""

    seq: int
    model_id: bytes
    """Of the model that judged; equal to the request's unless the status is STALE."""
    status: AnswerStatus
    probabilities: F64 | None
    """(n,) exact probability of "malicious" per cell; None unless ANSWERED."""


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """Frames with their outcome, in the order of arrival; every outcome final."""

    frames: Records
    """FRAME records; their bytes are gone."""
    senders: Records
    """SENDER records."""
    outcomes: U8
    """(n,) of Outcome."""
    probabilities: F64
    """(n,); NaN where the outcome is not JUDGED."""
    verdicts: U8
    """(n,) 1 malicious, 0 not; 0 where the outcome is not JUDGED."""
    models: U8
    """(n,) index into `model_ids`; meaningful where the outcome is JUDGED."""
    cells: U64
    """(n,) keyed hash of the packet's cell: equal for packets of one cell and model."""
    model_ids: tuple[bytes, ...]
    """Models of this run; one, unless a model was changed under way. An index means the same only
    within a batch: after 256 models it is given anew."""

    @property
    def piece(self) -> object | None:
        """The same in one piece of memory (ext/judged.pxd), where it came so."""
        return None


@runtime_checkable
class Source(Protocol):
    """Frames in. Implementations: capture file, AF_PACKET ring; later NFQUEUE."""

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield batches until the source ends; None means "nothing now", so that the caller can
        look after answers. Never raises for what is inside a frame; never retries a lost device
        without counting it. A batch is valid until the next one is asked for."""

    def counters(self) -> dict[str, int]:
        """Losses and totals by name, e.g. `delivered`, `kernel_drops`."""

    def close(self) -> None:
        """Release everything; safe to call twice and from a signal handler's thread."""


@runtime_checkable
class Classifier(Protocol):
    """Cells in, probabilities out. Implementations: local forest, remote node, JSON transport.

    The contract, tested for each: every submitted request gets exactly one answer; an answer
    never carries a probability of another model than its `model_id`; `submit` never blocks.
    """

    @property
    def grid(self) -> Grid:
        """Cut points of the model that new requests should use; may change between two calls."""

    def submit(self, request: CellRequest) -> bool:
        """Take a request, or return False: the queue is full, the caller keeps it."""

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        """Return what has been answered, waiting at most `timeout_s` for the first."""

    def counters(self) -> dict[str, int]:
        """Totals by name, e.g. `requests`, `bytes_sent`, `reconnects`."""

    def close(self) -> None:
        """Stop; outstanding requests are answered UNANSWERED first. Safe to call twice."""


class VerdictSink(Protocol):
    """Verdicts out: printing, per-sender totals; later evidence per sender."""

    def take(self, batch: JudgedBatch) -> None:
        """Use a batch; called in order of arrival, from one thread."""


class Gate(Protocol):
    """Decides which frames are judged: the screen and the scrutiny window, before the cells."""

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """Return (n,) of Outcome: WAITING for a frame to be judged, else its last word. Sets
        FRAME.standing of the batch's frames. `host` is a HostIdentity's bytes."""


class Response(IntEnum):
    """What may be done about a sender, from nothing to cutting it off."""

    OBSERVE = 0
    DEPRIORITISE = 1
    RATE_LIMIT = 2
    QUARANTINE = 3


class Kind(StrEnum):
    """What names a subject, and so which of the kernel's sets holds it."""

    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    FLOOD = "flood"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom a decision is about; outlives interface indices and reboots."""

    kind: Kind
    value: bytes
    """6 bytes; 4; 8 (the /64); a flood's victim: 4 or 16."""
    interface: str = ""
    """Where a LAN sender is; empty for one beyond us and for a flood."""
    port: int = 0
    """TCP port of a flood's victim."""
    proven: bool = True
    """False: it may be forged, or our devices call it: established flows are left alone."""


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """Something looks wrong: opens or extends the scrutiny window."""

    rule: str
    """dos, port_scan, mirai, arp_spoof, ..., overflow, manual, sample."""
    key: str
    """What the rule counts by, readable; one event per (rule, key) and hold-down."""
    timestamp_ns: int
    frame: int
    """Index in its batch of the frame that crossed the threshold; 0 where none did."""
    sender: bytes | None
    """The canonical SENDER record's bytes of who did it; side FLOOD where nobody can be named."""
    detail: str
    """The counts, for people: "512 SYNs to 192.0.2.9:80 in 1.3 s, 0 handshakes"."""
    decisive: bool = False
    """True where the rule alone may decide (a configured binding contradicted)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence about one sender has crossed a bound."""

    sender: bytes
    """The canonical SENDER record's bytes."""
    timestamp_ns: int
    malicious: bool
    """False: cleared."""
    score: float
    """Sum of log-odds, natural logarithm, triggers' priors included."""
    bound: float
    rules: tuple[str, ...]
    """Triggers that named it in the present window."""
    packets: int
    """Judged packets behind the score."""
    cells: tuple[tuple[int, float, int], ...]
    """The cells that weigh most: (hash, log-odds of one packet, packets)."""
    standing: int
    """Standing of its latest packets."""
    address: bytes
    """Latest IPv4 or IPv6 source address (4 or 16 bytes), empty where none."""
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """About a sender, with a duration; a verdict is about one packet and is never one."""

    number: int
    """Strictly increasing, also across restarts."""
    subject: Subject
    response: Response
    duration_s: float
    reason: str
    timestamp_ns: int = 0
    address: bytes = b""
    """Address last seen from a MAC, for people."""
    score: float = 0.0


class Trigger(Protocol):
    """Decides when to look closer. Implementations: manual, sample, Zeek; the embedded rules are
    counted by the screen itself, which sees every frame anyway."""

    def poll(self, now_ns: int) -> Sequence[TriggerEvent]:
        """Return what fired since the last call; never blocks."""


class Policy(Protocol):
    """Evidence per sender in, findings out. Implementations: sequential, per_packet."""

    def notice(self, event: TriggerEvent) -> Sequence[Finding]:
        """Let a trigger weigh on the sender it names."""

    def weigh(self, batch: JudgedBatch) -> Sequence[Finding]:
        """Add a batch's evidence. The order of packets in it must not matter."""

    def forget(self, sender: bytes) -> None:
        """Begin anew with a sender: it was released, or a decision about it has ended."""


class Enforcer(Protocol):
    """Decisions into the kernel. Implementations: nftables, OpenFlow, dry-run; later tc.

    The contract, tested for each: `apply` of a subject that stands already replaces its response
    and duration; one bad element costs that element only; every element ends by itself.
    """

    def apply(self, decisions: Sequence[Decision]) -> Sequence["Applied"]:
        """Make them hold; one answer per decision, in order. Protected ones are refused."""

    def tidy(self) -> None:
        """Do what `apply` has left to be done and nobody waits for."""

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let go of them; those that do not stand are passed over."""

    def reconcile(self) -> "Reconciled":
        """Compare what is intended with what the kernel has, and repair it."""

    def clear(self) -> None:
        """Remove everything of ours and nothing else; safe to call at any time."""

    def counters(self) -> dict[str, int]:
        """Totals by name: packets and bytes dropped per set, elements, evictions, ..."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a decision in the kernel."""

    decision: Decision
    done: bool
    note: str = ""
    """Why not, or what was done instead ("set full: evicted 192.0.2.9")."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How kernel and intention compared, before the repair."""

    intended: int
    found: int
    """Of the intended, how many the kernel had."""
    foreign: int
    """Elements in our sets that nobody intended; removed."""
    repaired: int
    rebuilt: bool
    """The table or a hook was gone and was made anew."""
