"""Notices in, each sent in its turn by a transport: queued, paced, tried again, counted.

A thread for each channel, so that a server that hangs holds up nobody else. Nothing is thrown away
for coming too fast: what exceeds the rate is told together, every incident named in it.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ids_appliance.config.notices import Notices
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry.incidents import Notice

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
LISTED: Final = 50
"""Incidents that a collective notice has the titles of; all of them are in its counts."""
CLOSE_S: Final = 3.0


class Refusal(NoticeError):
    """The other end does not take this notice, and will not take it later."""


class Transport(Protocol):
    """One way to tell. Called from one thread; may block for some seconds."""

    name: str

    def send(self, notice: Notice) -> None:
        """Hand over a notice. Raises NoticeError: not now; Refusal: never."""

    def show(self, standing: int) -> None:
        """Let be seen how many senders something is done about; raises NoticeError."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Watching:
    """How a channel sees time, and whom it tells of its troubles."""

    clock: Callable[[], float]
    """Seconds, monotonic."""
    note: Callable[[str, str], None] = lambda state, line: None
    """(warning or info, line for people); from the channel's thread."""


class Channel:
    """One transport with its queue and thread."""

    def __init__(self, transport: Transport, settings: Notices, watching: Watching) -> None:
        self.name = transport.name
        self._transport = transport
        self._watching = watching
        self._most = settings.queue
        self._per_s = settings.per_minute / 60
        self._burst = float(settings.per_minute)
        self._tokens, self._counted_s = self._burst, watching.clock()
        self._queue: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._busy = False
        self._standing, self._shown = 0, -1
        self._dropped = 0
        self._failing = False
        self._counts = Counter({"sent": 0, "lost": 0, "refused": 0, "failures": 0, "joined": 0})
        self._thread = threading.Thread(target=self._run, name=f"notices {self.name}", daemon=True)
        self._thread.start()

    def offer(self, notice: Notice | None, standing: int) -> None:
        """Take a notice, if any, and how many senders stand; never blocks, any thread."""
        with self._changed:
            self._standing = standing
            if notice is not None and len(self._queue) < self._most and not self._closing:
                self._queue.append(notice)
            elif notice is not None:
                self._counts["lost"] += 1
                self._dropped += 1
            self._changed.notify_all()

    def counters(self) -> dict[str, int]:
        """Return totals by name; `waiting` is a present number."""
        with self._changed:
            waiting = len(self._queue) + self._busy
            return {f"notices_{self.name}_{k}": n for k, n in self._counts.items()} | {
                f"notices_{self.name}_waiting": waiting
            }

    def close(self) -> None:
        """Try once to send what waits, for some seconds at most, and end; safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    # -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(self._due)
                ending = self._closing
                if ending and not self._queue:
                    break
                self._pace(ending)
                some, standing = self._next(), self._standing
                self._busy = bool(some)
            if self._deliver(some, standing):
                pause_s = FIRST_PAUSE_S
            elif ending:
                break
            else:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        with self._changed:
            self._counts["lost"] += len(self._queue)
            self._queue.clear()
        self._transport.close()

    def _due(self) -> bool:
        return bool(self._queue) or self._closing or self._standing != self._shown

    def _pace(self, ending: bool) -> None:
        """Wait until the next notice may go; holds the lock."""
        while self._queue and not self._closing and not ending:
            now = self._watching.clock()
            self._tokens = min(self._burst, self._tokens + (now - self._counted_s) * self._per_s)
            self._counted_s = now
            if self._tokens >= 1:
                return
            self._changed.wait((1 - self._tokens) / self._per_s)

    def _next(self) -> list[Notice]:
        """Take one notice, or all where there is no room for each of them; holds the lock."""
        if not self._queue:
            return []
        self._tokens -= 1
        if len(self._queue) <= max(1, int(self._tokens) + 1) and not self._closing:
            return [self._queue.popleft()]
        some = list(self._queue)
        self._queue.clear()
        return some

    def _deliver(self, some: list[Notice], standing: int) -> bool:
        """Send, then show; return whether the other end is there."""
        dropped = self._dropped
        try:
            if some:
                self._transport.send(together(some) | ({"lost": dropped} if dropped else {}))
                self._settle(some, "sent", dropped)
            if standing != self._shown:
                self._transport.show(standing)
                self._shown = standing
        except Refusal as error:
            self._settle(some, "refused", dropped)
            self._watching.note("warning", f"{self.name}: a notice was refused: {error}")
        except NoticeError as error:
            with self._changed:
                if self._busy:  # not sent yet
                    self._queue.extendleft(reversed(some))
                    self._busy = False
                self._counts["failures"] += 1
            if not self._failing:
                self._failing = True
                self._watching.note("warning", f"{self.name}: {error}; notices wait")
            return False
        if self._failing:
            self._failing = False
            self._watching.note("info", f"{self.name}: notices get through again")
        return True

    def _settle(self, some: Sequence[Notice], what: str, dropped: int) -> None:
        with self._changed:
            self._busy = False
            self._counts[what] += len(some)
            self._counts["joined"] += len(some) if len(some) > 1 else 0
            self._dropped -= dropped if some else 0


def together(some: Sequence[Notice]) -> Notice:
    """Return one notice for all of them; the only one where there is one."""
    if len(some) == 1:
        return some[0]
    counts = Counter(str(one.get("attack", "")) for one in some)
    what = ", ".join(f"{n} x {attack}" for attack, n in counts.most_common())
    return {
        "kind": "several",
        "title": f"{len(some)} incidents: {what}"[:400],
        "attack": "several",
        "host": some[-1].get("host", ""),
        "timestamp": some[-1].get("timestamp", ""),
        "counts": dict(counts),
        "incidents": [one.get("title", "") for one in some[:LISTED]],
        "n": len(some),
    }
