"""A capture in, what the whole appliance would have done out: windows, decisions, who was found.

The stages are those of the live gateway; packet time is the clock, the pipeline finishes each batch
before the gate sees the next, and a dry-run enforcer stands for the kernel. What it is ordered
takes effect at once: whom it cuts off is contained from the next batch on, although the capture
goes on showing its packets.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance import assemble
from ids_appliance._evidence import canonical_senders
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.forwarders import forwarders
from ids_appliance.capture.slices import Slices
from ids_appliance.config import Config
from ids_appliance.gateway.appliance import Appliance, Ended, Parts, Told
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.schema import N_FEATURES
from ids_appliance.trigger.window import WindowRecord
from ids_appliance.types import (
    SENDER,
    U8,
    Applied,
    Classifier,
    Decision,
    Enforcer,
    FrameBatch,
    JudgedBatch,
    Outcome,
    Records,
    Response,
    Source,
    Standing,
    Subject,
    TriggerEvent,
)

INTERFACE: Final = "capture"
"""What a capture's only interface is called; its index is 0."""
MAX_SENDERS: Final = 1_000_000
S: Final = 10**9
PAUSE_NS: Final = 60 * 10**9
"""Who is silent for longer is not there meanwhile: device-days are of active time."""
LABELS: Final = 4
"""Benign, malicious, related (a victim's answer, diverted traffic), not known."""
BENIGN, MALICIOUS, RELATED, UNKNOWN = range(LABELS)

Label = Callable[[FrameBatch], U8]


class Direct:
    """A `Kernel` that carries out at once."""

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self._answers: list[Applied] = []

    def apply(self, decisions: Sequence[Decision]) -> None:
        """Let decisions hold now."""
        self._answers += self._enforcer.apply(decisions)

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let subjects go now."""
        self._enforcer.release(subjects)

    def answers(self) -> Sequence[Any]:
        """Return what became of what was ordered."""
        answers, self._answers = self._answers, []
        return answers

    def counters(self) -> dict[str, int]:
        """The enforcer's totals."""
        return self._enforcer.counters()


@dataclass(slots=True)
class Sent:
    """What one canonical sender did in the capture."""

    frames: list[int] = field(default_factory=lambda: [0] * LABELS)
    """By label."""
    flooding: set[bytes] = field(default_factory=set)
    """FLOOD records that its malicious frames were part of."""
    first_malicious_ns: int | None = None
    last_ns: int | None = None
    active_ns: int = 0
    """Time between its frames, pauses longer than PAUSE_NS left out."""

    @property
    def attacker(self) -> bool:
        """It sent part of an attack."""
        return self.frames[MALICIOUS] > 0

    @property
    def ordinary(self) -> bool:
        """It sent something, and nothing of an attack; victims and diverted ones included."""
        return not self.attacker and self.frames[BENIGN] + self.frames[RELATED] > 0


@dataclass(frozen=True, slots=True)
class Made:
    """A decision, about whom, and what became of it."""

    decision: Decision
    sender: bytes
    at_ns: int
    done: bool

    @property
    def acts(self) -> bool:
        """Something is done about the sender."""
        return self.done and self.decision.response is not Response.OBSERVE


@dataclass(slots=True)
class Replayed:
    """What a replay came to."""

    capture: str
    windows: list[WindowRecord] = field(default_factory=list)
    events: list[TriggerEvent] = field(default_factory=list)
    """The first MAX_EVENTS of them."""
    made: list[Made] = field(default_factory=list)
    ended: list[Decision] = field(default_factory=list)
    senders: dict[bytes, Sent] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    named: set[bytes] = field(default_factory=set)
    """Whom triggers have named."""
    first_ns: int | None = None
    last_ns: int = 0
    problem: str | None = None
    """Why the capture could not be read to its end."""
    n_events: int = 0

    def acted(self) -> set[bytes]:
        """Return the senders (and floods) about whom something was done."""
        return {made.sender for made in self.made if made.acts}

    def found(self, accused: set[bytes]) -> list[bytes]:
        """Return which attackers are accused, themselves or by the flood they were part of."""
        return [
            who
            for who, sent in self.senders.items()
            if sent.attacker and (who in accused or sent.flooding & accused)
        ]

    def wronged(self, accused: set[bytes]) -> list[bytes]:
        """Return which ordinary senders are accused."""
        return [who for who, sent in self.senders.items() if sent.ordinary and who in accused]


MAX_EVENTS: Final = 100_000


class _Labelled(Source):
    """A source whose frames are labelled as they come; a labeller is slow on short batches."""

    def __init__(self, source: Source, label: Label | None) -> None:
        self._source = source
        self._label = label
        self._labels: U8 = np.empty(0, np.uint8)
        self._first = 1

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield the other's batches."""
        for batch in self._source.batches():
            if batch is not None and len(batch.frames) and self._label is not None:
                self._labels = self._label(batch)
                self._first = int(batch.frames["number"][0])
            yield batch

    def of(self, frames: Records) -> U8:
        """Return the labels of frames of the present batch."""
        if self._label is None:
            return np.full(len(frames), UNKNOWN, np.uint8)
        labels: U8 = self._labels[frames["number"] - np.uint64(self._first)]
        return labels

    def counters(self) -> dict[str, int]:
        """Return the other's."""
        return self._source.counters()

    def close(self) -> None:
        """Close the other."""
        self._source.close()


class _Watch:
    """The appliance with a look at each batch before and after it: labels, senders, floods."""

    def __init__(
        self, appliance: Appliance, host: HostIdentity, labels: _Labelled, result: Replayed
    ) -> None:
        self._appliance = appliance
        self._host = host
        self._labels = labels
        self._result = result

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """Gate."""
        outcomes = self._appliance.admit(batch, host)
        self._see(batch)
        return outcomes

    def take(self, batch: JudgedBatch) -> None:
        """VerdictSink."""
        self._appliance.take(batch)

    def _see(self, batch: FrameBatch) -> None:
        result, n = self._result, len(batch.frames)
        if not n:
            return
        times = batch.frames["timestamp_ns"]
        result.first_ns = int(times[0]) if result.first_ns is None else result.first_ns
        result.last_ns = max(result.last_ns, int(times.max()))
        labels = self._labels.of(batch.frames)
        senders, outcomes = np.zeros(n, SENDER), np.empty(n, np.uint8)
        extract(
            batch.data,
            np.ascontiguousarray(batch.frames),
            self._host,
            np.empty((n, N_FEATURES), np.uint16),
            senders,
            outcomes,
            np.zeros(len(COUNTER_NAMES), np.uint64),
        )
        acting = np.flatnonzero(outcomes == Outcome.JUDGED)
        if not len(acting):
            return
        keys = canonical_senders(senders[acting]).view(f"V{SENDER.itemsize}")
        unique, first, whose = np.unique(keys, return_index=True, return_inverse=True)
        counts = np.zeros((len(unique), LABELS), np.int64)
        np.add.at(counts, (whose, labels[acting]), 1)
        active, first_ns, last_ns = _active(times[acting], whose, len(unique))
        malicious = labels[acting] == MALICIOUS
        slots = (batch.frames["standing"][acting] & int(Standing.FLOOD)) >> 4
        floods = dict(self._appliance.parts.screen.floods()) if slots.any() else {}
        nobody = bytes(SENDER.itemsize)
        for i, who in enumerate(unique.tolist()):
            if who == nobody or (who not in result.senders and len(result.senders) >= MAX_SENDERS):
                continue
            sent = result.senders.setdefault(who, Sent())
            sent.frames = [a + int(b) for a, b in zip(sent.frames, counts[i], strict=True)]
            pause = 0 if sent.last_ns is None else int(first_ns[i]) - sent.last_ns
            sent.active_ns += int(active[i]) + (pause if 0 < pause <= PAUSE_NS else 0)
            sent.last_ns = int(last_ns[i])
            if counts[i, MALICIOUS] == 0:
                continue
            its = malicious & (whose == i)
            if sent.first_malicious_ns is None:
                sent.first_malicious_ns = int(times[acting[its]].min())
            for slot in np.unique(slots[its]).tolist():
                if slot in floods:
                    sent.flooding.add(floods[slot])


def _active(
    times: npt.NDArray[Any], whose: npt.NDArray[Any], senders: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return (senders,) the time between the frames of each, its first and its last time, ns."""
    order = np.lexsort((times, whose))
    own, at = whose[order], times[order].astype(np.int64)
    gaps = np.diff(at)
    gaps[(own[1:] != own[:-1]) | (gaps > PAUSE_NS)] = 0
    active = np.zeros(senders, np.int64)
    np.add.at(active, own[1:], gaps)
    bounds = np.searchsorted(own, np.arange(senders + 1))
    return active, at[bounds[:-1]], at[bounds[1:] - 1]


class Replay:
    """One capture through one appliance.

    enforcer: stands for the kernel. label: frames to (n,) of train.labels.Label. host: who the
    gateway was; None: nobody, and routers are recognised (capture.forwarders).
    Raises CaptureError, BundleError, ConfigError.
    """

    def __init__(
        self,
        config: Config,
        parts: Callable[[Config, Callable[[], int]], Parts],
        classifier: Classifier,
        *,
        label: Label | None = None,
        host: HostIdentity | None = None,
    ) -> None:
        self._config = config
        self._parts = parts
        self._classifier = classifier
        self._label = label
        self._host = host

    def run(self, capture: str | Path) -> Replayed:
        """Replay a capture from its beginning to its end."""
        # The stages know each other, and the collector cannot see how large their tables are. What
        # was there before is spared: in a process with scikit-learn in it that takes 0.1 s a time.
        gc.freeze()
        try:
            return self._run(capture)
        finally:
            gc.collect()
            gc.unfreeze()

    def _run(self, capture: str | Path) -> Replayed:
        host = self._host or HostIdentity(routers=_routers(str(capture)))
        result = Replayed(str(capture))
        made: dict[int, tuple[Decision, int]] = {}

        def tell(what: Told) -> None:
            now_ns = appliance.gate.now_ns
            if isinstance(what, TriggerEvent):
                result.n_events += 1
                if len(result.events) < MAX_EVENTS:
                    result.events.append(what)
                if what.sender is not None:
                    result.named.add(what.sender)
            elif isinstance(what, Decision):
                made[what.number] = (what, now_ns)
                if what.response is Response.OBSERVE:
                    sender = appliance.sender_of(what.subject)
                    result.made.append(Made(what, sender, now_ns, done=False))
            elif isinstance(what, Applied):
                decision, at_ns = made.get(what.decision.number, (what.decision, now_ns))
                sender = appliance.sender_of(decision.subject)
                result.made.append(Made(decision, sender, at_ns, done=what.done))
            elif isinstance(what, Ended):
                result.ended.append(what.decision)

        def now() -> int:
            return appliance.gate.now_ns

        appliance = Appliance(self._config, self._parts(self._config, now), tell=tell)
        source = assemble.capture_file(str(capture))
        try:
            labelled = _Labelled(source, self._label)
            watch = _Watch(appliance, host, labelled, result)
            pipeline = Pipeline(
                Slices(labelled),
                self._classifier,
                watch,
                host=host,
                gate=watch,
                limits=Limits(lockstep=True),
            )
            appliance.pipeline = pipeline
            pipeline.run()
            if result.first_ns is not None:
                # Answers that were due in a capture that breaks off did not come either.
                trigger = self._config.trigger
                waits = trigger.no_answer_s + trigger.mirai.brief_s
                appliance.tick(result.last_ns + round(waits * S))
        finally:
            source.close()
        appliance.finish("end of the capture")
        result.windows = list(appliance.window.records)
        result.counters = pipeline.counters() | appliance.counters()
        result.problem = source.problem
        return result


def _routers(capture: str) -> list[bytes]:
    """Return who forwards in a capture; read for that alone, so "-" knows nobody."""
    if capture == "-":
        return []
    source = assemble.capture_file(capture)
    try:
        return forwarders(source.batches())
    finally:
        source.close()
