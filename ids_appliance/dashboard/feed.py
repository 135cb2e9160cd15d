"""A gateway's sockets in, what all open pages show out: asked once for all of them, kept in bounds.

A page that is open for a day makes nothing grow: the series have LATEST samples, the pages of
decisions that somebody looks at are PAGES at most, and all is replaced as it is asked again.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ids_appliance.gateway.actions import DecisionPage, Status, WindowInfo
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskEvents, AskPage, AskStatus, AskWindows

LATEST: Final = 150
"""Samples of the series: five minutes at one in two seconds."""
WINDOWS: Final = 60
EVENTS: Final = 200
PAGES: Final = 8
ROWS: Final = 15
"""Decisions in a page."""
DEADLINE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class View:
    """What somebody looks at; only that is asked for."""

    offset: int = 0
    """Of the decisions."""
    find: str = ""
    windows: bool = False
    events: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters at one moment."""

    at_s: float
    """By the clock of this process."""
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the gateway has answered."""

    status: Status
    page: DecisionPage
    windows: tuple[WindowInfo, ...]
    """The latest first; none where nobody looks at them."""
    events: tuple[dict[str, Any], ...]
    """The oldest first; none where nobody looks at them."""
    samples: tuple[Sample, ...]
    """The oldest first; all of one run of the gateway."""
    took_s: float
    """How long the gateway took to answer."""


class Feed:
    """One gateway's answers; every thread may ask."""

    def __init__(self, run_dir: Path, *, clock: Callable[[], float], fresh_s: float) -> None:
        """clock: monotonic seconds. fresh_s: for so long an answer does for everybody."""
        self._run_dir = run_dir
        self._clock = clock
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=LATEST)
        self._pid = 0
        self._status: tuple[float, Status] | None = None
        self._readings: OrderedDict[View, tuple[float, Reading]] = OrderedDict()

    def forget(self) -> None:
        """Ask again next time: something was ordered."""
        with self._lock:
            self._status = None
            self._readings.clear()

    def read(self, view: View) -> Reading:
        """Return the present. Raises ControlError, NotRunning, PermissionMissing."""
        with self._lock:
            now = self._clock()
            known = self._readings.get(view)
            if known is not None and now - known[0] < self._fresh_s:
                return known[1]
            reading = self._ask(view, now)
            self._readings[view] = (now, reading)
            self._readings.move_to_end(view)
            while len(self._readings) > PAGES:
                self._readings.popitem(last=False)
            return reading

    def _ask(self, view: View, now: float) -> Reading:
        with Client(self._run_dir, deadline_s=DEADLINE_S) as client:
            status = self._present(client, now)
            page = client.ask(AskPage(n=ROWS, offset=view.offset, find=view.find))
            windows = client.ask(AskWindows(n=WINDOWS)) if view.windows else ()
            events = client.ask(AskEvents(n=EVENTS)) if view.events else ()
        return Reading(
            status=status,
            page=page,
            windows=tuple(windows),
            events=tuple(events),
            samples=tuple(self._samples),
            took_s=self._clock() - now,
        )

    def _present(self, client: Client, now: float) -> Status:
        """Return the status; who turns a page does not ask for it again while it is fresh."""
        if self._status is not None and now - self._status[0] < self._fresh_s:
            return self._status[1]
        status = client.ask(AskStatus())
        if status.pid != self._pid:  # another run counts from zero
            self._samples.clear()
            self._pid = status.pid
        if not self._samples or now - self._samples[-1].at_s >= self._fresh_s / 2:
            self._samples.append(Sample(now, status.counters))
        self._status = (now, status)
        return status


def rates(samples: tuple[Sample, ...], names: dict[str, str]) -> list[dict[str, Any]]:
    """Return rows {ago_s, what, per_s} of the counters `names` (name -> what people call it).

    ago_s: seconds before the latest sample, negative. Several names of one thing add up."""
    rows = []
    latest = samples[-1].at_s if samples else 0.0
    for before, after in zip(samples, samples[1:], strict=False):
        span = after.at_s - before.at_s
        per_s: dict[str, float] = {}
        for name, what in names.items():
            grown = after.counters.get(name, 0) - before.counters.get(name, 0)
            per_s[what] = per_s.get(what, 0.0) + max(0, grown) / span
        rows += [
            {"ago_s": round(after.at_s - latest, 1), "what": what, "per_s": round(rate, 2)}
            for what, rate in per_s.items()
        ]
    return rows


def rate(samples: tuple[Sample, ...], *names: str) -> float | None:
    """Return how many per second there were between the two latest samples; None: not known yet."""
    rows = rates(samples[-2:], dict.fromkeys(names, "all"))
    return float(rows[-1]["per_s"]) if rows else None
