"""Triggers, decisions and time in, the scrutiny window out: open or closed, with its record.

A state machine without I/O: the caller says what happened and when. Times are nanoseconds of one
clock, packet time offline and monotonic online, and never run backwards here: an earlier one
counts as the latest seen.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

import numpy as np

from ids_appliance import config
from ids_appliance._cells import tally
from ids_appliance.types import U8, Outcome, TriggerEvent

KEEP: Final = 1000
"""Records kept, the open one included."""
REARM_NS: Final = 10 * 10**9
"""A trigger that fired so recently is still firing: two of the rules' five-second windows."""
MAX_RULES: Final = 32
"""Rules counted apart in a record; the names come from outside (Zeek), so they are bounded."""
SAMPLE: Final = "sample"
MANUAL: Final = "manual"
CLOSE: Final = "close"
"""Key of the manual event that closes the window."""
# A member of an enumeration costs more to look up than its packets to count.
_JUDGED, _UNANSWERED, _SHED = map(int, (Outcome.JUDGED, Outcome.UNANSWERED, Outcome.SHED))
_OWN, _ECHO, _WAITING = map(int, (Outcome.OWN, Outcome.ECHO, Outcome.WAITING))
_CONTAINED: Final = int(Outcome.CONTAINED)


@dataclass(slots=True)
class WindowRecord:
    """One scrutiny window, from its cause to why it closed."""

    id: int
    rule: str
    """What opened it: a trigger's rule, sample, manual, always, or decision."""
    key: str
    detail: str
    cause: bytes | None
    """Canonical SENDER record of who the trigger names."""
    opened_ns: int
    sender: str = ""
    """The same for people; set by who owns the window."""
    closed_ns: int | None = None
    why: str = ""
    """Why it closed: quiet, sample over, manual, max_window, it found something (a sample), end."""
    seen: int = 0
    """Frames delivered while it was open, own ones and echoes left out."""
    judged: int = 0
    shed: int = 0
    unanswered: int = 0
    contained: int = 0
    cells_asked: int = 0
    votes: int = 0
    """Verdicts "malicious"."""
    triggers: int = 0
    decisions: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    """Triggers by rule."""

    @property
    def incident(self) -> bool:
        """True unless it was only a sample or stands open by configuration."""
        return self.rule not in (SAMPLE, "always")


@dataclass(frozen=True, slots=True)
class Change:
    """The window has opened or closed."""

    record: WindowRecord
    opened: bool
    goes_on: bool = False
    """The window stays open and only its record ends here, or begins: what was a sample has become
    an incident, and whom its trigger has named stays named."""


class Window:
    """The window. Each method that takes `now_ns` first lets time pass, and returns what changed.

    always: open from the first instant on, without end. asked: how many cells the classifier has
    been asked in all. A trigger of a sender in `contained` is counted and changes nothing.
    """

    def __init__(
        self,
        settings: config.Window,
        *,
        always: bool = False,
        asked: Callable[[], int] = lambda: 0,
    ) -> None:
        self._length_ns = round(settings.window_s * 1e9)
        self._max_ns = round(settings.max_window_s * 1e9)
        self._sample_ns = round(settings.sample_s * 1e9)
        self._always = always
        self._asked = asked
        self._numbers = count(1)
        self._now_ns = -(2**62)
        self._end_ns = 0
        self._last: tuple[int, TriggerEvent] | None = None
        self._under_way: deque[tuple[WindowRecord, int]] = deque()
        self._asked_before = 0
        self.records: deque[WindowRecord] = deque(maxlen=KEEP)
        """The latest windows, oldest first."""
        self.record: WindowRecord | None = None
        """The open window's."""
        self.contained: frozenset[bytes] = frozenset()
        """Canonical senders that are cut off at present."""
        self.counts = dict.fromkeys(
            (
                "windows",
                "window_samples",
                "window_triggers",
                "window_triggers_contained",
                "window_decisions",
                "window_decisions_late",
            ),
            0,
        )

    # What happens ------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> list[Change]:
        """Let time pass: closes what has come to its end, at the instant of that end."""
        self._now_ns = max(now_ns, self._now_ns)
        changes: list[Change] = []
        if self._always:
            if self.record is None:
                self._open(now_ns, "always", changes)
            return changes
        while self.record is not None:
            limit_ns = self.record.opened_ns + self._max_ns
            if min(self._end_ns, limit_ns) > self._now_ns:
                break
            if self._end_ns <= limit_ns:
                sample = self.record.rule == SAMPLE
                self._close(self._end_ns, "sample over" if sample else "quiet", changes)
                break
            self._close(limit_ns, "max_window", changes)
            if self._last is None or limit_ns - self._last[0] > REARM_NS:
                break
            self._open(limit_ns, self._last[1], changes)
        return changes

    def event(self, now_ns: int, event: TriggerEvent) -> list[Change]:
        """A trigger has fired: open, or stay open for a whole length from now."""
        changes = self.tick(now_ns)
        if event.rule == MANUAL and event.key == CLOSE:
            return changes + self.close(now_ns, MANUAL)
        if event.sender is not None and event.sender in self.contained:
            self.counts["window_triggers_contained"] += 1
            return changes
        self.counts["window_triggers"] += 1
        if event.rule == SAMPLE:
            if self.record is None:
                self._open(self._now_ns, event, changes)
                self._end_ns = self._now_ns + self._sample_ns
            return changes
        self._last = (self._now_ns, event)
        self._incident(event, changes)
        assert self.record is not None
        self.record.triggers += 1
        rules = self.record.rules
        rules[event.rule if event.rule in rules or len(rules) < MAX_RULES else "(others)"] += 1
        return changes

    def decision(self, now_ns: int, detail: str = "") -> list[Change]:
        """A sender was decided upon: stay open. One that comes too late opens nothing."""
        changes = self.tick(now_ns)
        if self.record is None:
            self.counts["window_decisions_late"] += 1
            return changes
        self.counts["window_decisions"] += 1
        self._incident(detail or "decision", changes, rule="decision")
        self.record.decisions += 1
        return changes

    def verdict(self, now_ns: int) -> list[Change]:
        """A packet was judged malicious, where that alone keeps the window open (S1)."""
        changes = self.tick(now_ns)
        if self.record is not None:
            self._incident("verdict", changes, rule="verdict")
        return changes

    def close(self, now_ns: int, why: str) -> list[Change]:
        """Close it now, whatever holds it open; an endless one opens again with the next tick."""
        changes = self.tick(now_ns)
        if self.record is not None:
            self._close(self._now_ns, why, changes)
        return changes

    def horizon_ns(self, now_ns: int) -> int | None:
        """Return the first instant after now at which time alone may change something, None if
        there is none. While it is closed: the earliest end of a window that opens from now on."""
        if self._always:
            return None
        if self.record is not None:
            return min(self._end_ns, self.record.opened_ns + self._max_ns)
        shortest = min(self._length_ns, self._max_ns)
        return max(now_ns, self._now_ns) + min(shortest, self._sample_ns or shortest)

    # What is counted ---------------------------------------------------------------------------

    def admitted(self, outcomes: U8) -> None:
        """Count frames that came while the window was open, by what the gate made of them."""
        if self.record is None or not len(outcomes):
            return
        n = tally(outcomes)
        record = self.record
        waiting = n[_WAITING]
        record.seen += len(outcomes) - n[_OWN] - n[_ECHO]
        record.contained += n[_CONTAINED]
        record.shed += n[_SHED]
        if waiting:
            self._under_way.append((record, waiting))

    def judged(self, outcomes: U8, verdicts: U8) -> None:
        """Count what became of frames that were let through, in their order, also after the
        window that let them through has closed."""
        at = 0
        while at < len(outcomes) and self._under_way:
            record, waiting = self._under_way.popleft()
            part = outcomes[at : at + waiting]
            n = tally(part)
            record.judged += n[_JUDGED]
            record.unanswered += n[_UNANSWERED]
            record.shed += n[_SHED]
            record.votes += int(np.count_nonzero(verdicts[at : at + waiting]))
            at += waiting
            if len(part) < waiting:
                self._under_way.appendleft((record, waiting - len(part)))

    def look(self) -> WindowRecord | None:
        """Return the open window's record, its cells counted up to now."""
        if self.record is not None:
            self.record.cells_asked = self._asked() - self._asked_before
        return self.record

    # -------------------------------------------------------------------------------------------

    def _incident(
        self, cause: TriggerEvent | str, changes: list[Change], *, rule: str = ""
    ) -> None:
        """Stay open for a length from now; what was only a sample becomes a window of its own."""
        goes_on = self.record is not None and self.record.rule == SAMPLE
        if goes_on:
            self._close(self._now_ns, "it found something", changes)
        if self.record is None:
            self._open(self._now_ns, cause, changes, rule=rule)
        if goes_on:
            changes[-2:] = [replace(change, goes_on=True) for change in changes[-2:]]
        self._end_ns = self._now_ns + self._length_ns

    def _open(
        self, at_ns: int, cause: TriggerEvent | str, changes: list[Change], *, rule: str = ""
    ) -> None:
        number = next(self._numbers)
        if isinstance(cause, TriggerEvent):
            record = WindowRecord(number, cause.rule, cause.key, cause.detail, cause.sender, at_ns)
        else:
            record = WindowRecord(number, rule or cause, "", cause, None, at_ns)
        self.record = record
        self.records.append(record)
        self._asked_before = self._asked()
        self.counts["windows" if record.incident else "window_samples"] += record.rule != "always"
        changes.append(Change(record, opened=True))

    def _close(self, at_ns: int, why: str, changes: list[Change]) -> None:
        record = self.look()
        assert record is not None
        record.closed_ns = at_ns
        record.why = why
        changes.append(Change(record, opened=False))
        self.record = None
