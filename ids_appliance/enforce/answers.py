"""A decision in, an enforcer's answer out where nothing is asked of kernel or switch, and why."""

from collections.abc import Container

from ids_appliance.enforce.elements import pool, subject_text
from ids_appliance.enforce.installation import Note
from ids_appliance.enforce.intention import Standing
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.types import Applied, Decision, Response, Subject


def refusal(
    decision: Decision, *, captured: Container[str], protected: ProtectedSets
) -> str | None:
    """Return why a decision must not be carried out, None where it may."""
    subject = decision.subject
    if decision.duration_s <= 0:
        return "it has ended already"
    if subject.interface and subject.interface not in captured:
        return f"interface {subject.interface} is not captured"
    return protected.refuses(subject)


def nothing_asked(decision: Decision) -> Applied:
    """Return the answer where a response has no place in the kernel or the switch."""
    if decision.response is Response.DEPRIORITISE:
        return Applied(decision, False, "needs traffic classes, and there are none: [tc] rates")
    return Applied(decision, True, "observed only")


def no_room(decision: Decision, note: Note) -> Applied:
    """Return the answer where a set is full of decisions that weigh more, and tell people."""
    line = f"the {pool(decision.subject)} set is full of decisions that weigh more"
    note("evicted", f"{subject_text(decision.subject)}: {line}")
    return Applied(decision, False, line)


def evicted(one: Standing, note: Note, *, by: Subject) -> str:
    """Tell people who gave way to whom; return the note for the answer of who came."""
    said = f"set full: evicted {subject_text(one.decision.subject)}"
    note("evicted", f"{said} for {subject_text(by)}")
    return said
