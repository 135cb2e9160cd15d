"""A ledger in, what outlives a restart out; and back, every element looked at as if hostile.

The state file may be old, damaged, or written by somebody else. So each element is checked by
itself: wrong types and sizes, subjects that cannot be, those who are protected or allowed by now,
times without end. What does not pass is left out and counted; the rest stands.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from ids_appliance.config.terms import Response as ResponseName
from ids_appliance.errors import SubjectError
from ids_appliance.policy.allow import MAX_COMMENT, MAX_ENTRIES, Allowed
from ids_appliance.policy.book import Book
from ids_appliance.policy.protect import MAX_PINS
from ids_appliance.policy.standing import Held
from ids_appliance.policy.subjects import identity
from ids_appliance.policy.wording import duration_text, name
from ids_appliance.types import Decision, Kind, Response, Subject

MAX_TEXT: Final = 1000
MAX_S: Final = 315_360_000.0
"""Ten years, the longest duration that a configuration may have."""
SAFE: Final = 2**53
"""Integers that every JSON reader keeps exact."""
SIZES: Final = {Kind.MAC: (6,), Kind.IPV4: (4,), Kind.IPV6: (8,), Kind.FLOOD: (4, 16)}

Hex = Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){0,16}$")]
Name = Annotated[str, Meta(max_length=15)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Number = Annotated[int, Meta(ge=0, le=SAFE)]
Instant = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Duration = Annotated[float, Meta(gt=0, le=MAX_S)]
Remaining = Annotated[float, Meta(ge=-MAX_S, le=MAX_S)]
T = TypeVar("T")


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all elements share."""


class KeptSubject(Kept, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject."""

    kind: Literal["mac", "ipv4", "ipv6", "flood"]
    value: Hex
    interface: Name = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    proven: bool = True


class KeptDecision(Kept, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One standing decision."""

    number: Number
    subject: KeptSubject
    response: ResponseName
    would: ResponseName
    duration_s: Duration
    remaining_s: Remaining
    age_s: Remaining
    reason: Text
    timestamp_ns: Instant
    address: Hex = ""
    score: float = 0.0
    count: Annotated[int, Meta(ge=1, le=SAFE)] = 1
    alone: bool = False
    by_hand: bool = False
    probation: bool = False


class KeptOffence(Kept, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a subject has offended, and how long ago the last time was."""

    subject: KeptSubject
    count: Annotated[int, Meta(ge=1, le=SAFE)]
    quiet_s: Annotated[float, Meta(ge=0, le=MAX_S)]


class KeptAllow(Kept, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the allow list."""

    text: Annotated[str, Meta(max_length=64)]
    interface: Name = ""
    mac: Hex = ""
    comment: Annotated[str, Meta(max_length=MAX_COMMENT)] = ""
    since_ns: Instant = 0


class KeptPin(Kept, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The MAC that a protected address is bound to."""

    interface: Name
    address: Hex
    mac: Hex


class Snapshot(msgspec.Struct, kw_only=True):
    """What outlives a restart. The lists hold JSON of one element each, unread."""

    next_number: Number = 1
    enforcing: bool = False
    configured: bool = False
    """What the configuration said then: if it says something else now, that is the later word."""
    paused_s: Annotated[float, Meta(ge=0, le=MAX_S)] = 0.0
    breaker_s: Annotated[float, Meta(ge=0, le=MAX_S)] = 0.0
    breaker_trips: Number = 0
    decisions: list[msgspec.Raw] = []
    offences: list[msgspec.Raw] = []
    allow: list[msgspec.Raw] = []
    pins: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a snapshot."""

    decisions: tuple[Decision, ...]
    """To be enforced, with the time that is left."""
    notes: tuple[str, ...]
    """For people, one line each."""


def snapshot(book: Book) -> Snapshot:
    """Return what is to be kept of a ledger, and mark it clean."""
    now = book.clock.now()
    book.dirty = False
    paused = book.paused_until_ns
    return Snapshot(
        next_number=book.next_number,
        enforcing=book.enforcing,
        configured=book.configured,
        paused_s=max(0.0, (paused - now) / 1e9) if paused is not None else 0.0,
        breaker_s=book.breaker.remaining_s(now),
        breaker_trips=min(book.breaker.trips, SAFE),
        decisions=_raw(_keep(held, now) for held in book.standing),
        offences=_raw(
            KeptOffence(
                subject=_subject(subject),
                count=count,
                quiet_s=min(MAX_S, max(0.0, (now - last_ns) / 1e9)),
            )
            for subject, count, last_ns in book.offences.rows()
        ),
        allow=_raw(
            KeptAllow(
                text=entry.text,
                interface=entry.interface,
                mac=entry.mac.hex(),
                comment=entry.comment,
                since_ns=entry.since_ns,
            )
            for entry in book.guard.allow.entries()
        ),
        pins=_raw(
            KeptPin(interface=interface, address=address.hex(), mac=mac.hex())
            for (interface, address), mac in book.guard.protection.pins.items()
        ),
    )


def restore(book: Book, kept: Snapshot, *, elapsed_s: float) -> Restored:
    """Take up a snapshot that was made `elapsed_s` ago in a ledger that is still empty.

    Decisions about whoever is protected or allowed by now are left out; ceilings that have come
    down bind; where enforcement is off by now, nothing is taken up that was enforced.
    """
    reader = _Reader(book)
    elapsed_s = max(0.0, elapsed_s)
    now = book.clock.now()
    before = book.next_number
    reader.take(kept.pins[:MAX_PINS], KeptPin, reader.pin)
    book.guard.protection.adopt(reader.pins)
    reader.take(kept.allow[:MAX_ENTRIES], KeptAllow, reader.allow)
    if kept.configured == book.configured:
        book.enforcing = kept.enforcing
    if kept.paused_s > elapsed_s:
        book.paused_until_ns = now + int((kept.paused_s - elapsed_s) * 1e9)
    book.breaker.restore(kept.breaker_s - elapsed_s, kept.breaker_trips, now_ns=now)
    most = book.policy.max_decisions
    reader.elapsed_s = elapsed_s
    reader.take(kept.offences[-most:], KeptOffence, reader.offence)
    reader.take(kept.decisions[:most], KeptDecision, reader.decision)
    book.next_number = max(before, kept.next_number, book.next_number)
    over = [*kept.pins[MAX_PINS:], *kept.allow[MAX_ENTRIES:], *kept.decisions[most:]]
    return Restored(tuple(book.in_force(now)), tuple(reader.notes(len(over), elapsed_s)))


class _Reader:
    """Elements in, one by one; what is wrong with them counted by reason."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._wrong: dict[str, int] = {}
        self._expired = 0
        self._taken = 0
        self.elapsed_s = 0.0
        self.pins: dict[tuple[str, bytes], bytes] = {}

    def take(self, rows: Iterable[msgspec.Raw], kind: type[T], use: Callable[[T], str]) -> None:
        """Decode each row and use it; `use` returns why not, or ""."""
        for raw in rows:
            try:
                why = use(msgspec.json.decode(raw, type=kind))
            except (msgspec.DecodeError, SubjectError, RecursionError, UnicodeDecodeError):
                why = "not as written by this program"
            if why:
                self._wrong[why] = self._wrong.get(why, 0) + 1

    def notes(self, too_many: int, elapsed_s: float) -> Iterable[str]:
        """Yield what people should know."""
        if self._taken or self._expired:
            yield (
                f"{self._taken} decisions are taken up again, {self._expired} have ended in the "
                f"{duration_text(elapsed_s)} since they were saved"
            )
        for why, count in sorted(self._wrong.items()):
            yield f"{count} elements of the state file are left out: {why}"
        if too_many:
            yield f"{too_many} elements of the state file are left out: too many"

    def pin(self, row: KeptPin) -> str:
        address, mac = bytes.fromhex(row.address), bytes.fromhex(row.mac)
        if len(address) not in (4, 16) or len(mac) != 6:
            return "not as written by this program"
        self.pins[(row.interface, address)] = mac
        return ""

    def allow(self, row: KeptAllow) -> str:
        mac = bytes.fromhex(row.mac)
        if len(mac) not in (0, 6):
            return "not as written by this program"
        self._book.guard.allow.put(Allowed(row.text, row.interface, mac, row.comment, row.since_ns))
        return ""

    def offence(self, row: KeptOffence) -> str:
        quiet_s = row.quiet_s + self.elapsed_s
        if quiet_s < self._book.policy.memory_s:
            last_ns = self._book.clock.now() - int(quiet_s * 1e9)
            self._book.offences.put(identity(_parsed(row.subject)), row.count, last_ns)
        return ""

    def decision(self, row: KeptDecision) -> str:
        book, now = self._book, self._book.clock.now()
        subject = _parsed(row.subject)
        address = bytes.fromhex(row.address)
        response, would = Response[row.response.upper()], Response[row.would.upper()]
        if len(address) not in (0, 4, 16) or row.remaining_s > row.duration_s + 1:
            return "not as written by this program"
        if not math.isfinite(row.score) or would < response:
            return "not as written by this program"
        if book.standing.get(subject) is not None:
            return "a subject that stands already"
        reason = book.guard.refuses(subject, address)
        if reason is None and response > Response.RATE_LIMIT:
            reason = book.guard.doubts(subject, address)
        if reason is not None:
            return reason
        if response > Response.OBSERVE and not book.enforcing:
            return "enforcement is off"
        own = book.ceilings.of(subject, address, book.guard)[0]
        most = own if row.by_hand else min(own, book.ceilings.everybody)
        if subject.kind is not Kind.FLOOD and response > most:
            return f"above the ceiling ({name(most)})"
        remaining_s = row.remaining_s - self.elapsed_s
        probation_s = min(row.duration_s, book.policy.probation_s)
        steps_down = response is Response.QUARANTINE and not row.by_hand
        if remaining_s + (probation_s if steps_down else 0.0) <= 0:
            self._expired += 1
            book.next_number = max(book.next_number, row.number + 1)
            return ""
        made = Decision(
            number=row.number,
            subject=subject,
            response=response,
            duration_s=row.duration_s,
            reason=row.reason,
            timestamp_ns=row.timestamp_ns,
            address=address,
            score=row.score,
        )
        held = Held(
            made,
            would,
            began_ns=now - int((row.age_s + self.elapsed_s) * 1e9),
            ends_ns=now + int(remaining_s * 1e9),
            count=row.count,
            alone=row.alone,
            by_hand=row.by_hand,
            probation=row.probation,
        )
        book.hold(held)
        self._taken += 1
        return ""


def _keep(held: Held, now: int) -> KeptDecision:
    made = held.decision
    return KeptDecision(
        number=made.number,
        subject=_subject(made.subject),
        response=_named(made.response),
        would=_named(held.would),
        duration_s=made.duration_s,
        remaining_s=(held.ends_ns - now) / 1e9,
        age_s=(now - held.began_ns) / 1e9,
        reason=made.reason[:MAX_TEXT],
        timestamp_ns=made.timestamp_ns,
        address=made.address.hex(),
        score=made.score if math.isfinite(made.score) else 0.0,
        count=held.count,
        alone=held.alone,
        by_hand=held.by_hand,
        probation=held.probation,
    )


def _named(response: Response) -> Any:
    return name(response)


def _subject(subject: Subject) -> KeptSubject:
    return KeptSubject(
        kind=subject.kind.value,
        value=subject.value.hex(),
        interface=subject.interface,
        port=subject.port,
        proven=subject.proven,
    )


def _parsed(kept: KeptSubject) -> Subject:
    """Return a subject. Raises SubjectError: it cannot be one."""
    subject = Subject(
        Kind(kept.kind), bytes.fromhex(kept.value), kept.interface, kept.port, kept.proven
    )
    if len(subject.value) not in SIZES[subject.kind]:
        raise SubjectError("a subject of the wrong size")
    if (subject.kind is Kind.FLOOD) != (subject.port > 0):
        raise SubjectError("a port belongs to a flood")
    return subject


def _raw(rows: Iterable[Kept]) -> list[msgspec.Raw]:
    return [msgspec.Raw(msgspec.json.encode(row)) for row in rows]
