"""An act in; what happened, as the gateway told it and as the kernels counted it, out."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab import truth
from ids_appliance.lab.capture import Recording, first_time_ns
from ids_appliance.lab.demo.acts import LEAD_S, Act, life
from ids_appliance.lab.demo.gauges import Figures, Gauges
from ids_appliance.lab.demo.journal import Story, story
from ids_appliance.lab.demo.probes import DOWNLOAD_MIB
from ids_appliance.lab.demo.stage import Stage
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Running
from ids_appliance.lab.scenarios import Step, start
from ids_appliance.lab.truth import Played

LOOK_S: Final = 0.05
CAPTURE: Final = "capture.pcap"
PAUSE_S: Final = 60.0
SNAP: Final = 128
"""Bytes kept of each frame: all headers; a download's content says nothing."""
Clock = Callable[[], int]
"""Nanoseconds since the epoch: it has to fit the kernel's times of packets, and the events'."""
Say = Callable[[str, str], None]
"""(what kind of line, the line)."""


@dataclass(slots=True)
class Performance:
    """One act as it was."""

    act: Act
    start_ns: int
    stop_ns: int
    """The last of its own steps has ended."""
    story: Story
    figures: Figures
    capture: Path | None = None
    problems: list[str] = field(default_factory=list)
    """What went wrong on the stage itself: a tool failed, frames were not recorded."""


class Player:
    """Plays acts one after the other on a stage.

    folder: where captures and labels go, one folder an act; None: nothing is recorded.
    mib: size of the download.
    """

    def __init__(
        self,
        lab: Lab,
        stage: Stage,
        *,
        clock: Clock,
        folder: Path | None,
        mib: int = DOWNLOAD_MIB,
    ) -> None:
        self._lab, self._stage = lab, stage
        self._clock = clock
        self._folder = folder
        self._mib = mib

    def play(self, act: Act, *, window_s: float, say: Say) -> Performance:
        """Play one act, wait for its window to close, and let everybody go again.

        Raises LabError, ControlError where the stage itself is broken."""
        lab = self._lab
        lab.forget_neighbours()
        if act.cookies is not None:
            lab.write(act.victims[0], "net/ipv4/tcp_syncookies", "1" if act.cookies else "0")
        if act.kind == "allowed":
            say("order", self._stage.allow("admin", "takes the inventory"))
        if act.kind == "observed":
            self._stage.pause(PAUSE_S)
            say("order", "enforcement is paused")
        scenario = act.scenario(life(act))
        recording = self._record(act)
        problems: list[str] = []
        began = self._clock()
        gauges = Gauges(lab, act, clock=self._clock)
        with gauges:
            played = _Steps(lab, scenario.steps, self._clock, problems)
            try:
                played.run(partial(gauges.download, self._mib), say)
            except BaseException:
                played.abandon()
                raise
            stop_ns = max((p.stop_ns for p in played.own(act)), default=self._clock())
            # Late packets may open one more window: it belongs to this act, not to the next one.
            self._stage.await_quiet(limit_s=2 * window_s + 5.0)
        capture = None
        if recording is not None:
            lost = recording.stop()
            if lost:
                problems.append(f"tcpdump lost {lost} frames")
            truth.write(
                lab,
                scenario,
                played.done,
                capture=recording.path,
                first_ns=first_time_ns(recording.path),
            )
            capture = recording.path
        figures = gauges.figures(began, stop_ns)
        events = self._stage.journal.since(began)
        culprit = self._stage.culprit(act.attacker, forged=act.forged)
        told = story(events, culprit=culprit, opens=[s.opens for s in act.steps if s.opens])
        if not self._stage.alive():
            raise LabError("the gateway or the node has ended: see gateway.log and node.log")
        self._stage.begin_anew()
        if act.kind == "observed":
            self._stage.pause(0)
            self._stage.begin_anew()
            say("order", "enforcement is on again")
        return Performance(act, began, stop_ns, told, figures, capture, problems)

    def _record(self, act: Act) -> Recording | None:
        if self._folder is None:
            return None
        folder = self._folder / act.name
        folder.mkdir(parents=True, exist_ok=True)
        return Recording(self._lab, folder / CAPTURE, snap=SNAP)


class _Steps:
    """An act's steps, each started and stopped in its time."""

    def __init__(self, lab: Lab, steps: Sequence[Step], clock: Clock, problems: list[str]) -> None:
        self._lab = lab
        self._waiting = sorted(steps, key=lambda step: step.at, reverse=True)
        self._running: list[tuple[Step, Running, int]] = []
        self._clock = clock
        self._problems = problems
        self.done: list[Played] = []

    def own(self, act: Act) -> list[Played]:
        """Return what was played of the act's own steps, ordinary life left out."""
        own = {step.id for step in act.steps}
        return [one for one in self.done if one.step.id in own]

    def run(self, download: Callable[[], None], say: Say) -> None:
        """Play all steps; the download begins after the lead."""
        begin = self._clock()
        pause = threading.Event()
        downloading = False
        while self._waiting or self._running:
            now_s = (self._clock() - begin) / 1e9
            if now_s >= LEAD_S and not downloading:
                downloading = True
                download()
            while self._waiting and self._waiting[-1].at <= now_s:
                self._start(self._waiting.pop(), say)
            for one in list(self._running):
                if one[1].ended() or now_s >= one[0].at + one[0].seconds:
                    self._stop(one, say)
            pause.wait(LOOK_S)

    def _start(self, step: Step, say: Say) -> None:
        began = self._clock()
        if step.attack:
            say("attack", f"{', '.join(step.who)}: {step.tool} begins")
        self._running.append((step, start(self._lab, step), began))

    def _stop(self, one: tuple[Step, Running, int], say: Say) -> None:
        step, running, began = one
        self._running.remove(one)
        ended = self._clock()
        if step.attack:
            say("attack", f"{', '.join(step.who)}: {step.tool} ends")
        try:
            running.stop()
        except LabError as error:
            # A tool that is cut off may fail; what that means is measured, not guessed from it.
            if not step.attack:
                self._problems.append(str(error))
        self.done.append(Played(step, began, ended))

    def abandon(self) -> None:
        """Stop what still runs, on the way out."""
        with ExitStack() as stack:
            for one in self._running:
                stack.callback(one[1].stop)
        self._running.clear()
