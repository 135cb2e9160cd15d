"""Batches in, what becomes of each frame out: screened, contained, or to be judged.

The screen marks the frames and says what has fired; the window says whether it is open. Frames
before the one that crossed a threshold stay screened, those from it on are judged.

In packet time (no clock given) a batch is cut at each instant at which time alone may change
something, so that the outcomes do not depend on how the frames fell into batches. Live, time
passes once a batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ids_appliance.trigger.overload import Overload
from ids_appliance.trigger.window import Change, Window
from ids_appliance.types import U8, FrameBatch, Outcome, Records, Trigger, TriggerEvent

MAX_EVENTS: Final = 256
"""Events of one screening that are looked at, decisive ones first; the rest are counted."""


class Screen(Protocol):
    """The prescreener: counts what the rules need, marks frames. Implementation: `_screen`."""

    def screen(
        self, data: U8, frames: Records, host: bytes, marks: U8
    ) -> Sequence[tuple[Any, ...] | TriggerEvent]:
        """Set frames["standing"] and marks (WAITING, or the frame's last word); return what has
        fired, as TriggerEvents or tuples of their fields."""

    def expire(self, now_ns: int) -> Sequence[tuple[Any, ...] | TriggerEvent]:
        """Return what fires because no answer came."""

    def contain(self, senders: Records) -> None:
        """Replace the set of canonical senders whose frames are CONTAINED."""

    def open_window(self) -> None:
        """Begin a window: whom triggers name is SUSPECT until it closes."""

    def close_window(self) -> None:
        """End it."""

    def name(self, sender: bytes) -> None:
        """Make a sender SUSPECT that a trigger from outside names."""

    def floods(self) -> Sequence[tuple[int, bytes]]:
        """Return the flood slots of the present window with their FLOOD records."""

    def devices(self) -> Sequence[Any]:
        """Return the senders of the protected side that were seen."""

    def counters(self) -> dict[str, int]:
        """Totals by name."""


@runtime_checkable
class Timed(Protocol):
    """A trigger that knows when it fires next."""

    due_ns: int | None


class ScrutinyGate:
    """A `types.Gate`. Not safe for use by several threads.

    clock: monotonic nanoseconds; None: packet time. on_events gets what fired, of a screening at a
    time, before the frames are judged; on_window what opened and closed.
    """

    def __init__(
        self,
        screen: Screen,
        window: Window,
        *,
        triggers: Sequence[Trigger] = (),
        clock: Callable[[], int] | None = None,
        on_events: Callable[[Sequence[TriggerEvent]], None] = lambda events: None,
    ) -> None:
        self.screen = screen
        self.window = window
        self.overload: Overload | None = None
        """None: nothing is ever given up here (offline)."""
        self.on_frames: Callable[[FrameBatch], None] = lambda batch: None
        """Sees every batch before it is screened; keeps nothing of it."""
        self.on_window: Callable[[Change], None] = lambda change: None
        self._triggers = tuple(triggers)
        self._timed = tuple(trigger for trigger in triggers if isinstance(trigger, Timed))
        self._clock = clock
        self._on_events = on_events
        self._now_ns = clock() if clock is not None else 0
        self._started = clock is not None
        self._packet: tuple[int, int] | None = None
        self.counts = {"gate_batches": 0, "gate_slices": 0, "gate_events_dropped": 0}

    @property
    def now_ns(self) -> int:
        """The present: the latest packet's time, or the clock's."""
        if self._clock is not None:
            self._now_ns = max(self._now_ns, self._clock())
        return self._now_ns

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """Return (n,) of Outcome: WAITING for a frame to be judged; Gate."""
        frames = batch.frames
        n = len(frames)
        outcomes = np.empty(n, np.uint8)
        outcomes.fill(Outcome.WAITING)
        self.counts["gate_batches"] += 1
        if not n:
            return outcomes
        self.on_frames(batch)
        if self._clock is not None:
            self.tick(self._clock())
            self._packet = (int(frames["timestamp_ns"][-1]), self._now_ns)
            self._slice(batch, host, outcomes, None)
            return outcomes
        if not self._started:
            self._now_ns, self._started = int(frames["timestamp_ns"][0]), True
        times = np.maximum.accumulate(frames["timestamp_ns"])
        np.maximum(times, self._now_ns, out=times)
        at = 0
        while at < n:
            now_ns = int(times[at])
            self.tick(now_ns)
            end = n
            horizon_ns = self._horizon_ns(now_ns)
            if horizon_ns is not None:
                end = max(at + 1, int(np.searchsorted(times, horizon_ns, side="left")))
            part = FrameBatch(batch.data, frames[at:end])
            self._slice(part, host, outcomes[at:end], times[at:end])
            self._now_ns = int(times[end - 1])
            at = end
        return outcomes

    def tick(self, now_ns: int) -> None:
        """Let time pass where no packets come: closes the window, asks the triggers."""
        self._now_ns, self._started = max(now_ns, self._now_ns), True
        self._changed(self.window.tick(self._now_ns))
        for trigger in self._triggers:
            events = trigger.poll(self._now_ns)
            for event in events:
                if event.sender is not None:
                    self.screen.name(event.sender)
                self._changed(self.window.event(self._now_ns, event))
            if events:
                self._on_events(events)

    def expire(self, now_ns: int) -> None:
        """Let the screen look for answers that did not come, where no packets come."""
        self.tick(now_ns)
        if self._clock is not None:
            # The screen counts in packet time, which runs on from the latest packet.
            if self._packet is None:
                return
            now_ns = self._packet[0] + now_ns - self._packet[1]
        events = self._events(self.screen.expire(now_ns))
        for event in events:
            self._changed(self.window.event(self._now_ns, event))
        if events:
            self._on_events(events)

    def decision(self, detail: str = "") -> None:
        """A sender was decided upon: the window stays open."""
        self._changed(self.window.decision(self.now_ns, detail))

    def verdict(self) -> None:
        """A packet was judged malicious, where that alone keeps the window open."""
        self._changed(self.window.verdict(self.now_ns))

    def close(self, why: str) -> None:
        """Close the window, by hand or at the end."""
        self._changed(self.window.close(self.now_ns, why))

    def counters(self) -> dict[str, int]:
        """Totals by name: the gate's, the window's, what was shed, and the screen's but for
        `contained`: those are senders, and the pipeline counts frames by that name."""
        shed = self.overload.counts if self.overload is not None else {}
        screen = {n: total for n, total in self.screen.counters().items() if n != "contained"}
        return self.counts | self.window.counts | shed | screen

    # -------------------------------------------------------------------------------------------

    def _horizon_ns(self, now_ns: int) -> int | None:
        ends = [self.window.horizon_ns(now_ns)]
        ends += [trigger.due_ns for trigger in self._timed]
        return min((end for end in ends if end is not None), default=None)

    def _slice(
        self, batch: FrameBatch, host: bytes, outcomes: U8, times: npt.NDArray[np.int64] | None
    ) -> None:
        """Judge of frames between which time changes nothing by itself; `times` are the frames',
        none where it stands still."""
        self.counts["gate_slices"] += 1
        fired = self.screen.screen(batch.data, batch.frames, host, outcomes)
        if not fired:
            self._settle(batch, outcomes)
            return
        events = self._events(fired)
        events.sort(key=lambda event: event.frame)
        at = 0  # frames before it have their word
        for event in events:
            frame = min(max(event.frame, at), len(outcomes) - 1)
            self._settle(FrameBatch(batch.data, batch.frames[at:frame]), outcomes[at:frame])
            at = frame
            now_ns = self._now_ns if times is None else int(times[frame])
            self._changed(self.window.event(now_ns, event))
        self._settle(FrameBatch(batch.data, batch.frames[at:]), outcomes[at:])
        self._on_events(events)

    def _settle(self, batch: FrameBatch, outcomes: U8) -> None:
        if self.window.record is None:
            outcomes[outcomes == Outcome.WAITING] = Outcome.SCREENED
        elif len(outcomes):
            if self.overload is not None:
                self.overload.shed(batch, outcomes)
            self.window.admitted(outcomes)

    def _events(self, fired: Sequence[tuple[Any, ...] | TriggerEvent]) -> list[TriggerEvent]:
        events = [
            event if isinstance(event, TriggerEvent) else TriggerEvent(*event) for event in fired
        ]
        if len(events) > MAX_EVENTS:
            self.counts["gate_events_dropped"] += len(events) - MAX_EVENTS
            # A crowd of forged senders must not hide what a rule alone may decide.
            events.sort(key=lambda event: not event.decisive)
        return events[:MAX_EVENTS]

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.opened and not change.goes_on:
                self.screen.open_window()
            elif not change.goes_on:
                self.screen.close_window()
            self.on_window(change)
