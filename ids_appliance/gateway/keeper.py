"""Snapshots in, the state file out, from a thread of its own: the loop never waits for the disk."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from ids_appliance.errors import StateError
from ids_appliance.gateway.surroundings import boot_id
from ids_appliance.policy.kept import Snapshot
from ids_appliance.policy.store import Loaded, Moment, Store


class Clocks(Protocol):
    """Who knows the time of day."""

    @property
    def wall_ns(self) -> Callable[[], int]:
        """Return the clock: nanoseconds since the epoch."""


class Keeper:
    """A Store whose `save` returns at once; of snapshots that wait only the latest is written.

    A disk that does not take it is told of once, until it does again; the snapshot is tried anew
    with the next one.
    """

    def __init__(self, directory: Path, *, clocks: Clocks) -> None:
        self._store = Store(directory)
        self._clocks = clocks
        self._boot_id = boot_id()
        self._notes: deque[str] = deque(maxlen=16)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._waiting: deque[Snapshot] = deque(maxlen=1)
        self._last: Future[None] | None = None
        self.problem = ""
        """Why the disk has not taken the latest snapshot, in a line; empty where it has."""
        self.saved = 0

    def load(self) -> Loaded | None:
        """Return what was saved, None where nothing was. Raises StateError."""
        found = self._store.load(self._moment())
        if found.note:
            self._notes.append(found.note)
        return found if found.snapshot is not None else None

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot soon."""
        self._waiting.append(snapshot)
        if self._last is not None and self._last.done():
            self._last.result()  # what is no StateError is a bug of ours: not to be lost
        self._last = self._pool.submit(self._write)

    @property
    def failing(self) -> bool:
        """Return whether the disk has not taken the latest snapshot."""
        return bool(self.problem)

    def notes(self) -> list[str]:
        """Return lines for people since the last call."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def close(self) -> None:
        """Write what waits, then end the thread; safe to call twice."""
        self._pool.shutdown()
        if self._last is not None:
            self._last.result()

    def _write(self) -> None:
        if not self._waiting:
            return
        try:
            self._store.save(self._waiting.popleft(), self._moment())
        except StateError as error:
            if not self.problem:
                self._notes.append(str(error))
            self.problem = str(error)
            return
        if self.problem:
            self._notes.append("decisions are saved again")
        self.problem = ""
        self.saved += 1

    def _moment(self) -> Moment:
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Moment(self._clocks.wall_ns(), self._boot_id, boot_ns)
