"""A kind of anomaly in, a report out: frames sent, when the gateway noticed, when they stopped.

The frames leave a raw socket in the attacker's namespace and are counted in the victim's; what the
gateway says comes from its events. So the whole path is the real one.
"""

import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ids_appliance.drill.frames import Kind, Line, frames
from ids_appliance.drill.messages import Report, Step
from ids_appliance.drill.place import INSIDE, Place
from ids_appliance.errors import ControlError, DrillError
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import Release
from ids_appliance.lab.namespaces import inside

LIMIT_S: Final = 20.0
QUIET_S: Final = 1.5
"""Without an arrival for so long after containment, a drill is over."""
SETTLE_S: Final = 6.0
"""For so long after the last frame something may still be noticed."""
MAX_STEPS: Final = 40
_EVENTS: Final = 4096
_ETH_P_ALL: Final = 3
_TURN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Clocks:
    """monotonic: seconds; wall_ns: since the epoch."""

    monotonic: Callable[[], float]
    wall_ns: Callable[[], int]


class Drill:
    """One drill from its first frame to its report."""

    def __init__(self, kind: Kind, place: Place, run_dir: Path, *, clocks: Clocks) -> None:
        self._kind = kind
        self._place = place
        self._run_dir = run_dir
        self._clock = clocks.monotonic
        self.report = Report(kind=kind.name, began_ns=clocks.wall_ns())
        self._seen: set[str] = set()
        self._events: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=_EVENTS)
        self._contained_s: float | None = None

    def run(self) -> Report:
        """Do it, and return the report. Raises DrillError, ControlError, NotRunning."""
        try:
            line = self._place.line()
            self._begin_anew(line)
            with ExitStack() as stack:
                stack.enter_context(self._following())
                out = stack.enter_context(_packets(self._place.attacker))
                arriving = stack.enter_context(_packets(self._place.victim))
                self._play(line, out, arriving)
            self.report.outcome = self._outcome()
        except (DrillError, ControlError) as error:
            self.report.outcome = f"not played to its end: {error}"
            raise
        except OSError as error:
            self.report.outcome = f"not played to its end: {error.strerror or error}"
            raise DrillError(f"the drill cannot be played: {error.strerror or error}") from error
        finally:
            self.report.running = False
        return self.report

    def _begin_anew(self, line: Line) -> None:
        """End what stands about the attacker from the drill before, and only about it."""
        whom = f"{line.attacker.mac.hex(':')}@{self._place.attacker}"
        with Client(self._run_dir, orders=True) as client:
            try:
                client.ask(Release(text=whom))
            except ControlError as error:
                if error.kind != "failed":  # nothing stands: the usual case
                    raise

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Let a thread put the gateway's events beside the time they came."""
        client = Client(self._run_dir)
        events = client.follow()

        def follow() -> None:
            with suppress(ControlError, OSError, ValueError):
                for event in events:
                    if isinstance(event, dict):
                        self._events.append((self._clock(), event))

        thread = threading.Thread(target=follow, name="drill's events", daemon=True)
        thread.start()
        try:
            yield
        finally:
            client.hang_up()
            thread.join()
            client.close()

    def _play(self, line: Line, out: socket.socket, arriving: socket.socket) -> None:
        begin = self._clock()
        waiting = frames(self._kind, line)
        sent_all_s: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(arriving, selectors.EVENT_READ)
            while True:
                now_s = self._clock() - begin
                due = min(self._kind.count, 1 + int(now_s * self._kind.pps))
                while self.report.sent < due:
                    out.send(next(waiting))
                    self.report.sent += 1
                if sent_all_s is None and self.report.sent == self._kind.count:
                    sent_all_s = now_s
                    self._step("sent", now_s, f"{self.report.sent:,} frames")
                self._count(arriving, line, begin)
                self._look(begin)
                if now_s > LIMIT_S or self._over(now_s, sent_all_s):
                    return
                selector.select(_TURN_S if sent_all_s is not None else 1 / self._kind.pps)

    def _over(self, now_s: float, sent_all_s: float | None) -> bool:
        if self._contained_s is not None:
            return now_s - max(self._contained_s, self.report.last_arrival_s or 0.0) > QUIET_S
        return sent_all_s is not None and now_s - sent_all_s > SETTLE_S

    def _count(self, arriving: socket.socket, line: Line, begin: float) -> None:
        """Count the attacker's frames that have come to the victim, by its address or MAC."""
        ends = line.attacker.address + line.victim.address
        with suppress(BlockingIOError):
            while True:
                frame = arriving.recv(256)
                if frame[6:12] == line.attacker.mac or frame[26:34] == ends:
                    self.report.arrived += 1
                    self.report.last_arrival_s = round(self._clock() - begin, 3)

    def _look(self, begin: float) -> None:
        """Take the events that have come and are about the drill's own port."""
        while self._events:
            at, event = self._events.popleft()
            kind = str(event.get("event_type"))
            detail = event.get(kind)
            if not isinstance(detail, Mapping) or not detail.get("drill"):
                continue
            if event.get("interface") != self._place.attacker:
                continue
            self._told(kind, detail, at - begin)

    def _told(self, kind: str, detail: Mapping[str, Any], after_s: float) -> None:
        action = str(detail.get("action", ""))
        if kind == "trigger":
            self._step(f"trigger {detail.get('rule')}", after_s, str(detail.get("detail")))
        elif kind == "window":
            self._step(f"window {detail.get('state')}", after_s, str(detail.get("rule", "")))
        elif action in ("finding", "cleared"):
            verdict = "malicious" if action == "finding" else "cleared"
            score = f"{detail.get('score')} over {detail.get('bound')}"
            self._step(f"verdict: {verdict}", after_s, f"{score}, {detail.get('packets')} packets")
        elif kind == "decision":
            said = f"{detail.get('response')} for {detail.get('duration_s'):g} s"
            self._step("decision", after_s, f"{said}: {detail.get('reason')}")
        elif action == "applied":
            if self._contained_s is None:
                self._contained_s = after_s
            self._step("contained", after_s, str(detail.get("response")))
        elif action:
            self._step(action, after_s, str(detail.get("note", "")))

    def _step(self, what: str, after_s: float, detail: str) -> None:
        """Note what was seen; the same thing once."""
        if what not in self._seen and len(self.report.steps) < MAX_STEPS:
            self._seen.add(what)
            self.report.steps.append(Step(what, round(max(0.0, after_s), 3), detail[:300]))

    def _outcome(self) -> str:
        report = self.report
        share = f"{report.arrived:,} of {report.sent:,} frames arrived"
        if self._contained_s is not None:
            return f"contained after {self._contained_s:.2f} s; {share}"
        if "decision" in self._seen:
            return f"decided, not contained (does the gateway only observe?); {share}"
        if any(what.startswith("trigger") for what in self._seen):
            return f"a trigger noticed it, the evidence did not suffice to act; {share}"
        return f"nothing noticed it; {share}"


@contextmanager
def _packets(namespace: str) -> Iterator[socket.socket]:
    """Open a socket for whole frames in a namespace."""
    with inside(namespace):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    with opened:
        opened.bind((INSIDE, _ETH_P_ALL))
        opened.setblocking(False)
        yield opened
