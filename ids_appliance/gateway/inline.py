"""Outcomes and verdicts in, a word for the kernel about each held packet out: go on, or drop.

    admit: not to be judged (screened, shed, ...) ---> its word at once
    take:  judged, after evidence and decisions -----> its word
    tick:  held past the deadline -------------------> on_classifier_down

Nothing is dropped while decisions are not enforced (observe, pause, breaker), and nothing ever of
senders that are protected or allowed: what would have been is counted and told.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance._evidence import canonical_senders
from ids_appliance.capture.inline import QUEUED, Held, InlineSource
from ids_appliance.config import Config
from ids_appliance.enforce.marks import TrafficClass, marked
from ids_appliance.gateway.appliance import Appliance
from ids_appliance.gateway.inline_flows import CleanFlows
from ids_appliance.gateway.inline_log import DropLog, Dropped
from ids_appliance.gateway.inline_model import PacketModel
from ids_appliance.policy.subjects import subject_of
from ids_appliance.telemetry.delays import Delays
from ids_appliance.types import (
    SENDER,
    U8,
    Decision,
    FrameBatch,
    JudgedBatch,
    Outcome,
    Records,
    Response,
    Side,
    Standing,
    TriggerEvent,
)

Mask = npt.NDArray[np.bool_]

MAX_NAMED: Final = 4_096
"""Senders with a decision that are remembered here."""
_WORST: Final = int(Standing.SUSPECT | Standing.FLOOD)


@dataclass(frozen=True, slots=True)
class Around:
    """What the verdict step asks of the rest of the gateway."""

    enforcing: Callable[[], bool]
    """Whether anything may be dropped now."""
    spared: Callable[[bytes, bytes], bool]
    """Whether a canonical sender with an address is protected or allowed."""
    name: Callable[[int], str]
    """Interface index to name."""
    clock_ns: Callable[[], int]
    """Monotonic."""
    wall_ns: Callable[[], int]
    """As the kernel's timestamps."""


class InlineVerdicts:
    """A `types.Gate` and a `types.VerdictSink` in front of the appliance; from one thread.

    model: judges here where the node does not in time, and says how members voted; None: nobody.
    doubted: told the flows that may not pass beside the queue any more.
    """

    def __init__(
        self,
        config: Config,
        appliance: Appliance,
        source: InlineSource,
        *,
        around: Around,
        log: DropLog,
        model: PacketModel | None,
    ) -> None:
        self._settings = config.inline
        self._failure = config.failure
        self._appliance = appliance
        self._source = source
        self._around = around
        self._log = log
        self._model = model
        self._deadline_ns = int(config.inline.deadline_ms * 1e6)
        self.flows = CleanFlows(config.inline) if config.inline.bypass else None
        self.doubted: set[bytes] = set()
        """Senders whose flows have to come back into the queue; whoever serves them clears it."""
        self.delays = Delays()
        self._enforcing = around.enforcing()
        self._suspects: set[int] = set()
        self._decided: dict[bytes, None] = {}
        self._spared: dict[tuple[int, bytes | None, bytes], bool] = {}
        self._counts = dict.fromkeys(("would_drop", "spared", "late", "late_dropped", "marked"), 0)

    # Gate and sink -----------------------------------------------------------------------------

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """As the appliance; packets that will not be judged have their word now."""
        outcomes = self._appliance.admit(batch, host)
        frames = batch.frames
        if not len(frames) or frames["number"][0] <= QUEUED:
            return outcomes
        waiting = outcomes == Outcome.WAITING
        named = (frames["standing"] & _WORST) != 0
        named &= (frames["standing"] & Standing.ANSWER) == 0
        if not waiting.all():
            self._unjudged(batch, outcomes, named)
        if named.any():
            self._suspects.update(frames["number"][waiting & named].tolist())
        return outcomes

    def take(self, batch: JudgedBatch) -> None:
        """As the appliance, which may decide by this batch; then each packet has its word."""
        self._appliance.take(batch)
        frames = batch.frames
        if not len(frames) or frames["number"][0] <= QUEUED:
            return
        drop = self._to_drop(batch)
        numbers, standing = frames["number"].tolist(), frames["standing"].tolist()
        if not drop.any():
            self._let_go(numbers, standing)
            return
        stay = np.flatnonzero(~drop).tolist()
        self._let_go([numbers[i] for i in stay], [standing[i] for i in stay])
        self._drop(
            (numbers[i], self._reason(batch, i), float(batch.probabilities[i]))
            for i in np.flatnonzero(drop).tolist()
        )

    def tick(self) -> None:
        """Decide about what is past its deadline; between batches."""
        held = self._source.held
        if not held:
            return
        latest = self._around.wall_ns() - self._deadline_ns
        late = []
        for number, one in held.items():  # the oldest first
            if one.timestamp_ns > latest:
                break
            late.append(number)
        for number in late:
            self._late(number)

    def refresh(self) -> None:
        """Once a second: who may be dropped may have changed."""
        self._enforcing = self._around.enforcing()
        self._spared.clear()
        self._log.tick()
        if len(self._suspects) > 4 * self._settings.length:
            self._suspects &= set(self._source.held)

    def saw(self, what: object) -> None:
        """Hear of triggers and decisions: whom they name is judged packet by packet again."""
        if isinstance(what, TriggerEvent) and what.sender is not None:
            self.doubted.add(what.sender)
        elif isinstance(what, Decision):
            sender = self._appliance.sender_of(what.subject)
            self.doubted.add(sender)
            self._decided.pop(sender, None)
            if what.response > Response.OBSERVE and what.duration_s > 0:
                while len(self._decided) >= MAX_NAMED:
                    del self._decided[next(iter(self._decided))]
                self._decided[sender] = None

    def released(self, decision: Decision) -> None:
        """Hear that a decision has ended."""
        self._decided.pop(self._appliance.sender_of(decision.subject), None)

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        flows = self.flows.counters() if self.flows is not None else {}
        return (
            {f"inline_{name}": n for name, n in self._counts.items()}
            | self.delays.counters("inline_delay")
            | self._log.counters()
            | flows
        )

    # -------------------------------------------------------------------------------------------

    def _to_drop(self, batch: JudgedBatch) -> Mask:
        """Return which packets of a judged batch go no further, were all enforced."""
        bad = (batch.outcomes == Outcome.JUDGED) & (batch.verdicts == 1)
        standing = batch.frames["standing"]
        drop: Mask
        if not bad.any():
            drop = bad
        elif self._settings.drop == "packet":
            drop = bad
        else:
            # Answers look like an attack to a forest on single packets, see docs/evidence.md.
            bad &= (standing & Standing.ANSWER) == 0
            drop = bad & ((standing & _WORST) != 0) & (self._settings.drop == "suspect")
            for i in np.flatnonzero(bad & ~drop).tolist():
                drop[i] = self._is_decided(batch.senders[i])
        if self._failure.on_classifier_down == "closed":
            unanswered = batch.outcomes == Outcome.UNANSWERED
            drop |= unanswered & ((standing & _WORST) != 0)
        if self._failure.on_queue_full == "closed":
            drop |= (batch.outcomes == Outcome.SHED) & ((standing & _WORST) != 0)
        if self.flows is not None:
            self._follow(batch, drop)
        return drop

    def _is_decided(self, sender: Any) -> bool:
        key = canonical_senders(np.atleast_1d(sender)).tobytes()
        return key in self._appliance.window.contained or (
            self._settings.drop == "suspect" and key in self._decided
        )

    def _follow(self, batch: JudgedBatch, drop: Mask) -> None:
        assert self.flows is not None
        standing = batch.frames["standing"]
        bad = (batch.verdicts != 0) | drop | ((standing & _WORST) != 0)
        # Whose handshake is complete shows at the packets from beyond; the others of a connection
        # count once it is followed.
        matters = batch.outcomes == Outcome.JUDGED
        if not self.flows.following:
            matters &= (standing & Standing.PROVEN) != 0
        held = self._source.held
        for i in np.flatnonzero(matters).tolist():
            one = held.get(int(batch.frames["number"][i]))
            if one is not None:
                self.flows.saw(
                    one.payload,
                    batch.senders[i],
                    standing=int(standing[i]),
                    clean=not bad[i],
                )

    def _unjudged(self, batch: FrameBatch, outcomes: U8, named: Any) -> None:
        frames = batch.frames
        go: list[int] = []
        doomed: list[tuple[int, str, float]] = []
        for i in np.flatnonzero(outcomes != Outcome.WAITING).tolist():
            number, outcome = int(frames["number"][i]), outcomes[i]
            one = self._source.held.get(number)
            if one is not None and outcome == Outcome.CONTAINED:
                sender = canonical_senders(self._sender_of(one)).tobytes()
                # What is contained as part of a flood, the kernel's own rules have let through.
                if sender in self._appliance.window.contained:
                    doomed.append((number, "its sender is cut off", math.nan))
                    continue
            elif outcome == Outcome.SHED and named[i] and self._failure.on_queue_full == "closed":
                doomed.append((number, "given up unjudged (on_queue_full: closed)", math.nan))
                continue
            go.append(number)
        self._let_go(go, [0] * len(go))
        if doomed:
            self._drop(doomed)

    def _sender_of(self, one: Held) -> Records:
        """Return the SENDER record of a packet that no judged batch shows."""
        record = np.zeros(1, SENDER)
        four = one.payload[0] >> 4 == 4
        address = one.payload[12:16] if four else one.payload[8:24]
        record["family"] = 4 if four else 6
        record["address"][0, : len(address)] = np.frombuffer(address, np.uint8)
        record["ifindex"] = one.port
        record["side"] = Side.LAN if one.incoming else Side.WAN
        if one.incoming:
            record["mac"] = np.frombuffer((one.packet.get_hw() or bytes(8))[:6], np.uint8)
        return record

    def _reason(self, batch: JudgedBatch, i: int) -> str:
        if batch.outcomes[i] != Outcome.JUDGED:
            return "no verdict (on_classifier_down or on_queue_full: closed)"
        if self._settings.drop == "packet":
            return "judged malicious"
        standing = int(batch.frames["standing"][i])
        if standing & Standing.SUSPECT:
            return "judged malicious, and a trigger has named its sender"
        if standing & Standing.FLOOD:
            return "judged malicious, and part of a flood"
        return "judged malicious, and its sender is decided about"

    def _late(self, number: int) -> None:
        self._counts["late"] += 1
        one = self._source.held[number]
        named = number in self._suspects
        policy = self._failure.on_classifier_down
        drop = named and policy == "closed"
        if policy == "local" and self._model is not None:
            wanted = self._settings.drop == "packet" or (named and self._settings.drop == "suspect")
            drop = wanted and self._model.malicious(one.payload)
        if drop:
            self._counts["late_dropped"] += 1
            self._drop([(number, f"no answer in time (on_classifier_down: {policy})", math.nan)])
        else:
            self._let_go([number], [0])

    def _drop(self, doomed: Iterable[tuple[int, str, float]]) -> None:
        """Drop held packets (number, reason, probability or NaN) where that may be; tell it."""
        gone, spared = [], []
        for number, reason, probability in doomed:
            one = self._source.held.get(number)
            if one is None:
                continue  # it has had its word
            if self._is_spared(one):
                spared.append(number)
                continue
            gone.append(number)
            self._tell(one, reason, probability)
        self._counts["spared"] += len(spared)
        if not self._enforcing:
            self._counts["would_drop"] += len(gone)
        if spared:
            self._word(spared)
        self._word(gone, drop=self._enforcing)

    def _tell(self, one: Held, reason: str, probability: float) -> None:
        mac, name, votes = b"", "", None
        if self._log.room():
            name = self._around.name(one.packet.indev)
            votes = self._model.votes(one.payload) if self._model is not None else None
            if one.incoming:
                mac = (one.packet.get_hw() or b"")[:6]
        said = None if math.isnan(probability) else probability
        self._log.put(Dropped(one.payload, reason, mac, name, said, votes), acted=self._enforcing)

    def _is_spared(self, one: Held) -> bool:
        four = one.payload[0] >> 4 == 4
        address = one.payload[12:16] if four else one.payload[8:24]
        key = (one.port, one.packet.get_hw() if one.incoming else b"", address)
        found = self._spared.get(key)
        if found is None:
            if len(self._spared) >= MAX_NAMED:
                self._spared.clear()
            sender = canonical_senders(self._sender_of(one)).tobytes()
            found = self._spared[key] = self._around.spared(sender, address)
        return found

    def _let_go(self, numbers: Sequence[int], standing: Sequence[int]) -> None:
        """Accept; whoever a trigger has named waits behind the others from here on."""
        named = [n for n, s in zip(numbers, standing, strict=True) if s & Standing.SUSPECT]
        if named and self._enforcing:
            for number in named:
                one = self._source.held.get(number)
                if one is not None:
                    self._counts["marked"] += 1
                    self._word([number], mark=marked(one.packet.mark, TrafficClass.SUSPECT))
        self._word(numbers)

    def _word(self, numbers: Iterable[int], *, drop: bool = False, mark: int | None = None) -> None:
        stamps = self._source.verdict(numbers, drop=drop, mark=mark)
        if self._suspects:
            self._suspects.difference_update(numbers)
        self.delays.add(stamps, now_ns=self._around.wall_ns())


def spared_by(
    refuses: Callable[[Any, bytes], str | None], name: Callable[[int], str]
) -> Callable[[bytes, bytes], bool]:
    """Return a test of canonical senders by the guard that decisions pass."""

    def spared(sender: bytes, address: bytes) -> bool:
        subject = subject_of(sender, name)
        return subject is not None and refuses(subject, address) is not None

    return spared
