"""Decisions in; kept, ended, stepped down, held, let off and told of.

Everything here is memory: no I/O, no waiting. One thread calls it. A decision that is returned
with response OBSERVE and duration 0 has ended: its subject is to be released.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ids_appliance.config import Enforce, Policy
from ids_appliance.policy.breaker import Breaker
from ids_appliance.policy.entries import KnownHosts, best
from ids_appliance.policy.guard import Ceilings, Guard
from ids_appliance.policy.history import Offences, Traces
from ids_appliance.policy.notes import Note, Notes
from ids_appliance.policy.protect import SystemFound
from ids_appliance.policy.standing import Held, Standing
from ids_appliance.policy.subjects import identity
from ids_appliance.policy.wording import line, name
from ids_appliance.types import Applied, Decision, Kind, Response, Subject

NOT_ENFORCED: Final = "not enforced"
RETRY_NS: Final = 10 * 10**9
ENDINGS_A_CALL: Final = 1024
"""So that an hour's thousands of ends never hold up a batch; the rest follows a second later."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The two times that decisions need, in nanoseconds; offline both are packet time."""

    now: Callable[[], int]
    """Only grows; durations run by it."""
    wall: Callable[[], int]
    """For people."""


class Book:
    """What stands, who is let off, what was said. names: interface index to name, "" if unknown."""

    def __init__(
        self,
        policy: Policy,
        enforce: Enforce,
        *,
        guard: Guard,
        names: Callable[[int], str],
        clock: Clock,
    ) -> None:
        self.guard = guard
        self.clock = clock
        self.known_devices = 0
        """Set by the runtime: how many devices the protected side has."""
        self.failing_closed = ""
        """Why whom a trigger names is limited at present although nobody can judge it
        (on_classifier_down, on_queue_full = "closed"); empty: not so."""
        self.dirty = False
        """Something changed since the last `snapshot`."""
        self.enforcing = enforce.enabled
        """Decisions are enforced, but for a pause or the breaker."""
        self.configured = enforce.enabled
        self.standing = Standing(policy.max_decisions)
        self.offences = Offences(memory_s=policy.memory_s, most=policy.max_decisions)
        self.traces = Traces()
        self.breaker = Breaker(
            policy.breaker_per_minute,
            policy.breaker_lan_share,
            cool_down_s=policy.breaker_cool_down_s,
        )
        # Whoever can forge addresses can have as many of them accused as he likes. That must not
        # switch off what is decided about senders who cannot be forged.
        self.forgeable = Breaker(
            policy.breaker_per_minute, 2.0, cool_down_s=policy.breaker_cool_down_s
        )
        self.ceilings = Ceilings(enforce)
        self.policy = policy
        self.names = names
        self.paused_until_ns: int | None = None
        self.next_number = 1
        self._notes = Notes()
        self._evicted: list[Held] = []
        self._retry_ns = 0
        self._hosts = KnownHosts()
        self._entries = guard.protection.entries
        self._totals = dict.fromkeys(("made", "ended", "stepped_down", "evicted", "unnamed"), 0)

    # What stands -------------------------------------------------------------------------------

    def hold(self, held: Held, *, offends: bool = False) -> bool:
        """Let a decision with the next number stand; False where all others are stronger.

        What gives way to it ends with the next `expire`.
        """
        if self.standing.full and self.standing.get(held.subject) is None:
            weakest = self.standing.weakest()
            if weakest is None or held.strength <= weakest.strength:
                self.note("evicted", held.subject, "not decided: all that stands is stronger")
                return False
            self._totals["evicted"] += 1
            self.note("evicted", weakest.subject, "gave way: the table of decisions is full")
            self._remove(weakest)
            self._evicted.append(weakest)
        self.next_number = max(self.next_number, held.decision.number + 1)
        self.standing.put(held)
        if offends and held.enforced and not held.by_hand:
            self.offences.add(identity(held.subject), self.clock.now())
        self._totals["made"] += 1
        self.dirty = True
        trace = self.traces.of(identity(held.subject))
        trace.address = held.decision.address or trace.address
        self.traces.line(identity(held.subject), line(held.decision))
        return True

    def end(self, held: Held, why: str) -> Decision:
        """End what stands; return the decision that says so."""
        self._remove(held)
        return self._over(held, why)

    def _remove(self, held: Held) -> None:
        subject = identity(held.subject)
        self.standing.remove(subject)
        self.offences.touch(subject, self.clock.now())
        self.breaker.ended(subject)
        self.dirty = True

    def _over(self, held: Held, why: str) -> Decision:
        over = replace(
            held.decision,
            number=self.next_number,
            response=Response.OBSERVE,
            duration_s=0.0,
            reason=f"{name(held.decision.response)} of decision {held.decision.number} {why}",
            timestamp_ns=self.clock.wall(),
        )
        self.next_number += 1
        self._totals["ended"] += 1
        self.traces.line(identity(held.subject), line(over))
        return over

    def expire(self, now_ns: int) -> list[Decision]:
        """Return what has changed by itself until now: ended (OBSERVE, 0 s), stepped down, or,
        after a pause, to be enforced again with the time that is left."""
        evicted, self._evicted = self._evicted, []
        # One that was decided about anew since then stands by right.
        gone = [held for held in evicted if self.standing.get(held.subject) is None]
        changed = [self._over(held, "gave way to a stronger one") for held in gone]
        for _ in range(ENDINGS_A_CALL):
            held = self.standing.ending(now_ns)
            if held is None:
                break
            stepped = self._step_down(held, now_ns)
            if stepped is None:
                changed.append(self.end(held, "is over"))
            elif self.paused_until_ns is None:
                changed.append(stepped)
        if self.paused_until_ns is not None and now_ns >= self.paused_until_ns:
            self.paused_until_ns = None
            self.dirty = True
            self.note("pause", None, "the pause is over: what stands is enforced again")
            changed += self.in_force(now_ns)
        for breaker in (self.breaker, self.forgeable):
            if breaker.cooled(now_ns):
                self.note("breaker", None, "the breaker has cooled down: decisions are enforced")
                changed += self.drop_observed("its time under the breaker is over")
        return changed

    def _step_down(self, held: Held, now_ns: int) -> Decision | None:
        """Let a quarantine be followed by a probation; None where it is not."""
        probation_s = min(held.decision.duration_s, self.policy.probation_s)
        ends_ns = held.ends_ns + int(probation_s * 1e9)
        if (
            held.decision.response is not Response.QUARANTINE
            or held.by_hand
            or ends_ns <= now_ns
            or self.ceilings.everybody < Response.RATE_LIMIT
        ):
            return None
        milder = replace(
            held.decision,
            number=self.next_number,
            response=Response.RATE_LIMIT,
            duration_s=(ends_ns - now_ns) / 1e9,
            reason=f"probation after the quarantine of decision {held.decision.number}",
            timestamp_ns=self.clock.wall(),
        )
        row = Held(milder, Response.RATE_LIMIT, now_ns, ends_ns, count=held.count, probation=True)
        self.hold(row)
        self._totals["stepped_down"] += 1
        return row.decision

    def in_force(self, now_ns: int) -> list[Decision]:
        """Return what the kernel should hold, each with the time that is left of it."""
        if self.paused_until_ns is not None:
            return []
        rows = [held for held in self.standing if held.enforced and held.ends_ns > now_ns]
        return [replace(h.decision, duration_s=h.remaining_s(now_ns)) for h in rows]

    def not_held(self, now_ns: int) -> list[Decision]:
        """Return what the kernel should hold and has refused, every RETRY_NS: its tables may be
        back, a set may have room, an interface may have come up."""
        if now_ns < self._retry_ns:
            return []
        self._retry_ns = now_ns + RETRY_NS
        refused = {h.decision.number for h in self.standing if h.note.startswith(NOT_ENFORCED)}
        return [one for one in self.in_force(now_ns) if one.number in refused] if refused else []

    def drop_observed(self, why: str) -> list[Decision]:
        """End what was only recorded: from now on fresh evidence is enforced."""
        for held in self.standing:
            held.would = held.decision.response if held.enforced else held.would
        recorded = [h for h in self.standing if not h.enforced]
        return [self.end(held, why) for held in recorded]

    def surround(self, found: SystemFound, hosts: KnownHosts) -> list[Decision]:
        """Take over what the system and the network look like now; return the ends of decisions
        about whoever is let off by that. Cheap where nothing has changed."""
        protection = self.guard.protection
        same = hosts == self._hosts and protection.entries is self._entries
        if same and found == protection.found:
            return []
        old, entries, pins = protection.found, set(self._entries), len(protection.pins)
        for contradiction in protection.update(found, hosts):
            self.note("pin", None, contradiction)
        self.dirty |= len(protection.pins) != pins
        self._hosts, self._entries = hosts, protection.entries
        # Whether a device is let off depends on who has which address; whether an address is,
        # only on what is new: thousands of them are not looked at again each time.
        ours = (old.macs, old.addresses, old.networks)
        everybody = ours != (found.macs, found.addresses, found.networks)
        fresh = [entry for entry in protection.entries if entry not in entries]
        view = protection.view
        return self._let_off(
            [
                held
                for held in self.standing
                if everybody
                or held.subject.kind is Kind.MAC
                or best(fresh, held.subject, held.decision.address, view) is not None
            ]
        )

    def _let_off(self, concerned: Sequence[Held]) -> list[Decision]:
        ended = []
        for held in concerned:
            reason = self.guard.refuses(held.subject, held.decision.address)
            if reason is not None:
                self.offences.forget(identity(held.subject))
                ended.append(self.end(held, f"ended: {reason}"))
        return ended

    def settle(self, answers: Sequence[Applied]) -> list[Applied]:
        """Remember what the kernel said; return the answers about decisions that still stand and
        are not lifted by a pause."""
        current = []
        for answer in answers:
            held = self.standing.get(answer.decision.subject)
            if held is not None and held.decision.number == answer.decision.number:
                held.note = answer.note if answer.done else f"{NOT_ENFORCED}: {answer.note}"
                current.append(answer)
        return current if self.paused_until_ns is None else []

    # Telling -----------------------------------------------------------------------------------

    def note(self, kind: str, subject: Subject | None, text: str) -> None:
        """Record what was not done, or done otherwise; once a minute for the same subject."""
        now = self.clock.now()
        said = self._notes.say(Note(kind, subject, text, self.clock.wall()), now)
        if said and subject is not None and kind != "evicted":
            self.traces.line(identity(subject), f"{kind}: {text}")

    def notes(self) -> list[Note]:
        """Return what was noted since the last call, for the event log."""
        return self._notes.take()

    def held_because(self) -> str:
        """Return why nothing new is enforced at the moment; "" where it is."""
        if not self.enforcing:
            return "observe: enforcement is off"
        if self.paused_until_ns is not None:
            return "paused"
        return f"breaker: {self.breaker.why}" if self.breaker.holds else ""

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        enforced = sum(held.enforced for held in self.standing)
        return (
            {f"decisions_{name}": total for name, total in self._totals.items()}
            | {f"ledger_{kind}": total for kind, total in self._notes.totals.items()}
            | {
                "decisions_standing": len(self.standing),
                "decisions_enforced": enforced,
                "ledger_notes_dropped": self._notes.dropped,
                "ledger_breaker_holds": int(self.breaker.holds),
                "ledger_breaker_trips": self.breaker.trips + self.forgeable.trips,
            }
        )
