"""Screen, window, evidence, ledger and enforcement wired into one object, live or replayed.

    frames --> admit: screen marks, rules fire --> window open? --> the pipeline judges
                          |                                              |
                          v                                              v
                    policy.notice                                  policy.weigh
                          \\--> findings --> ledger.decide --> kernel.apply --> settle
                                                                  |
                                  screen.contain <-- what really stands

One thread calls everything here: the pipeline's. The kernel may answer at once (replay) or later,
from a thread of its own (live); `settle` takes what it has answered.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from ids_appliance.config import Config
from ids_appliance.pipeline import Pipeline
from ids_appliance.policy.subjects import identity
from ids_appliance.trigger.gate import Screen, ScrutinyGate
from ids_appliance.trigger.overload import MAX_CLEARED, Overload
from ids_appliance.trigger.window import Change, Window
from ids_appliance.types import (
    SENDER,
    U8,
    Applied,
    Decision,
    Finding,
    FrameBatch,
    JudgedBatch,
    Kind,
    Policy,
    Records,
    Response,
    Side,
    Standing,
    Subject,
    Trigger,
    TriggerEvent,
)

TICK_NS: Final = 10**9
MAX_PROVEN: Final = 4096
"""Proven senders kept until they are asked for."""
FLOOD_SLOTS: Final = 16


class Evidence(Policy, Protocol):
    """A policy that can be asked."""

    def set_floods(self, records: Records) -> None:
        """Say which FLOOD record each slot in FRAME.standing stands for: (16,) SENDER."""

    def new_window(self) -> None:
        """Forget which triggers named whom."""

    def why(self, sender: bytes) -> dict[str, Any]:
        """Return what speaks for and against a sender."""

    def counters(self) -> dict[str, int]:
        """Totals by name."""


class Book(Protocol):
    """Findings in, decisions out, kept and ended: policy.ledger.Ledger."""

    def decide(
        self, findings: Sequence[Finding], events: Sequence[TriggerEvent]
    ) -> Sequence[Decision]:
        """Return what is decided about whom now."""

    known_devices: int
    """How many devices the protected side has."""

    def expire(self, now_ns: int) -> Sequence[Decision]:
        """Return what has changed by itself: stepped down, or ended (OBSERVE for 0 s)."""

    def not_held(self, now_ns: int) -> Sequence[Decision]:
        """Return what the kernel has refused, now and then, to be ordered again."""

    def settle(self, answers: Sequence[Applied]) -> Sequence[Applied]:
        """Remember what the kernel said; return the answers about what is to hold still."""

    def counters(self) -> dict[str, int]:
        """Totals by name."""


class Kernel(Protocol):
    """Orders to an enforcer; gateway.enforcement.Enforcement, or Direct."""

    def apply(self, decisions: Sequence[Decision]) -> None:
        """Let decisions hold."""

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let subjects go."""

    def answers(self) -> Sequence[Any]:
        """Return what has become of the orders since the last call: Applied and others."""

    def counters(self) -> dict[str, int]:
        """Totals by name."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A decision does not hold any more."""

    decision: Decision


Told = TriggerEvent | Change | Finding | Decision | Applied | Ended


@dataclass(frozen=True, slots=True)
class Parts:
    """The stages that an appliance is made of."""

    screen: Screen
    policy: Evidence
    ledger: Book
    kernel: Kernel
    ifindex: Callable[[str], int]
    """Kernel's index of an interface's name; 0 where there is none."""
    triggers: tuple[Trigger, ...] = ()


class Appliance:
    """A `types.Gate` and a `types.VerdictSink`.

    clock: monotonic nanoseconds; None: packet time. tell: hears of everything that happens, in
    order; answers of the kernel that are none of an order about a decision (Reconciled, texts) go
    to `on_answer`. before_deciding: called, at most every half second, before somebody may be
    decided about, so that who is protected or allowed is known by its latest address.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        *,
        clock: Callable[[], int] | None = None,
        tell: Callable[[Told], None] = lambda what: None,
        on_answer: Callable[[Any], None] = lambda answer: None,
        before_deciding: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.parts = parts
        self.window = Window(
            config.window, always=config.trigger.kind == "always", asked=self._cells_asked
        )
        self.gate = ScrutinyGate(
            parts.screen,
            self.window,
            triggers=parts.triggers,
            clock=clock,
            on_events=self._on_events,
        )
        self.gate.on_window = self._on_window
        self.pipeline: Pipeline | None = None
        """Set by who builds it; asked for its counters."""
        self._tell = tell
        self._on_answer = on_answer
        self._before_deciding = before_deciding
        self._asked_ns = -(2**62)
        self._packet_time = clock is None
        self._extends_by_verdict = config.policy.kind == "per_packet"
        self._standing: dict[Subject, bytes] = {}
        self._cleared: set[bytes] = set()
        self._proven: set[bytes] = set()
        self._slots: list[tuple[int, bytes]] = []
        self._due_ns: int | None = None
        self._again: set[int] = set()

    # Gate and sink -----------------------------------------------------------------------------

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """Decide which frames are judged; Gate."""
        if self._packet_time and len(batch.frames):
            self.tick(int(batch.frames["timestamp_ns"][0]))
        return self.gate.admit(batch, host)

    def take(self, batch: JudgedBatch) -> None:
        """Let verdicts become evidence, findings and decisions; VerdictSink."""
        self.window.judged(batch.outcomes, batch.verdicts)
        if any(subject.kind is Kind.FLOOD for subject in self._standing):
            self._see_proven(batch)
        if self._extends_by_verdict and batch.verdicts.any():
            self.gate.verdict()
        self._know_floods()
        self._decide(self.parts.policy.weigh(batch), ())

    # Time and the kernel's answers -------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Let time pass: once a second, and before the batch that comes after a silence."""
        if self._due_ns is not None and now_ns < self._due_ns:
            return
        self._due_ns = now_ns + TICK_NS
        self.gate.expire(now_ns)
        self._end(self.parts.ledger.expire(self.gate.now_ns))
        self.settle()
        if again := self.parts.ledger.not_held(self.gate.now_ns):
            self._again = {one.number for one in again}
            self.parts.kernel.apply(again)

    def settle(self) -> None:
        """Take what the kernel has answered: who really stands there is contained."""
        before = dict(self._standing)
        applied = []
        for answer in self.parts.kernel.answers():
            if isinstance(answer, Applied):
                applied.append(answer)
                if answer.done or answer.decision.number not in self._again:
                    self._tell(answer)  # a refusal is told once
            else:
                self._on_answer(answer)
        # Who was let go while the kernel was at it (release, panic) is not contained by its answer.
        for answer in self.parts.ledger.settle(applied) if applied else ():
            self._applied(answer)
        if self._standing != before:
            self._contain()

    def proven(self) -> list[bytes]:
        """Return addresses (4 or 16 bytes) of senders beyond us that have proven themselves while
        a flood stood, once each: they need not suffer from its limit."""
        found, self._proven = list(self._proven), set()
        return found

    def released(self, subjects: Iterable[Subject]) -> None:
        """Begin anew with subjects that were let go by hand; the kernel has its order already."""
        gone = list(subjects)
        for subject in gone:
            self.parts.policy.forget(self.sender_of(subject))
        self._let_go(gone)

    def lifted(self, subjects: Iterable[Subject]) -> None:
        """Judge subjects again whose decisions stand, but not in the kernel (a pause)."""
        self._let_go(subjects)

    def renumbered(self) -> None:
        """Look up interfaces again: one that was made anew has another index."""
        self._standing = {subject: self.sender_of(subject) for subject in self._standing}
        self._contain()

    def finish(self, why: str = "end") -> None:
        """Close the window: no more frames will come."""
        self.gate.close(why)

    # What is known -----------------------------------------------------------------------------

    @property
    def contained(self) -> Mapping[Subject, bytes]:
        """Subjects whose frames reach nobody, with their canonical senders."""
        return self._standing

    def counters(self) -> dict[str, int]:
        """Totals of all stages by name."""
        parts = self.parts
        stages = parts.policy.counters() | parts.ledger.counters() | parts.kernel.counters()
        return self.gate.counters() | stages | {"contained_senders": len(self._standing)}

    def sender_of(self, subject: Subject) -> bytes:
        """Return a subject's canonical SENDER record."""
        record = np.zeros(1, SENDER)
        if subject.kind is Kind.MAC:
            record["ifindex"] = self.parts.ifindex(subject.interface)
            record["mac"] = np.frombuffer(subject.value, np.uint8)
            return record.tobytes()
        record["family"] = 4 if len(subject.value) == 4 else 6
        record["address"][0, : len(subject.value)] = np.frombuffer(subject.value, np.uint8)
        if subject.kind is Kind.FLOOD:
            record["side"], record["ifindex"] = Side.FLOOD, subject.port
        elif subject.interface:  # a link without MACs
            record["ifindex"] = self.parts.ifindex(subject.interface)
        else:
            record["side"] = Side.WAN
        return record.tobytes()

    # -------------------------------------------------------------------------------------------

    def _on_events(self, events: Sequence[TriggerEvent]) -> None:
        findings: list[Finding] = []
        fresh = []
        for event in events:
            self._tell(event)
            if event.sender is not None and event.sender in self.window.contained:
                continue
            fresh.append(event)
            if event.sender is not None:
                self._cleared.discard(event.sender)
                findings += self.parts.policy.notice(event)
        if fresh:
            self._decide(findings, fresh)

    def _decide(self, findings: Sequence[Finding], events: Sequence[TriggerEvent]) -> None:
        if not findings and not events:
            return
        for finding in findings:
            self._tell(finding)
            if finding.malicious:
                self._cleared.discard(finding.sender)
            elif len(self._cleared) < MAX_CLEARED:  # a window that never ends clears without end
                self._cleared.add(finding.sender)
        if self.gate.overload is not None and findings:
            self.gate.overload.set_cleared(self._cleared)
        ledger = self.parts.ledger
        ledger.known_devices = self.parts.screen.counters().get("devices", 0)
        accused = any(f.malicious for f in findings) or any(e.decisive for e in events)
        if accused and self.gate.now_ns >= self._asked_ns + TICK_NS // 2:
            self._asked_ns = self.gate.now_ns
            self._before_deciding()
        decisions = ledger.decide(findings, events)
        for decision in decisions:
            self._tell(decision)
            self.gate.decision(decision.reason)
        # What is only observed is nothing to the kernel.
        enforced = [d for d in decisions if d.response is not Response.OBSERVE]
        if enforced:
            self.parts.kernel.apply(enforced)
            self.settle()

    def _end(self, changed: Sequence[Decision]) -> None:
        """Let go of what is over; what has stepped down, or is enforced again, holds anew."""
        over = [d for d in changed if d.response is Response.OBSERVE and d.duration_s == 0]
        again = [d for d in changed if d.response is not Response.OBSERVE]
        for decision in changed:
            self._tell(Ended(decision) if decision in over else decision)
        if over:
            self.parts.kernel.release([d.subject for d in over])
        if again:
            self.parts.kernel.apply(again)
        if changed:
            # Evidence from before has led to what is over now; what comes next has to be new.
            for decision in changed:
                self.parts.policy.forget(self.sender_of(decision.subject))
            self._let_go(d.subject for d in over)

    def _see_proven(self, batch: JudgedBatch) -> None:
        proven = (batch.frames["standing"] & int(Standing.PROVEN)) != 0
        proven &= batch.senders["side"] == Side.WAN
        for record in np.unique(batch.senders[proven][["family", "address"]]):
            if len(self._proven) < MAX_PROVEN:
                address: bytes = record["address"].tobytes()
                self._proven.add(address[:4] if record["family"] == 4 else address)

    def _let_go(self, subjects: Iterable[Subject]) -> None:
        for subject in subjects:
            self._standing.pop(identity(subject), None)
        self._contain()

    def _applied(self, answer: Applied) -> None:
        decision = answer.decision
        subject = decision.subject
        cut_off = subject.kind is Kind.FLOOD or (
            decision.response is Response.QUARANTINE and subject.proven
        )
        if answer.done and cut_off:
            self._standing[identity(subject)] = self.sender_of(subject)
        else:
            self._standing.pop(identity(subject), None)

    def _know_floods(self) -> None:
        slots = self.parts.screen.floods()
        if slots == self._slots:
            return
        self._slots = list(slots)
        records = np.zeros(FLOOD_SLOTS, SENDER)
        for slot, record in slots:
            records[slot] = np.frombuffer(record, SENDER)[0]
        self.parts.policy.set_floods(records)

    def _contain(self) -> None:
        senders = frozenset(self._standing.values())
        self.window.contained = senders
        self.parts.screen.contain(np.frombuffer(b"".join(sorted(senders)), SENDER))

    def _on_window(self, change: Change) -> None:
        if change.opened and not change.goes_on:
            # Not when it closes: some of its packets may still be judged.
            self.parts.policy.new_window()
            self._cleared.clear()
            if self.gate.overload is not None:
                self.gate.overload.set_cleared(())
        self._tell(change)

    def _cells_asked(self) -> int:
        return self.pipeline.counters()["cell_asks"] if self.pipeline is not None else 0


def give_up_under_pressure(appliance: Appliance, pressure: Callable[[], float]) -> Overload:
    """Let an appliance's gate shed frames by `on_overload`; live only."""
    overload = Overload(appliance.config.failure.on_overload, pressure)
    appliance.gate.overload = overload
    return overload
