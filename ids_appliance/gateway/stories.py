"""What happens in the appliance in, events for people and machines out."""

from collections.abc import Callable
from typing import Final

import numpy as np

from ids_appliance.gateway.appliance import Ended, Told
from ids_appliance.policy.notes import Note
from ids_appliance.policy.subjects import subject_of, told
from ids_appliance.telemetry.drills import is_drill
from ids_appliance.trigger.window import Change, WindowRecord
from ids_appliance.types import (
    SENDER,
    Applied,
    Decision,
    Finding,
    Kind,
    Reconciled,
    Response,
    Standing,
    Subject,
    TriggerEvent,
)

Names = Callable[[int], str]
"""Interface index to name, "" where there is none."""


MAX_FOUND: Final = 16_384
"""Senders a window whose findings are told once only; those past it are told each time."""
Emit = Callable[..., object]
"""telemetry.events.EventLog.emit."""


class Stories:
    """Turn everything that an Appliance tells into events; `tell` is its listener.

    Times inside are those of the appliance's clock; an event carries the time it is told.
    """

    def __init__(self, emit: Emit, names: Names) -> None:
        self._emit = _labelled(emit)
        self._names = names
        self._found: set[tuple[bytes, bool]] = set()

    def tell(self, what: Told) -> None:
        """Report one thing."""
        if isinstance(what, TriggerEvent):
            self._trigger(what)
        elif isinstance(what, Change):
            self._window(what)
        elif isinstance(what, Finding):
            self._finding(what)
        elif isinstance(what, Decision):
            self._emit("decision", **decided(what))
        elif isinstance(what, Applied):
            self._applied(what)
        elif isinstance(what, Ended):
            self._emit("response", **decided(what.decision) | {"action": "ended"})

    def answer(self, what: Reconciled | str) -> None:
        """Report what the kernel answers that is about no single decision, where it matters."""
        if isinstance(what, str):
            self._emit("health", component="enforcement", state="warning", message=what)
        elif what.found < what.intended or what.foreign or what.rebuilt:
            self._emit(
                "health",
                component="reconciler",
                state="repaired",
                message=f"the kernel had {what.found} of {what.intended} elements",
                intended=what.intended,
                found=what.found,
                foreign=what.foreign,
                repaired=what.repaired,
                rebuilt=what.rebuilt,
            )

    def note(self, note: Note) -> None:
        """Report what the ledger did not do, or did otherwise."""
        fields: dict[str, object] = {} if note.subject is None else {"subject": told(note.subject)}
        self._emit(
            "health" if note.subject is None else "response",
            **fields,
            action=note.kind,
            component="ledger",
            note=note.text,
            repeated=note.repeated,
        )

    def health(self, component: str, state: str, message: str, **details: object) -> None:
        """Report how a part of the gateway is."""
        self._emit("health", component=component, state=state, message=message, **details)

    def _trigger(self, event: TriggerEvent) -> None:
        self._emit(
            "trigger",
            **self.who(event.sender),
            rule=event.rule,
            key=event.key,
            detail=event.detail,
            decisive=event.decisive,
        )

    def _window(self, change: Change) -> None:
        if change.opened:
            self._found.clear()
        record = change.record
        state = "opened" if change.opened else "closed"
        self._emit("window", **self.who(record.cause), state=state, **window_fields(record))

    def _finding(self, finding: Finding) -> None:
        # Once a window about a sender; that somebody is cleared whom nobody suspected is no news.
        known = (finding.sender, finding.malicious)
        if known in self._found or not (finding.malicious or finding.rules):
            return
        if len(self._found) < MAX_FOUND:
            self._found.add(known)
        fields = self.who(finding.sender)
        if finding.address and "src_ip" not in fields:
            fields["src_ip"] = finding.address
        self._emit(
            "decision",
            **fields,
            action="finding" if finding.malicious else "cleared",
            score=round(finding.score, 2),
            bound=round(finding.bound, 2),
            packets=finding.packets,
            rules=finding.rules,
            cells=[
                {"cell": f"{cell:016x}", "log_odds": round(one, 3), "packets": n}
                for cell, one, n in finding.cells[:5]
            ],
            standing=standing_names(finding.standing),
            reason=finding.reason,
        )

    def _applied(self, answer: Applied) -> None:
        fields = decided(answer.decision)
        action = "applied" if answer.done else "refused"
        self._emit("response", **fields | {"action": action, "note": answer.note})

    def who(self, sender: bytes | None) -> dict[str, object]:
        """Return an event's fields that say who a canonical SENDER record is."""
        if sender is None:
            return {}
        record = np.frombuffer(sender, SENDER)[0]
        subject = subject_of(sender, self._names)
        fields: dict[str, object] = {"sender": told(subject)} if subject is not None else {}
        if subject is None:
            return fields
        if subject.kind is Kind.FLOOD:
            return fields | {"dest_ip": subject.value, "dest_port": subject.port}
        if subject.interface:
            fields["interface"] = subject.interface
        if subject.kind is Kind.MAC:
            return fields | {"src_mac": record["mac"].tobytes()}
        address = record["address"].tobytes()
        return fields | {"src_ip": address[:4] if record["family"] == 4 else address}


def _labelled(emit: Emit) -> Emit:
    """Return `emit` that says of what happens at a drill's port that it is a drill."""

    def labelled(event_type: str, **fields: object) -> object:
        if is_drill(str(fields.get("interface", ""))):
            fields["drill"] = True
        return emit(event_type, **fields)

    return labelled


def decided(decision: Decision) -> dict[str, object]:
    """Return an event's fields of a decision."""
    subject = decision.subject
    fields: dict[str, object] = {
        "action": "decided",
        "number": decision.number,
        "subject": told(subject),
        "response": response_name(subject, decision.response),
        "duration_s": round(decision.duration_s, 3),
        "reason": decision.reason,
        "score": round(decision.score, 2),
    }
    if subject.interface:
        fields["interface"] = subject.interface
    if subject.kind is Kind.FLOOD:
        return fields | {"dest_ip": subject.value, "dest_port": subject.port}
    if subject.kind is Kind.MAC:
        fields["src_mac"] = subject.value
        return fields | ({"src_ip": decision.address} if decision.address else {})
    return fields | {"src_ip": subject.value if len(subject.value) == 4 else decision.address}


def response_name(subject: Subject, response: Response) -> str:
    """Return what is done, as people know it: against a flood it is a SYN proxy."""
    if subject.kind is Kind.FLOOD and response > Response.OBSERVE:
        return "syn_protection"
    return response.name.lower()


def window_fields(record: WindowRecord) -> dict[str, object]:
    """Return an event's fields of a window, with its account once it is closed."""
    fields: dict[str, object] = {
        "id": record.id,
        "rule": record.rule,
        "key": record.key,
        "detail": record.detail,
    }
    if record.closed_ns is None:
        return fields
    return fields | {
        "duration_s": round((record.closed_ns - record.opened_ns) / 1e9, 3),
        "why": record.why,
        "packets": record.seen,
        "judged": record.judged,
        "shed": record.shed,
        "unanswered": record.unanswered,
        "contained": record.contained,
        "cells_asked": record.cells_asked,
        "votes": record.votes,
        "triggers": record.triggers,
        "decisions": record.decisions,
    }


def standing_names(bits: int) -> tuple[str, ...]:
    """Return the names of a sender's Standing bits, the flood slot left out."""
    known = (Standing.ANSWER, Standing.PROVEN, Standing.CALLED, Standing.SUSPECT)
    return tuple(str(bit.name).lower() for bit in known if bits & bit)


def sender_name(sender: bytes | None, names: Names) -> str:
    """Return a canonical SENDER record as a sentence names it; "" where there is none."""
    subject = subject_of(sender, names) if sender is not None else None
    return told(subject) if subject is not None else ""
