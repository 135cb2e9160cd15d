"""What one step has counted in, its losses and whether it held out."""

from dataclasses import dataclass, field
from typing import Final

from ids_appliance.bench.search import Verdict
from ids_appliance.bench.sender import Sent

ALLOWED: Final = 1e-5
"""Share of the offered packets that may be lost, each way."""
BEHIND_S: Final = 2.0
BEHIND_SHARE: Final = 0.1
"""How long after the last packet everything has to be judged: 2 s, or a tenth of a longer step. Who
needs longer has not kept up, only put aside."""
ACHIEVED: Final = 0.999
"""Share of the requested rate that the generator has to reach."""


@dataclass(frozen=True, slots=True)
class Used:
    """What one process has used while packets came."""

    cpu_percent: float
    """Of one core."""
    resident_mib: float


@dataclass(frozen=True, slots=True)
class Step:
    """One mode under one mix at one rate."""

    mode: str
    mix: str
    sent: Sent
    forwarded: int
    """Frames that have reached the sink."""
    judged: int | None
    """Frames judged (or, tapped, counted); None where nobody looks."""
    used: dict[str, Used] = field(default_factory=dict)
    """By process."""
    machine_percent: float = 0.0
    """Of all cores together, the generator's own share and softirqs included."""
    softirq_percent: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    """What the gateway has counted meanwhile."""

    behind_s: float = 0.0
    """How long after the last packet the last verdict was known."""

    @property
    def offered_pps(self) -> float:
        """Frames offered a second."""
        return self.sent.packets / self.sent.seconds if self.sent.seconds else 0.0

    @property
    def lost_forwarding(self) -> float:
        """Share of the offered frames that has not reached the sink."""
        return max(0, self.sent.packets - self.forwarded) / max(1, self.sent.packets)

    @property
    def lost_judging(self) -> float:
        """Share of the offered frames without a verdict: dropped, shed or unanswered."""
        if self.judged is None:
            return 0.0
        return max(0, self.sent.packets - self.judged) / max(1, self.sent.packets)

    @property
    def verdict(self) -> Verdict:
        """Whether the rate has held.

        A loss is a loss, whatever the generator achieved: more packets would not have helped.
        """
        if max(self.lost_forwarding, self.lost_judging) > ALLOWED:
            return Verdict.LOST
        if self.behind_s > max(BEHIND_S, BEHIND_SHARE * self.sent.seconds):
            return Verdict.LOST
        reached = self.offered_pps >= ACHIEVED * self.sent.requested_pps
        return Verdict.HELD if reached and self.sent.achieved >= ACHIEVED else Verdict.LIMITED
