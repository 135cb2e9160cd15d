"""A gateway's control sockets with known answers behind them, in a loop like the real one."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ids_appliance.errors import IdsError
from ids_appliance.gateway.actions import (
    AllowEntry,
    AllowList,
    CellInfo,
    DecisionInfo,
    DecisionPage,
    Done,
    InterfaceInfo,
    Status,
    TriggerInfo,
    WhyInfo,
    WindowInfo,
)
from ids_appliance.gateway.control import Control, Order
from ids_appliance.gateway.lines import Bounds

NOON_NS = 1_767_268_800_000_000_000
"""2026-01-01 12:00 UTC."""

CAMERA = "02:00:00:00:77:66"
DECISION = DecisionInfo(
    number=7,
    subject=CAMERA,
    interface="br-lan",
    address="192.0.2.66",
    device="Camera\x1b[31m\u202e of the hall",
    response="quarantine",
    reason="port_scan, and 412 packets of 9 cells that the forest calls malicious",
    since_ns=NOON_NS,
    remaining_s=431.7,
    enforced=True,
    score=14.2,
)
WINDOW = WindowInfo(
    id=3,
    cause="port_scan 02:00:00:00:77:66@br-lan -> 192.0.2.9",
    opened_ns=NOON_NS,
    closed_ns=NOON_NS + 34_000_000_000,
    why_closed="30 s without a trigger or a decision",
    packets=123_456,
    judged=123_000,
    shed=6,
    cells=812,
    votes=412,
    triggers=2,
    decisions=1,
)
STATUS = Status(
    version="0.1.0",
    pid=4711,
    uptime_s=93_784.0,
    mode="offloaded",
    model="00112233445566778899aabbccddeeff",
    node="192.0.2.10:7447",
    interfaces=(InterfaceInfo(name="br-lan", up=True, frames=10**9, drops=12),),
    enforcing=True,
    windows=3,
    decisions=1,
    intended=1,
    found=1,
    alarms=("12 frames lost in the ring of br-lan",),
    counters={"delivered": 10**9, "judged": 123_000},
)
WHY = WhyInfo(
    asked="192.0.2.66",
    subject=CAMERA,
    interface="br-lan",
    address="192.0.2.66",
    device="Camera",
    summary="Quarantined for 7 more minutes: a trigger named it and the forest agrees.",
    decision=DECISION,
    triggers=(
        TriggerInfo(rule="port_scan", timestamp_ns=NOON_NS, detail="20 ports of 192.0.2.9, 95 %"),
    ),
    score=14.2,
    upper=9.0,
    lower=-8.0,
    packets=412,
    cells=(CellInfo(cell="9f86d081884c7d65", log_odds=2.9, packets=200),),
    standing=("proven",),
    history=("rate_limit for 10 min, 2026-01-01 11:00",),
)


class FakeActions:
    """Actions that remember what they were asked and answer the same each time."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.entries: tuple[AllowEntry, ...] = (
            AllowEntry(text="192.0.2.0/28", interface="br-lan", since_ns=NOON_NS, comment="lab"),
        )
        self.many = 1

    def status(self):
        self.calls.append(("status",))
        return STATUS

    def windows(self, n):
        self.calls.append(("windows", n))
        return [WINDOW] * self.many

    def decisions(self, n):
        self.calls.append(("decisions", n))
        return [DECISION] * self.many

    def page(self, n, *, offset=0, find=""):
        self.calls.append(("page", n, offset, find))
        return DecisionPage(
            rows=(DECISION,),
            total=self.many,
            matching=self.many,
            by_response={"quarantine": self.many},
            now_ns=NOON_NS + 90_000_000_000,
        )

    def why(self, text):
        self.calls.append(("why", text))
        if text == "192.0.2.200":
            raise IdsError("nothing is known of 192.0.2.200")
        if text == "defect":
            raise KeyError("a defect")
        return WHY

    def allow(self, op, text, *, interface="", comment=""):
        self.calls.append(("allow", op, text, interface, comment))
        if op == "list":
            return AllowList(entries=self.entries)
        entry = AllowEntry(text=text, interface=interface, comment=comment, since_ns=NOON_NS)
        return AllowList(entries=(entry,), message=f"{text}: {op} done")

    def release(self, text):
        self.calls.append(("release", text))
        return Done(message="1 decision has ended", details=(CAMERA,), changed=1)

    def quarantine(self, text, for_s):
        self.calls.append(("quarantine", text, for_s))
        if text == "192.0.2.1":
            raise IdsError("192.0.2.1 is protected: it is the default router")
        return Done(message=f"{text} is cut off for {for_s:g} s", changed=1)

    def pause(self, for_s):
        self.calls.append(("pause", for_s))
        return Done(message=f"nothing is enforced for {for_s:g} s", changed=1)

    def panic(self):
        self.calls.append(("panic",))
        return Done(message="everything of ours is out of the kernel", changed=1)

    def enforce(self, on):
        self.calls.append(("enforce", on))
        return Done(message=f"enforcement is {'on' if on else 'off'}", changed=1)

    def window(self, open_):
        self.calls.append(("window", open_))
        return Done(message=f"the window is {'open' if open_ else 'closed'}", changed=1)

    def mode(self, name):
        self.calls.append(("mode", name))
        return Done(message=f"mode is {name}", changed=1)

    def reload(self):
        self.calls.append(("reload",))
        return Done(message="1 setting changed", details=("window.window_s 30 -> 60",), changed=1)


class Gateway:
    """A control server whose loop another thread turns, as fast as it is woken."""

    def __init__(self, run_dir: Path, **options) -> None:
        self.run_dir = run_dir
        self.actions = FakeActions()
        self.orders: list[Order] = []
        self.served = threading.Event()
        self.served.set()
        self._parked = threading.Event()
        self._woken = threading.Event()
        self._stopping = False
        self.control = Control(
            run_dir, self.actions, on_write=self.orders.append, wake=self._woken.set, **options
        )
        self._thread = threading.Thread(target=self._loop)

    def start(self) -> None:
        self.control.start()
        self._thread.start()

    def _loop(self) -> None:
        while not self._stopping:
            self._woken.wait(0.02)
            self._woken.clear()
            if not self.served.is_set():
                self._parked.set()
                self.served.wait()
            while self.control.serve_pending():
                pass

    def stick(self) -> None:
        """Let the loop do nothing more until `served` is set."""
        self._parked.clear()
        self.served.clear()
        assert self._parked.wait(30)

    def close(self) -> None:
        self.control.close()
        self._stopping = True
        self.served.set()
        self._woken.set()
        self._thread.join()


@contextmanager
def running(run_dir: Path, **options) -> Iterator[Gateway]:
    """A gateway at a run directory, until the end of the block; options as of Control."""
    # Whoever asks is answered: a bound that is not named is none.
    bounds = {"request_s": 300.0, "answer_s": 300.0, "take_s": 300.0} | options.get("bounds", {})
    gateway = Gateway(run_dir, **(options | {"bounds": Bounds(**bounds)}))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.close()


def reachable(path: Path) -> Path:
    """Let other users reach a directory of pytest's; it is three levels deep, four with xdist."""
    for place in [path, *path.parents[:3]]:
        if os.stat(place).st_uid == os.geteuid() and place.stat().st_mode & 0o777 == 0o700:
            os.chmod(place, 0o755)
    return path


def as_user(uid: int, code: str, *arguments: object, gid: int | None = None):
    """Run Python code as another user, with a group where one is named; needs root."""
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid if gid is None else gid}"]
    command += ["--clear-groups", sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
