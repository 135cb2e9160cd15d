"""Outcomes and verdicts in, a word for the kernel about each held packet out: go on, or drop.

    admit: not to be judged (screened, shed, ...) ---> its word at once
    take:  judged, after evidence and decisions -----> its word
    tick:  held past the deadline -------------------> on_classifier_down

Nothing is dropped while decisions are not enforced (observe, pause, breaker), and nothing ever of
senders that are protected or allowed: what would have been is counted and told.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ids_appliance._evidence import canonical_senders
from ids_appliance._nfqueue import summary
from ids_appliance.capture.inline import QUEUED, InlineSource
from ids_appliance.config import Config
from ids_appliance.enforce.marks import TrafficClass, marked
from ids_appliance.gateway.appliance import Appliance
from ids_appliance.gateway.inline_drops import (
    Around,
    Doomed,
    Drops,
    Mask,
    of_frames,
    of_held,
    spared_by,
)
from ids_appliance.gateway.inline_flows import CleanFlows
from ids_appliance.gateway.inline_log import DropLog
from ids_appliance.gateway.inline_model import PacketModel
from ids_appliance.telemetry.delays import Delays
from ids_appliance.types import (
    SENDER,
    U8,
    U64,
    Decision,
    FrameBatch,
    JudgedBatch,
    Outcome,
    Records,
    Response,
    Standing,
    TriggerEvent,
)

__all__ = ["Around", "InlineVerdicts", "spared_by"]

MAX_NAMED: Final = 4_096
"""Senders with a decision that are remembered here."""
# Plain integers: an operation with an enumeration costs more than the rest of an ordinary batch.
_ANSWER: Final = int(Standing.ANSWER)
_PROVEN: Final = int(Standing.PROVEN)
_SUSPECT: Final = int(Standing.SUSPECT)
_FLOOD: Final = int(Standing.FLOOD)
_WORST: Final = _SUSPECT | _FLOOD
_WAITING: Final = int(Outcome.WAITING)
_JUDGED: Final = int(Outcome.JUDGED)


_REASONS: Final = (
    "no verdict (on_classifier_down or on_queue_full: closed)",
    "judged malicious",
    "judged malicious, and its sender is decided about",
    "judged malicious, and part of a flood",
    "judged malicious, and a trigger has named its sender",
)


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
        self._drops = Drops(source, around, log=log, model=model)
        self._stamps: list[int] = []
        self._counts = dict.fromkeys(("would_drop", "spared", "late", "late_dropped", "marked"), 0)

    # Gate and sink -----------------------------------------------------------------------------

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """As the appliance; packets that will not be judged have their word now."""
        outcomes = self._appliance.admit(batch, host)
        frames = batch.frames
        others, _, standing, first = summary(frames, outcomes)
        if first <= QUEUED or (not others and not standing & _WORST):
            return outcomes
        waiting = outcomes == _WAITING
        named = (frames["standing"] & _WORST) != 0
        named &= (frames["standing"] & _ANSWER) == 0
        if not waiting.all():
            self._unjudged(batch, outcomes, named)
        if named.any():
            self._suspects.update(frames["number"][waiting & named].tolist())
        return outcomes

    def take(self, batch: JudgedBatch) -> None:
        """As the appliance, which may decide by this batch; each packet has its word before that
        where nothing in the batch is wrong: no decision would change it."""
        standing = self._passed(batch)
        self._appliance.take(batch)
        if standing is not None:
            if self.flows is not None and (standing & _PROVEN or self.flows.following):
                self._follow(batch, np.zeros(len(batch.frames), np.bool_))
            return
        frames = batch.frames
        others, malicious, standing, first = summary(frames, batch.outcomes, batch.verdicts)
        if first <= QUEUED:
            return
        followed = self.flows is not None and (self.flows.following or bool(standing & _PROVEN))
        if not others and not malicious and not followed and not standing & _SUSPECT:
            self._say(frames["number"])
            self._flush()
            return
        drop = self._to_drop(batch)
        if drop.any():
            self._let_go(frames[~drop])
            self._drop(self._doomed(batch, np.flatnonzero(drop)))
        else:
            self._let_go(frames)
        self._flush()

    def _passed(self, batch: JudgedBatch) -> int | None:
        """Let a batch go on at once, if that may be; return what any has in its standing."""
        piece = batch.piece
        found = self._source.pass_clean(piece, named=_SUSPECT) if piece is not None else None
        if found is None:
            return None
        stamps, standing = found
        self.delays.add(stamps, now_ns=self._around.wall_ns())
        if self._suspects:
            self._suspects.difference_update(batch.frames["number"].tolist())
        return standing

    def tick(self) -> None:
        """Decide about what is past its deadline; between batches."""
        late = self._source.overdue(self._around.wall_ns() - self._deadline_ns)
        for number in late:
            self._late(number)
        if late:
            self._flush()

    def refresh(self) -> None:
        """Once a second: who may be dropped may have changed."""
        self._enforcing = self._around.enforcing()
        self._drops.forget()
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
        bad = (batch.outcomes == _JUDGED) & (batch.verdicts == 1)
        standing = batch.frames["standing"]
        drop: Mask
        if not bad.any():
            drop = bad
        elif self._settings.drop == "packet":
            drop = bad
        else:
            # Answers look like an attack to a forest on single packets, see docs/evidence.md.
            bad &= (standing & _ANSWER) == 0
            drop = bad & ((standing & _WORST) != 0) & (self._settings.drop == "suspect")
            rest = bad & ~drop
            if rest.any():
                drop[rest] = self._are_decided(batch.senders[rest])
        if self._failure.on_classifier_down == "closed":
            unanswered = batch.outcomes == Outcome.UNANSWERED
            drop |= unanswered & ((standing & _WORST) != 0)
        if self._failure.on_queue_full == "closed":
            drop |= (batch.outcomes == Outcome.SHED) & ((standing & _WORST) != 0)
        if self.flows is not None and (self.flows.following or ((standing & _PROVEN) != 0).any()):
            self._follow(batch, drop)
        return drop

    def _are_decided(self, senders: Records) -> Mask:
        contained = self._appliance.window.contained
        decided = self._decided if self._settings.drop == "suspect" else {}
        found = np.zeros(len(senders), np.bool_)
        if contained or decided:
            raw, size = canonical_senders(senders).tobytes(), SENDER.itemsize
            for i in range(len(senders)):
                key = raw[i * size : (i + 1) * size]
                found[i] = key in contained or key in decided
        return found

    def _follow(self, batch: JudgedBatch, drop: Mask) -> None:
        assert self.flows is not None
        standing = batch.frames["standing"]
        bad = (batch.verdicts != 0) | drop | ((standing & _WORST) != 0)
        # Whose handshake is complete shows at the packets from beyond; the others of a connection
        # count once it is followed.
        judged = np.flatnonzero(batch.outcomes == _JUDGED)
        proven = ((standing & _PROVEN) != 0).tolist()
        numbers = batch.frames["number"]
        keys = self._source.connections(numbers[judged])
        for i, key in zip(judged.tolist(), keys, strict=True):
            if key and (proven[i] or self.flows.follows(key)):
                payload = self._source.payload(int(numbers[i]))
                if payload:
                    self.flows.saw(
                        payload,
                        batch.senders[i],
                        standing=int(standing[i]),
                        clean=not bad[i],
                    )

    def _unjudged(self, batch: FrameBatch, outcomes: U8, named: Mask) -> None:
        frames = batch.frames
        rest = outcomes != _WAITING
        doomed = (outcomes == Outcome.CONTAINED) & bool(self._appliance.window.contained)
        if self._failure.on_queue_full == "closed":
            doomed |= (outcomes == Outcome.SHED) & named
        for i in np.flatnonzero(doomed).tolist():
            number = int(frames["number"][i])
            one = self._source.held.get(number)
            if one is None:
                continue
            senders, octets = of_held([one])
            why = "given up unjudged (on_queue_full: closed)"
            if outcomes[i] == Outcome.CONTAINED:
                # What is contained as part of a flood, the kernel's own rules have let through.
                if canonical_senders(senders).tobytes() not in self._appliance.window.contained:
                    doomed[i] = False
                    continue
                why = "its sender is cut off"
            self._drop(Doomed([number], [why], [math.nan], senders, octets))
        self._let_go(frames[rest & ~doomed], mark=False)
        self._flush()

    def _doomed(self, batch: JudgedBatch, which: npt.NDArray[np.intp]) -> Doomed:
        frames = batch.frames[which]
        standing = frames["standing"]
        said = np.full(len(which), 2)
        if self._settings.drop == "packet":
            said[:] = 1
        else:
            said[(standing & _FLOOD) != 0] = 3
            said[(standing & _SUSPECT) != 0] = 4
        said[batch.outcomes[which] != _JUDGED] = 0
        return Doomed(
            frames["number"].tolist(),
            [_REASONS[i] for i in said.tolist()],
            batch.probabilities[which].tolist(),
            batch.senders[which],
            of_frames(frames),
        )

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
            why = f"no answer in time (on_classifier_down: {policy})"
            self._drop(Doomed([number], [why], [math.nan], *of_held([one])))
        else:
            self._say([number])

    def _drop(self, doomed: Doomed) -> None:
        """Drop held packets where that may be; tell it."""
        spared = self._drops.spared(doomed.senders)
        if spared.any():
            self._counts["spared"] += int(spared.sum())
            numbers = np.array(doomed.numbers, np.uint64)
            self._say(numbers[spared])
            doomed = doomed.of(np.flatnonzero(~spared))
        if not self._enforcing:
            self._counts["would_drop"] += len(doomed.numbers)
        self._drops.tell(doomed, acted=self._enforcing)
        self._say(np.array(doomed.numbers, np.uint64), drop=self._enforcing)

    def _let_go(self, frames: Records, *, mark: bool = True) -> None:
        """Accept; whoever a trigger has named waits behind the others from here on."""
        numbers = frames["number"]
        if mark and self._enforcing:
            named = (frames["standing"] & _SUSPECT) != 0
            if named.any():
                self._mark(numbers[named].tolist())
        self._say(numbers)

    def _mark(self, numbers: Sequence[int]) -> None:
        by_mark: dict[int, list[int]] = {}
        for number in numbers:
            one = self._source.held.get(number)
            if one is not None:
                wanted = marked(one.packet.mark, TrafficClass.SUSPECT)
                by_mark.setdefault(wanted, []).append(number)
        for mark, those in by_mark.items():
            self._counts["marked"] += len(those)
            self._say(those, mark=mark)

    def _word(self, numbers: Iterable[int]) -> None:
        """Let held packets go on, now."""
        self._say(numbers)
        self._flush()

    def _say(
        self, numbers: Iterable[int] | U64, *, drop: bool = False, mark: int | None = None
    ) -> None:
        self._stamps += self._source.say(numbers, drop=drop, mark=mark)
        if self._suspects:
            self._suspects.difference_update(
                numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
            )

    def _flush(self) -> None:
        """Let the kernel know; what it has let go by then counts as delay."""
        self._source.flush()
        if self._stamps:
            self.delays.add(self._stamps, now_ns=self._around.wall_ns())
            self._stamps.clear()
