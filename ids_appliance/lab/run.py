"""A scenario in; the traffic, its capture, its labels and a timeline out.

with Lab("routed") as lab, offered(lab):
    for moment in play(lab, read("dos"), out=Path("dos"), clock=time.time_ns):
        print(moment)
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from ids_appliance.errors import LabError
from ids_appliance.lab import truth
from ids_appliance.lab.capture import Recording, first_time_ns
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Running
from ids_appliance.lab.scenarios import Scenario, Step, start
from ids_appliance.lab.truth import Played

CAPTURE: Final = "capture.pcap"
TIMELINE: Final = "timeline.jsonl"
_LOOK_S: Final = 0.05
"""How often tools are asked whether they have ended."""
SETTLE_S: Final = 1.5
"""Last answers are still recorded for so long: "no answer" of the rules is one second."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    time_ns: int
    kind: Literal["recording", "start", "stop", "failed", "recorded"]
    step: str
    text: str


def play(
    lab: Lab, scenario: Scenario, *, out: Path | None, clock: Callable[[], int]
) -> Iterator[Moment]:
    """Play a scenario on a lab whose services are offered; yield what happens as it happens.

    With `out` a capture, labels.json and the timeline are written there. `clock` gives nanoseconds
    since the epoch. Raises LabError: wrong layout, a tool failed, frames lost.
    """
    if lab.layout.name not in scenario.layouts:
        raise LabError(f"scenario {scenario.name} is for {', '.join(scenario.layouts)}")
    lab.forget_neighbours()
    stage = _Stage(lab, scenario, clock)
    with ExitStack() as stack:
        stack.callback(stage.abandon)
        recording = None
        moments: list[Moment] = []
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            recording = Recording(lab, out / CAPTURE)
            moments.append(stage.moment("recording", "", f"at {', '.join(lab.interfaces)}"))
            yield moments[-1]
        for moment in stage.moments():
            moments.append(moment)
            yield moment
        if recording is None or out is None:
            return
        lost = recording.stop()
        first = first_time_ns(recording.path)
        if lost:
            raise LabError(f"tcpdump lost {lost} frames: record again on a quieter machine")
        truth.write(lab, scenario, stage.played, capture=recording.path, first_ns=first)
        moments.append(stage.moment("recorded", "", str(recording.path)))
        lines = [json.dumps(asdict(moment)) + "\n" for moment in moments]
        (out / TIMELINE).write_text("".join(lines))
        yield moments[-1]


class _Stage:
    """Starts and stops a scenario's steps in time."""

    def __init__(self, lab: Lab, scenario: Scenario, clock: Callable[[], int]) -> None:
        self._lab = lab
        self._waiting = sorted(scenario.steps, key=lambda step: step.at, reverse=True)
        self._running: dict[str, tuple[Step, Running, int]] = {}
        self._clock = clock
        self.played: list[Played] = []

    def moment(
        self,
        kind: Literal["recording", "start", "stop", "failed", "recorded"],
        step: str,
        text: str,
    ) -> Moment:
        """Return a moment of now."""
        return Moment(self._clock(), kind, step, text)

    def moments(self) -> Iterator[Moment]:
        """Play to the end."""
        begin = self._clock()
        pause = threading.Event()
        while self._waiting or self._running:
            now_s = (self._clock() - begin) / 1e9
            while self._waiting and self._waiting[-1].at <= now_s:
                yield self._start(self._waiting.pop())
            over = [
                step
                for step, running, _ in self._running.values()
                if running.ended() or now_s >= step.at + step.seconds
            ]
            for step in over:
                yield self._stop(step)
            pause.wait(_LOOK_S)
        pause.wait(SETTLE_S)

    def _start(self, step: Step) -> Moment:
        what = f"{', '.join(step.who)}: {step.tool}"
        moment = self.moment("start", step.id, f"{step.attack or 'ordinary'}, {what}")
        self._running[step.id] = (step, start(self._lab, step), moment.time_ns)
        return moment

    def _stop(self, step: Step) -> Moment:
        _, running, began = self._running.pop(step.id)
        running.stop()
        moment = self.moment("stop", step.id, step.attack or "ordinary")
        self.played.append(Played(step, began, moment.time_ns))
        return moment

    def abandon(self) -> None:
        """Stop what still runs; for the way out after a failure."""
        for _, running, _ in self._running.values():
            try:
                running.stop()
            except LabError:
                continue  # the first failure is on its way up already
        self._running.clear()
