"""What the ledger did not do, or did otherwise, in; each said once and the repetitions counted."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from ids_appliance.types import Subject

HOLD_NS: Final = 60 * 10**9
MAX_WAITING: Final = 1024
MAX_SAID: Final = 1024
MAX_TEXT: Final = 500


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the event log."""

    kind: str
    """refused, capped, held, breaker, evicted, expired, state, enforce, pause, pin."""
    subject: Subject | None
    text: str
    timestamp_ns: int
    """Wall clock, or packet time."""
    repeated: int = 0
    """How often the same was not said since it was said last."""


class Notes:
    """A bounded queue of notes; the same about the same subject once a minute."""

    def __init__(self) -> None:
        self._waiting: deque[Note] = deque()
        self._said: OrderedDict[tuple[str, Subject | None], tuple[int, int]] = OrderedDict()
        self.totals: dict[str, int] = {}
        """Kind -> how many, repetitions included."""
        self.dropped = 0

    def say(self, note: Note, now_ns: int) -> bool:
        """Take a note; return whether it is a new one. What nobody takes gives way, the oldest
        first, counted in `dropped`."""
        self.totals[note.kind] = self.totals.get(note.kind, 0) + 1
        key = (note.kind, note.subject)
        last_ns, kept_back = self._said.get(key, (now_ns - HOLD_NS, 0))
        if note.subject is not None and now_ns - last_ns < HOLD_NS:
            self._said[key] = (last_ns, kept_back + 1)
            return False
        self._said[key] = (now_ns, 0)
        self._said.move_to_end(key)
        if len(self._said) > MAX_SAID:
            self._said.popitem(last=False)
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(
            Note(note.kind, note.subject, note.text[:MAX_TEXT], note.timestamp_ns, kept_back)
        )
        return True

    def take(self) -> list[Note]:
        """Return what has been said since the last call."""
        found = list(self._waiting)
        self._waiting.clear()
        return found
