"""Decisions in, the words in which people are told of them out."""

from dataclasses import replace
from typing import Final

from ids_appliance.policy.subjects import told
from ids_appliance.types import Decision, Response

DURATION_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: "10 min", "7 d"."""
    for unit, word in DURATION_UNITS:
        if seconds >= unit:
            return f"{seconds / unit:.3g} {word}"
    return f"{max(0.0, seconds):.2g} s"


def name(response: Response) -> str:
    """Return a response as the configuration writes it."""
    return response.name.lower()


def observed(decision: Decision, held: str) -> Decision:
    """Return a decision that is only recorded, with what it would have been."""
    would = f"would be {name(decision.response)} for {duration_text(decision.duration_s)}"
    return replace(
        decision, response=Response.OBSERVE, reason=f"{held}; {would}: {decision.reason}"
    )


def line(decision: Decision) -> str:
    """Return a decision, or its end, as one line of a history."""
    if decision.duration_s == 0:
        return f"{decision.number}: {decision.reason}"
    time = duration_text(decision.duration_s)
    whom = told(decision.subject)
    return f"{decision.number}: {whom} {name(decision.response)} for {time}: {decision.reason}"
