"""Decisions and events in, how often a subject has offended and what led to it out; bounded."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ids_appliance.policy.subjects import Named
from ids_appliance.types import Finding, Subject, TriggerEvent

MAX_TRACES: Final = 4096
LINES: Final = 16
EVENTS: Final = 8
MAX_TEXT: Final = 300


class Offences:
    """How many decisions were enforced about a subject, for the ladder of durations.

    Subjects by identity; at most `most`, the ones longest quiet give way. A subject quiet for
    memory_s starts over.
    """

    def __init__(self, *, memory_s: float, most: int) -> None:
        self._memory_ns = int(memory_s * 1e9)
        self._most = most
        self._rows: OrderedDict[Subject, tuple[int, int]] = OrderedDict()

    def count(self, subject: Subject, now_ns: int) -> int:
        """Return how many there were; 0 after a long quiet time."""
        count, last_ns = self._rows.get(subject, (0, now_ns))
        return count if now_ns - last_ns < self._memory_ns else 0

    def add(self, subject: Subject, now_ns: int) -> None:
        """Count one more."""
        self.put(subject, self.count(subject, now_ns) + 1, now_ns)

    def touch(self, subject: Subject, now_ns: int) -> None:
        """Let the quiet time begin now: a decision about it has ended."""
        if subject in self._rows:
            self.put(subject, self.count(subject, now_ns), now_ns)

    def put(self, subject: Subject, count: int, last_ns: int) -> None:
        """Set a row."""
        self._rows[subject] = (count, last_ns)
        self._rows.move_to_end(subject)
        if len(self._rows) > self._most:
            self._rows.popitem(last=False)

    def forget(self, subject: Subject) -> None:
        """Start over with a subject: somebody has released it."""
        self._rows.pop(subject, None)

    def rows(self) -> Iterator[tuple[Subject, int, int]]:
        """Yield (subject, count, last_ns), the longest quiet first."""
        for subject, (count, last_ns) in self._rows.items():
            yield subject, count, last_ns

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(slots=True)
class Trace:
    """What is remembered of one subject, for `why`."""

    address: bytes = b""
    finding: Finding | None = None
    """The latest."""
    events: deque[TriggerEvent] = field(default_factory=lambda: deque(maxlen=EVENTS))
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    """What was decided, refused and ended, the latest last."""


class Traces:
    """The subjects lately heard of, at most MAX_TRACES; the one longest unheard of gives way."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Subject, Trace] = OrderedDict()

    def of(self, subject: Subject) -> Trace:
        """Return a subject's trace, made if there is none, as the one heard of last."""
        trace = self._rows.setdefault(subject, Trace())
        self._rows.move_to_end(subject)
        if len(self._rows) > MAX_TRACES:
            self._rows.popitem(last=False)
        return trace

    def get(self, subject: Subject) -> Trace:
        """Return a subject's trace without making one."""
        return self._rows.get(subject, Trace())

    def line(self, subject: Subject, text: str) -> None:
        """Remember a line about a subject."""
        self.of(subject).lines.append(text[:MAX_TEXT])

    def matching(self, named: Named) -> list[Subject]:
        """Return the subjects that people mean, the one heard of last first."""
        found = [s for s, trace in self._rows.items() if named.means(s, trace.address)]
        return found[::-1]

    def __len__(self) -> int:
        return len(self._rows)
