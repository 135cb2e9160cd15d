"""People's orders in, what is to be done about them out; and the answer to "why".

The book decides by itself; here are the orders that somebody gives: quarantine, release, allow,
pause, enforce. Each returns an Effect for whoever talks to the kernel, or raises IdsError with one
line that says what would help.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.errors import Refused, SubjectError
from ids_appliance.policy.allow import Allowed
from ids_appliance.policy.deciding import Deciding
from ids_appliance.policy.entries import Match, match
from ids_appliance.policy.history import Trace
from ids_appliance.policy.standing import Held
from ids_appliance.policy.subjects import FORMS, Named, address_text, identity, parse, told
from ids_appliance.policy.wording import duration_text, line
from ids_appliance.types import Decision, Finding, Kind, Response, Subject, TriggerEvent

HAND_SCORE: Final = 1e6
"""Score of what a person orders: nothing that was found makes it give way."""
MAX_BY_HAND_S: Final = 30 * 86_400.0
MAX_PAUSE_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What follows from an order."""

    message: str
    """One sentence: what is so from now on."""
    apply: tuple[Decision, ...] = ()
    """To be enforced, with these durations."""
    ended: tuple[Decision, ...] = ()
    """Over: their subjects are released, and evidence about them begins anew."""
    lifted: tuple[Subject, ...] = ()
    """To be released in the kernel while their decisions go on standing here."""


@dataclass(frozen=True, slots=True)
class Active:
    """A standing decision as people see it."""

    decision: Decision
    remaining_s: float
    would: Response
    """What it would be if it were enforced."""
    count: int
    """Which decision about this subject it is: 1 the first."""
    by_hand: bool
    probation: bool
    enforced: bool
    """Meant for the kernel at this moment."""
    note: str


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that speaks for and against a subject."""

    subject: Subject
    address: bytes
    """Latest one seen from a MAC."""
    summary: str
    active: Active | None
    events: tuple[TriggerEvent, ...]
    """The latest first."""
    finding: Finding | None
    """The latest evidence that crossed a bound, with its top cells."""
    protected: str
    allowed: str
    doubted: str
    """Whose address it claims, where nobody knows better."""
    ceiling: str
    history: tuple[str, ...]
    """What was decided, refused and ended, the latest first."""
    others: int
    """Further subjects that the text names."""


class Ledger(Deciding):
    """The whole: what is decided, and the orders that people give."""

    def quarantine(self, text: str, for_s: float) -> Effect:
        """Cut a sender off for so long, whatever stands about it. Raises SubjectError, Refused."""
        if not 0 < for_s <= MAX_BY_HAND_S:
            raise SubjectError(f"a quarantine lasts up to {duration_text(MAX_BY_HAND_S)}")
        named = parse(text)
        subject = self.guard.locate(named, text)
        address = named.address or self.traces.get(subject).address
        whom = told(subject)
        reason = self.guard.refuses(subject, address)
        if reason is None and named.address:
            # Whose it is was not seen: then it may be the one who is let off.
            reason = self.guard.doubts(subject, address)
        if reason is not None:
            remedy = "; `allow remove` comes first" if reason.startswith("allowed") else ""
            raise Refused(f"{whom} is never cut off: {reason}{remedy}")
        ceiling, setting = self.ceilings.of(subject, address, self.guard)
        if ceiling < Response.QUARANTINE:
            raise Refused(f"{whom} is never cut off: {setting} (configuration)")
        if not self.enforcing:
            raise Refused("enforcement is off: `ids-appliance enforce on` comes first")
        if self.paused_until_ns is not None:
            raise Refused("paused: nothing is enforced until the pause ends (`pause --for 0`)")
        now, unseen = self.clock.now(), self.guard.unseen(named, subject)
        made = Decision(
            number=self.next_number,
            subject=subject,
            response=Response.QUARANTINE,
            duration_s=for_s,
            reason="by hand",
            timestamp_ns=self.clock.wall(),
            address=address,
            score=HAND_SCORE,
        )
        count = self.offences.count(subject, now) + 1
        ends_ns = now + int(for_s * 1e9)
        held = Held(made, Response.QUARANTINE, now, ends_ns, count=count, by_hand=True)
        if not self.hold(held):
            raise Refused("the table of decisions is full of people's orders: release some first")
        by = f", {address_text(address)} by the kernel's neighbour table," if unseen else ""
        return Effect(f"{whom}{by} is cut off for {duration_text(for_s)}", apply=(held.decision,))

    def release(self, text: str) -> Effect:
        """End what stands about a sender and forget its offences; about everybody where `text` is
        empty. Raises SubjectError."""
        if text.strip():
            named = parse(text)
            meant = [held for held in self.standing if self._is_meant(named, held)]
            if not meant:
                raise SubjectError(f"nothing stands about {text}: see `ids-appliance decisions`")
        else:
            meant = list(self.standing)
        for held in meant:
            self.offences.forget(identity(held.subject))
        ended = tuple(self.end(held, "was released by hand") for held in meant)
        if len(ended) == 1:
            return Effect(f"{told(ended[0].subject)} is free", ended=ended)
        return Effect(f"{len(ended)} decisions have ended", ended=ended)

    def allow_add(self, text: str, interface: str = "", *, comment: str = "") -> Effect:
        """Let nothing be decided about a sender, and end what stands. Raises SubjectError."""
        entry = self.guard.allow.add(
            text,
            interface,
            comment=comment,
            now_ns=self.clock.wall(),
            guard=self.guard.protection,
        )
        self.dirty = True
        view = self.guard.protection.view
        matched = [
            (match(entry.entry, held.subject, held.decision.address, view), held)
            for held in self.standing
        ]
        ended = self._let_off([held for how, held in matched if how is Match.YES])
        message = f"{entry} is allowed"
        if claims := [told(held.subject) for how, held in matched if how is Match.DOUBTED]:
            message += (
                f"; {claims[0]} claims that address, nobody was seen to have it, and what stands "
                "about it goes on: `release` that MAC if it is the one you mean"
            )
        return Effect(message, ended=tuple(ended))

    def allow_remove(self, text: str, interface: str = "") -> Effect:
        """Take entries off the allow list. Raises SubjectError."""
        gone = self.guard.allow.remove(text, interface)
        self.dirty = True
        return Effect(f"{', '.join(map(str, gone))} is not allowed any more")

    def allow_list(self) -> list[Allowed]:
        """Return the allow list, the oldest entry first."""
        return self.guard.allow.entries()

    def pause(self, for_s: float) -> Effect:
        """Decide and enforce nothing for so long; 0 ends a pause. Raises SubjectError.

        What stands goes on standing here, its time runs, and what is left of it is enforced again
        when the pause ends by itself (`expire`) or by hand.
        """
        if not 0 <= for_s <= MAX_PAUSE_S:
            raise SubjectError(f"a pause lasts up to {duration_text(MAX_PAUSE_S)}; 0 ends it")
        now = self.clock.now()
        self.dirty = True
        if for_s == 0:
            was = self.paused_until_ns is not None
            self.paused_until_ns = None
            message = "the pause is over" if was else "there is no pause"
            return Effect(message, apply=tuple(self.in_force(now)) if was else ())
        self.paused_until_ns = now + int(for_s * 1e9)
        lifted = tuple(held.subject for held in self.standing if held.enforced)
        self.note("pause", None, f"paused for {duration_text(for_s)} by hand")
        return Effect(f"nothing is enforced for {duration_text(for_s)}", lifted=lifted)

    def enforce(self, on: bool) -> Effect:
        """Let new decisions be enforced, or only be recorded; `on` also resets the breaker.

        Neither way does anything old come into force: switched on, what was only recorded is
        dropped; switched off, everything that stands ends.
        """
        tripped = [breaker.reset() for breaker in (self.breaker, self.forgeable)]
        was, self.enforcing = self.enforcing, on
        self.dirty = True
        ended: list[Decision]
        if on:
            ended = self.drop_observed("was recorded only; from now on decisions are enforced")
            state = "on already" if was and not any(tripped) else "on"
            message = f"enforcement is {state}" + ("; the breaker is reset" if any(tripped) else "")
        else:
            ended = [self.end(h, "ended: enforcement is off") for h in list(self.standing)]
            message = "enforcement is off: decisions are recorded only"
        self.note("enforce", None, f"{message} (by hand)")
        return Effect(message, ended=tuple(ended))

    def _is_meant(self, named: Named, held: Held) -> bool:
        """Say whether people name whom a decision is about: of a MAC by any address that it is
        known to have, as it has several, and a rule that counts by MAC sees none."""
        subject = held.subject
        known = [held.decision.address]
        if subject.kind is Kind.MAC:
            known.append(self.traces.get(identity(subject)).address)
            known += self.guard.protection.view.hosts.addresses_of(subject.value)
        return any(named.means(subject, address) for address in known)

    # Questions ---------------------------------------------------------------------------------

    def decisions(self) -> list[Active]:
        """Return what stands, the latest decision first."""
        return self.newest(list(self.standing), len(self.standing))

    def newest(self, chosen: Sequence[Held], n: int, *, offset: int = 0) -> list[Active]:
        """Return at most n of some that stand, from the offset on, the latest decision first."""
        wanted = heapq.nlargest(offset + n, chosen, key=lambda held: held.decision.number)
        return [self._active(held) for held in wanted[offset:]]

    def why(self, text: str) -> Account:
        """Explain what is known of a sender. Raises SubjectError: the text names nobody."""
        named = parse(text)
        meant = {
            identity(h.subject): None
            for h in self.standing
            if named.means(h.subject, h.decision.address)
        }
        meant |= dict.fromkeys(self.traces.matching(named))
        if not meant and named.port:
            raise SubjectError(f"no flood of {text} is known: {FORMS}")
        subject = next(iter(meant), None) or self.guard.locate(named, text)
        trace = self.traces.get(subject)
        held = self.standing.get(subject)
        address = trace.address or named.address
        return Account(
            subject=subject,
            address=address if subject.kind is Kind.MAC else b"",
            summary=self._summary(subject, held, trace),
            active=self._active(held) if held is not None else None,
            events=tuple(trace.events)[::-1],
            finding=trace.finding,
            protected=self.guard.protection.refuses(subject, address) or "",
            allowed=self.guard.allow.allows(subject, address, self.guard.protection.view) or "",
            doubted=self.guard.doubts(subject, address) or "",
            ceiling=self.ceilings.of(subject, address, self.guard)[1],
            history=tuple(trace.lines)[::-1],
            others=max(0, len(meant) - 1),
        )

    def _summary(self, subject: Subject, held: Held | None, trace: Trace) -> str:
        whom = told(subject)
        reason = self.guard.refuses(subject, trace.address)
        if reason is not None:
            return f"{whom}: nothing is ever decided about it: {reason}"
        if held is None:
            return f"{whom}: nothing stands about it" + (
                f"; at last: {trace.lines[-1]}" if trace.lines else "; nothing is known of it"
            )
        left = duration_text(held.remaining_s(self.clock.now()))
        return f"{line(held.decision)} (another {left})"

    def _active(self, held: Held) -> Active:
        return Active(
            decision=held.decision,
            remaining_s=held.remaining_s(self.clock.now()),
            would=held.would,
            count=held.count,
            by_hand=held.by_hand,
            probation=held.probation,
            enforced=held.enforced and self.paused_until_ns is None,
            note=held.note,
        )
