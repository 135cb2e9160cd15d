"""Judged batches of ordinary life in, the highest score that each sender ever reached out.

Everything is judged as if the scrutiny window were always open, so the bound that keeps ordinary
senders below it is on the safe side. Kept per sender: the score, and how much it sent; no payload.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from msgspec import structs

from ids_appliance import config
from ids_appliance._evidence import canonical_senders
from ids_appliance.policy.bounds import Bounds, Peaks
from ids_appliance.policy.sequential import SequentialPolicy
from ids_appliance.types import SENDER, U8, U64, JudgedBatch, Outcome, Records, TriggerEvent

MAX_SENDERS: Final = 65_536
OUT_OF_REACH: Final = 1e5
HOUR_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Reached:
    """One sender of a calibration."""

    peak: float
    """Its highest score, nats."""
    packets: int
    """That weighed."""
    hours: int
    """In which it sent something."""
    labels: int = 0
    """Bit k: some of its packets had label k (train/labels.py); 0 where none are known."""

    def merged(self, other: "Reached") -> "Reached":
        """Return what this and another watch of the same sender come to."""
        return Reached(
            max(self.peak, other.peak),
            self.packets + other.packets,
            self.hours + other.hours,
            self.labels | other.labels,
        )


class Calibration:
    """A `VerdictSink` that adds up evidence as SequentialPolicy does, with a bound out of reach.

    labels_of: frame numbers -> (n,) of Label; None where nothing is known. A new window, for the
    triggers, begins every `window_s` of packet time.
    """

    def __init__(
        self,
        policy: config.Policy,
        bounds: Bounds,
        *,
        labels_of: Callable[[U64], U8] | None = None,
        window_s: float = 600.0,
        max_senders: int = MAX_SENDERS,
    ) -> None:
        # No bound is reached, so nothing is reported again and again.
        settings = structs.replace(policy, upper=OUT_OF_REACH, max_senders=max_senders)
        self._evidence = SequentialPolicy(settings, bounds)
        self._labels_of = labels_of
        self._window_ns = int(window_s * 1e9)
        self._window_end = 0
        self._max = max_senders
        self._floods: Records = np.zeros(16, SENDER)
        self._labels: dict[bytes, int] = {}
        self._hours: dict[bytes, tuple[int, int]] = {}
        self.triggers: dict[str, set[bytes]] = {}
        """Rule -> senders it named."""

    def notice(self, event: TriggerEvent) -> None:
        """Let a trigger weigh."""
        if event.sender is not None and len(self.triggers) <= 64:
            named = self.triggers.setdefault(event.rule, set())
            if len(named) < self._max:
                named.add(event.sender)
        self._evidence.notice(event)

    def set_floods(self, records: Records) -> None:
        """Say which FLOOD record each slot stands for: (16,) SENDER."""
        self._floods = records
        self._evidence.set_floods(records)

    def take(self, batch: JudgedBatch) -> None:
        """Add a batch; VerdictSink."""
        if not len(batch.frames):
            return
        latest = int(batch.frames["timestamp_ns"].max())
        if latest >= self._window_end or latest < self._window_end - 2 * self._window_ns:
            self._window_end = latest + self._window_ns
            self._evidence.new_window()
        self._evidence.weigh(batch)
        self._remember(batch)

    def reached(self) -> dict[bytes, Reached]:
        """Return what every sender with evidence came to, by its canonical SENDER bytes."""
        senders, peaks, packets = self._evidence.peaks()
        found = {}
        for sender, peak, n in zip(senders, peaks.tolist(), packets.tolist(), strict=True):
            if n:
                key = sender.tobytes()
                hours = self._hours.get(key, (0, 1))[1]
                found[key] = Reached(peak, n, hours, self._labels.get(key, 0))
        return found

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        return self._evidence.counters()

    def _remember(self, batch: JudgedBatch) -> None:
        judged = batch.outcomes == Outcome.JUDGED
        frames = batch.frames[judged]
        slots = frames["standing"] >> 4
        seen = batch.senders[judged]
        keys = canonical_senders(seen)
        keys[slots > 0] = self._floods[slots[slots > 0]]
        found = np.zeros(len(keys), [("sender", f"V{SENDER.itemsize}"), ("what", "<i8")])
        found["sender"] = keys.view(f"V{SENDER.itemsize}").ravel()
        found["what"] = frames["timestamp_ns"] // HOUR_NS
        for sender, hour in np.unique(found).tolist():
            last, n = self._hours.get(sender, (hour - 1, 0))
            if hour > last and (n or len(self._hours) < self._max):
                self._hours[sender] = (hour, n + 1)
        if self._labels_of is not None:
            found["what"] = self._labels_of(frames["number"])
            for sender, label in np.unique(found).tolist():
                self._labels[sender] = self._labels.get(sender, 0) | 1 << label


def peaks_of(
    reached: Mapping[Any, Reached], *, benign: int = 0, malicious: int | None = None
) -> Peaks:
    """Return the scores of ordinary and of malicious senders.

    benign: label bits that an ordinary sender may have. malicious: the bit that makes one malicious
    (None: there are no labels). Who has other bits is neither: victims that answer an attack."""
    ordinary = [r for r in reached.values() if not r.labels & ~benign]
    bad = None
    if malicious is not None:
        bad = np.array([r.peak for r in reached.values() if r.labels & malicious], np.float64)
    return Peaks(
        np.array([r.peak for r in ordinary], np.float64),
        sum(r.hours for r in ordinary) / 24.0,
        bad,
    )
