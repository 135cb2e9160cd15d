"""Events in, one JSON object a line out: into a file, into memory for questions, to followers.

Whoever reports an event never waits: the line is made at once and queued, a thread of its own
writes it. What a slow or full disk does not take is counted, and told by a `health` event once it
takes something again.
"""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ids_appliance.config import Events
from ids_appliance.telemetry.logfile import LogFile
from ids_appliance.telemetry.records import Describe, EventType, Head, line

TAIL: Final = 1000
_TAIL_BYTES: Final = 1 << 20
_QUEUE_BYTES: Final = 16 << 20
_BATCH_BYTES: Final = 1 << 16
_CLOSE_S: Final = 2.0


class Follower:
    """Lines as they come, for one reader; a slow one loses the oldest and is told how many."""

    def __init__(self, log: "EventLog", queue: int, wake: Callable[[], None] | None) -> None:
        self._log = log
        self._lines: deque[bytes] = deque(maxlen=queue)
        self._wake = wake
        self.lost = 0

    def put(self, text: bytes) -> None:
        """Take a line; only for EventLog, under its lock."""
        self.lost += len(self._lines) == self._lines.maxlen
        self._lines.append(text)
        if self._wake is not None:
            self._wake()

    def take(self, timeout_s: float = 0.0) -> list[bytes]:
        """Return the lines since the last call, waiting at most `timeout_s` for the first."""
        with self._log.changed:
            if timeout_s > 0:
                self._log.changed.wait_for(lambda: self._lines or self._log.closed, timeout_s)
            lines = list(self._lines)
            self._lines.clear()
        return lines

    def close(self) -> None:
        """Take no more lines; safe to call twice."""
        self._log.leave(self)


class EventLog:
    """The event log of one process; every method may be called from any thread."""

    def __init__(
        self,
        config: Events,
        *,
        path: Path,
        clock_ns: Callable[[], int],
        host: str,
        describe: Describe | None = None,
    ) -> None:
        """Open the log: `config.file`, or `path` where it is empty.

        `clock_ns` gives nanoseconds since the epoch. Raises EventLogError: not to be opened."""
        where = None if config.file == "-" else Path(config.file or path)
        limit = int(config.rotate_mib * (1 << 20))
        self._file = LogFile(where, limit_bytes=limit, keep=config.keep)
        self._batch = min(_BATCH_BYTES, limit)
        self._clock_ns = clock_ns
        self._host = host
        self._describe = describe
        self._prefix = f"{clock_ns() // 1_000_000:x}"
        self._max_queue = config.queue
        # One lock for all, held for moments only; re-entrant, for a signal handler may report.
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self._reopen = False
        self._busy = False
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._followers: tuple[Follower, ...] = ()
        self._listeners: tuple[Callable[[dict[str, Any]], None], ...] = ()
        self._numbers = 0
        self._counts = dict.fromkeys(("emitted", "written", "dropped", "lost", "failures"), 0)
        self._told = 0
        self._writer = threading.Thread(target=self._write, name="event log", daemon=True)
        self._writer.start()

    def emit(
        self, event_type: EventType, *, timestamp_ns: int | None = None, **fields: object
    ) -> str:
        """Report an event and return its id; see records.line for the fields. Never waits.

        `timestamp_ns`: when it happened, since the epoch; now where not given."""
        with self.changed:
            self._numbers += 1
            event_id = f"{self._prefix}-{self._numbers}"
        now = self._clock_ns() if timestamp_ns is None else timestamp_ns
        text = line(Head(event_type, event_id, now, self._host), fields, self._describe)
        with self.changed:
            self._counts["emitted"] += 1
            self._keep(text)
            if self.closed:
                self._counts["dropped"] += 1
            else:
                self._enqueue(text)
            for follower in self._followers:
                follower.put(text)
            self.changed.notify_all()
        for listener in self._listeners:
            listener(msgspec.json.decode(text))
        return event_id

    def events(self, n: int = TAIL) -> list[dict[str, Any]]:
        """Return the latest n events, the oldest first, whatever became of them on the disk."""
        return [msgspec.json.decode(text) for text in self.tail(n)]

    def tail(self, n: int = TAIL) -> list[bytes]:
        """Return the lines of the latest n events, the oldest first."""
        with self.changed:
            return list(self._tail)[-n:] if n > 0 else []

    def follow(self, queue: int = 256, *, wake: Callable[[], None] | None = None) -> Follower:
        """Return a reader of all events from now on.

        `wake` is called at each, in the thread that reports it, and must not wait."""
        follower = Follower(self, queue, wake)
        with self.changed:
            self._followers = (*self._followers, follower)
        return follower

    def publish_to(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call `listener` with each event from now on, in the thread that reports it."""
        with self.changed:
            self._listeners = (*self._listeners, listener)

    def leave(self, follower: Follower) -> None:
        """Forget a follower."""
        with self.changed:
            self._followers = tuple(one for one in self._followers if one is not follower)

    def reopen(self) -> None:
        """Open the file anew before the next line (SIGHUP, `reload`)."""
        with self.changed:
            self._reopen = True
            self.changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued; False where that took too long."""
        with self.changed:
            return self.changed.wait_for(lambda: not (self._queue or self._busy), timeout_s)

    def counters(self) -> dict[str, int]:
        """Return totals; emitted = written + dropped + lost + waiting at every instant.

        Lines that the log itself adds about its losses count as emitted too."""
        with self.changed:
            counts = {f"log_{name}": value for name, value in self._counts.items()}
            settled = sum(self._counts[name] for name in ("written", "dropped", "lost"))
            counts["log_waiting"] = self._counts["emitted"] - settled
            counts["log_rotations"] = self._file.rotations
            counts["log_follower_lost"] = sum(one.lost for one in self._followers)
        return counts

    @property
    def problem(self) -> str:
        """What keeps lines from the disk at the moment, for people; empty where nothing does."""
        return self._file.problem

    def close(self) -> None:
        """Write what is queued, for at most two seconds, and end; safe to call twice."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self._writer.join(_CLOSE_S)

    def _keep(self, text: bytes) -> None:
        self._tail.append(text)
        self._tail_bytes += len(text)
        while len(self._tail) > TAIL or self._tail_bytes > _TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def _enqueue(self, text: bytes) -> None:
        self._queue.append(text)
        self._queue_bytes += len(text)
        while len(self._queue) > self._max_queue or self._queue_bytes > _QUEUE_BYTES:
            self._queue_bytes -= len(self._queue.popleft())
            self._counts["dropped"] += 1

    def _write(self) -> None:
        """Run the writing thread."""
        while batch := self._next():
            if self._reopen:
                self._reopen = False
                self._file.reopen()
            kept = self._file.write(b"".join(batch))
            self._settle(batch, kept)
        self._file.close()

    def _next(self) -> list[bytes]:
        """Return the next lines to write, waiting for the first; none at the end."""
        with self.changed:
            self._busy = False
            self.changed.notify_all()
            self.changed.wait_for(lambda: self._queue or self.closed)
            batch: list[bytes] = []
            size = 0
            while self._queue and (not batch or size + len(self._queue[0]) <= self._batch):
                batch.append(self._queue.popleft())
                size += len(batch[-1])
            self._queue_bytes -= size
            self._busy = bool(batch)
        return batch

    def _settle(self, batch: list[bytes], kept: int) -> None:
        """Count what became of a batch; tell of losses once lines are taken again."""
        written = 0
        while kept > 0:
            kept -= len(batch[written])
            written += 1
        with self.changed:
            self._counts["written"] += written
            self._counts["lost"] += len(batch) - written
            self._counts["failures"] += written < len(batch)
            missing = self._counts["lost"] + self._counts["dropped"]
            # Once the backlog is gone, or there has been another queue of losses: not at each line.
            due = not self._queue or missing - self._told > self._max_queue
            if written < len(batch) or missing == self._told or not due or self.closed:
                return
            untold, self._told = missing - self._told, missing
        self.emit(
            "health",
            what="events_lost",
            detail=f"{untold} events did not reach the log: disk full or too slow",
            events=untold,
            total=missing,
        )
