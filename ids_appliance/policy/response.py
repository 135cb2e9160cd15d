"""A finding and what stands already in, the response it asks for out: who said so, and how much.

Two witnesses (a trigger that named the sender, and the forest's evidence) cut it off. Evidence
alone limits it first, and cuts it off if it goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Policy
from ids_appliance.policy.standing import Held
from ids_appliance.types import Finding, Kind, Response, Standing, Subject

NO_WITNESSES: Final = frozenset({"manual", "sample", "always", "overflow"})
"""Rules that say "look closer" and accuse nobody."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be done about a subject."""

    response: Response
    why: str
    alone: bool = False
    """Evidence is the only witness."""
    score: float = 0.0
    address: bytes = b""
    timestamp_ns: int = 0


def by_evidence(finding: Finding, before: Held | None, *, settings: Policy, age_s: float) -> Wanted:
    """Return what a malicious finding asks for; age_s: how long `before` has stood."""
    witnesses = [rule for rule in finding.rules if rule not in NO_WITNESSES]
    shown = f"evidence {finding.score:.1f} over {finding.bound:.1f} ({finding.packets} packets)"
    alone = not witnesses
    why = f"{' and '.join([*witnesses, shown])}" + (f": {finding.reason}" if finding.reason else "")
    response = Response.QUARANTINE
    if alone and settings.kind != "per_packet":
        goes_on = before is not None and (before.probation or age_s >= settings.climb_after_s)
        if not goes_on:
            response = Response.RATE_LIMIT
    return Wanted(
        response,
        why,
        alone=alone,
        score=finding.score,
        address=finding.address,
        timestamp_ns=finding.timestamp_ns,
    )


def limits(subject: Subject, standing: int) -> list[tuple[Response, str]]:
    """Return what a sender beyond us is spared for what it is: (the most that may be done, why)."""
    if subject.interface or subject.kind not in (Kind.IPV4, Kind.IPV6):
        return []
    if standing & Standing.CALLED:
        return [(Response.RATE_LIMIT, "our own devices call it: only new flows are limited")]
    if not subject.proven:
        return [(Response.RATE_LIMIT, "its address may be forged: only new flows are limited")]
    return []


def ladder(durations_s: Sequence[float], count: int) -> float:
    """Return how long the decision after `count` earlier ones lasts; the last step repeats."""
    return durations_s[min(count, len(durations_s) - 1)]
