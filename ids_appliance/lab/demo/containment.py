"""Samples of what an attacker sent and what arrived in; whether and since when it is contained out.

Contained: within 2 s of the trigger at most 1 % of the attacker's further packets reach the
victim's interface, while it keeps sending.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.lab.measure import Sample

WITHIN_S: Final = 2.0
SHARE: Final = 0.01
MIN_SENT: Final = 3
"""Fewer further packets than these show nothing: the attacker has stopped. arpspoof sends one in
two seconds."""
SECOND_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Containment:
    """What became of one attack's packets; times in seconds since its first packet."""

    sent: int
    arrived: int
    after_s: float | None
    """From here on never more than 1 % of a second's packets arrived; None: it never was so."""
    late_sent: int
    """Sent later than 2 s after the trigger."""
    late_arrived: int
    contained: bool

    @property
    def late_share(self) -> float:
        """Of the late packets, how many arrived."""
        return self.late_arrived / self.late_sent if self.late_sent else 1.0


def containment(
    samples: Sequence[Sample], *, first_ns: int, trigger_ns: int | None, stop_ns: int
) -> Containment:
    """Judge an attack from totals sampled at both ends, in order of time.

    first_ns: its first packet. trigger_ns: None where nothing fired. stop_ns: the attack's end;
    what arrives later was on its way.
    """
    inside = [s for s in samples if s.time_ns <= stop_ns]
    before = [s for s in inside if s.time_ns <= first_ns]
    start = before[-1] if before else Sample(first_ns, 0, 0)
    inside = [start, *(s for s in inside if s.time_ns > first_ns)]
    end = inside[-1]
    since = _since(inside)
    late = None
    if trigger_ns is not None:
        limit = trigger_ns + round(WITHIN_S * SECOND_NS)
        late = next((s for s in inside if s.time_ns >= limit), None)
    late_sent = end.sent - late.sent if late else 0
    late_arrived = end.arrived - late.arrived if late else 0
    return Containment(
        sent=end.sent - start.sent,
        arrived=end.arrived - start.arrived,
        after_s=None if since is None else max(0.0, (since - first_ns) / SECOND_NS),
        late_sent=late_sent,
        late_arrived=late_arrived,
        contained=late_sent >= MIN_SENT and late_arrived <= SHARE * late_sent,
    )


def _since(samples: Sequence[Sample]) -> int | None:
    """Return the time from which on no second brings more than the share of what it sends."""
    end = samples[-1]
    found = None
    j = len(samples) - 1
    for i in range(len(samples) - 2, -1, -1):
        while j - 1 > i and samples[j - 1].time_ns >= samples[i].time_ns + SECOND_NS:
            j -= 1
        arrived = samples[j].arrived - samples[i].arrived
        if arrived > SHARE * (samples[j].sent - samples[i].sent):
            break
        if end.sent - samples[i].sent >= MIN_SENT:
            found = samples[i].time_ns
    return found


def per_sample(samples: Sequence[Sample]) -> list[tuple[int, int, int]]:
    """Return (time ns, sent, arrived) of each interval between two samples, at its end."""
    pairs = zip(samples, samples[1:], strict=False)
    return [(b.time_ns, b.sent - a.sent, b.arrived - a.arrived) for a, b in pairs]
