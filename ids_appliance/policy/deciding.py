"""Findings and trigger events in, decisions out.

    finding or event --> whom? --> let off? --> how much? --> already so? --> held? --> Decision
                         subject   Guard        response,     Standing       breaker,
                                                Ceilings                     observe

What people order is in ledger.py, what outlives a restart in kept.py.
"""

import ipaddress
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ids_appliance.config import Enforce, Policy
from ids_appliance.policy.book import Book, Clock
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.response import Wanted, by_evidence, ladder, limits
from ids_appliance.policy.standing import Held
from ids_appliance.policy.subjects import identity, subject_of
from ids_appliance.policy.wording import duration_text, name, observed
from ids_appliance.types import Decision, Finding, Kind, Response, Subject, TriggerEvent

RULE_SCORE: Final = 100.0
"""Score of a decision that a rule alone has made: it does not give way to a doubtful one."""


ARP_RULES: Final = frozenset({"arp_spoof", "arp_insistence"})
"""Rules that cut off alone: a single frame more goes on harming. Others that are decisive limit."""
NAMED: Final = 64
NAMED_NS: Final = 5 * 10**9
"""How many whom a trigger has named wait, and how long, to be limited after all: a rule says the
same again only after five seconds, and that a node is gone is known a second late."""


class Deciding(Book):
    """The book, and what enters into it by itself."""

    def __init__(
        self,
        policy: Policy,
        enforce: Enforce,
        *,
        guard: Guard,
        names: Callable[[int], str],
        clock: Clock,
    ) -> None:
        super().__init__(policy, enforce, guard=guard, names=names, clock=clock)
        self._named: deque[tuple[int, Subject, Wanted]] = deque(maxlen=NAMED)

    def decide(self, findings: Sequence[Finding], events: Sequence[TriggerEvent]) -> list[Decision]:
        """Return what is decided now: new decisions and climbs, nothing for what stands so."""
        made = [self._on_event(event) for event in events]
        made += [self._on_finding(finding) for finding in findings]
        return [decision for decision in made if decision is not None]

    def fail_closed(self, why: str) -> list[Decision]:
        """Limit whom a trigger names from now on, unjudged, because of `why` ("": no more); return
        what is decided about those who were named just before that was known."""
        begins = bool(why) and not self.failing_closed
        self.failing_closed = why
        if not begins:
            return []
        since_ns = self.clock.now() - NAMED_NS
        waiting = [(s, w) for at_ns, s, w in self._named if at_ns >= since_ns]
        self._named.clear()
        made = [self._unjudged(s, w) for s, w in waiting if self.standing.get(s) is None]
        return [decision for decision in made if decision is not None]

    def _unjudged(self, subject: Subject, wanted: Wanted) -> Decision | None:
        # Nobody can judge its packets, and people would rather slow down whom a rule names.
        why = f"{self.failing_closed}; {wanted.why}"
        return self._consider(subject, replace(wanted, response=Response.RATE_LIMIT, why=why))

    def _on_event(self, event: TriggerEvent) -> Decision | None:
        if event.sender is None:
            return None
        subject = subject_of(event.sender, self.names)
        if subject is None:
            return None
        self.traces.of(identity(subject)).events.append(replace(event, detail=event.detail[:200]))
        if event.decisive and self._takes_nothing(event):
            why = "is ours, but not on that link: who says it there takes nothing from us"
            self.note("refused", subject, f"{event.key} {why}")
            event = replace(event, decisive=False)
        before = self.standing.get(subject)
        why = f"{event.rule}: {event.detail[:200]}"
        wanted = Wanted(Response.QUARANTINE, why, score=RULE_SCORE, timestamp_ns=event.timestamp_ns)
        if event.decisive and event.rule not in ARP_RULES:
            # Its address may be forged, and it may be a device gone wild: slowed down, not cut off.
            return self._consider(subject, replace(wanted, response=Response.RATE_LIMIT))
        if event.decisive:
            if subject.kind is not Kind.MAC:  # ARP: never the claimed address, it is the victim's
                self.note("refused", subject, "a rule alone decides about MACs only")
                return None
            return self._consider(subject, wanted)
        if before is None:
            if self.failing_closed:
                return self._unjudged(subject, wanted)
            self._named.append((self.clock.now(), subject, wanted))
        if before is not None and before.alone and not before.probation and not before.by_hand:
            # The second witness comes later than the first.
            both = f"{event.rule} after evidence alone: {event.detail[:200]}"
            score = before.decision.score
            return self._consider(before.subject, replace(wanted, why=both, score=score))
        return None

    def _takes_nothing(self, event: TriggerEvent) -> bool:
        """Say whether ARP claims an address that we have, but on no link of the protected side:
        every machine with Docker has 172.17.0.1, and asks for others in its name (arp_announce)."""
        try:
            address = ipaddress.ip_address(event.key).packed if event.rule in ARP_RULES else b""
        except ValueError:  # it counts by MAC
            return False
        return self.guard.protection.ours_elsewhere(address)

    def _on_finding(self, finding: Finding) -> Decision | None:
        subject = subject_of(finding.sender, self.names, standing=finding.standing)
        if subject is None:
            self._totals["unnamed"] += finding.malicious
            return None
        trace = self.traces.of(identity(subject))
        trace.finding = finding
        trace.address = finding.address or trace.address
        if not finding.malicious:
            return None
        before = self.standing.get(subject)
        if before is not None and before.subject.proven and not subject.proven:
            subject = before.subject  # a proof stays one
        age_s = (self.clock.now() - before.began_ns) / 1e9 if before is not None else 0.0
        wanted = by_evidence(finding, before, settings=self.policy, age_s=age_s)
        return self._consider(subject, wanted)

    def _consider(self, subject: Subject, wanted: Wanted) -> Decision | None:
        if self.paused_until_ns is not None:
            self.note("held", subject, f"paused: nothing is decided ({wanted.why})")
            return None
        address = wanted.address or self.traces.get(identity(subject)).address
        reason = self.guard.refuses(subject, address)
        if reason is not None:
            self.note("refused", subject, f"{reason}; it was named by {wanted.why}")
            return None
        would, why, capped = self._capped(subject, address, wanted)
        before = self.standing.get(subject)
        if before is not None and (would, subject.proven) <= (before.would, before.subject.proven):
            return None
        if capped:
            self.note("capped", subject, f"no more than {name(would)}: {capped}")
        held = self._held_back(subject, would)
        if held and before is not None and before.enforced:
            before.would = would  # said once; what stands keeps its time
            self.note("held", subject, f"{held}: would climb to {name(would)}: {why}")
            return None
        again = before is None or before.probation
        now = self.clock.now()
        count = max(1, self.offences.count(identity(subject), now) + again)
        wanted = replace(wanted, response=would, why=why, address=address)
        decision = self._decision(subject, wanted, count=count)
        made = Held(
            decision,
            would=would,
            began_ns=now,
            ends_ns=now + int(decision.duration_s * 1e9),
            count=count,
            alone=wanted.alone,
        )
        if held:
            made.decision = observed(made.decision, held)
        return made.decision if self.hold(made, offends=again) else None

    def _capped(
        self, subject: Subject, address: bytes, wanted: Wanted
    ) -> tuple[Response, str, str]:
        """Return what may be done of what is wanted, why, and what it was capped by ("" if not)."""
        caps = [(self.ceilings.everybody, f"enforce.ceiling = {name(self.ceilings.everybody)}")]
        if subject.kind is Kind.FLOOD:
            caps.append((Response.RATE_LIMIT, "a flood's senders are limited, nobody is cut off"))
        else:
            caps.append(self.ceilings.of(subject, address, self.guard))
            finding = self.traces.get(identity(subject)).finding
            caps += limits(subject, finding.standing if finding is not None else 0)
            doubt = self.guard.doubts(subject, address)
            if doubt is not None:
                caps.append((Response.RATE_LIMIT, doubt))
        cap, text = min(caps, key=lambda pair: pair[0])
        if cap >= wanted.response:
            return wanted.response, wanted.why, ""
        return cap, f"{wanted.why}; no more than {name(cap)}: {text}", text

    def _held_back(self, subject: Subject, would: Response) -> str:
        """Return why a decision is only recorded, "" if it is enforced; counts it for breakers."""
        if not self.enforcing:
            return "observe only: enforcement is off"
        if would is Response.OBSERVE or subject.kind is Kind.FLOOD:
            return ""
        breaker = self.breaker if subject.proven else self.forgeable
        held = breaker.holds
        if breaker.admits(identity(subject), self.clock.now(), known_devices=self.known_devices):
            return ""
        if not held:
            what = "everything" if breaker is self.breaker else "every sender that may be forged"
            until = duration_text(breaker.remaining_s(self.clock.now()))
            self.note(
                "breaker",
                None,
                f"ALARM: {breaker.why}: {what} holds at observe for {until}, or until "
                "`ids-appliance enforce on`; what stands keeps its time",
            )
            self.dirty = True
        return f"observe only: breaker ({breaker.why})"

    def _decision(self, subject: Subject, wanted: Wanted, *, count: int) -> Decision:
        return Decision(
            number=self.next_number,
            subject=subject,
            response=wanted.response,
            duration_s=ladder(self.policy.durations_s, count - 1),
            reason=wanted.why,
            timestamp_ns=wanted.timestamp_ns or self.clock.wall(),
            address=wanted.address,
            score=wanted.score,
        )
