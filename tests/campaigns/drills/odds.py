"""The machine under the gateway misbehaves: the disk is full, the clock of the wall jumps."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ids_appliance.lab.measure import reach
from ids_appliance.lab.namespaces import run
from tests.campaigns.drills.deaths import ATTACKER, VICTIM, flood
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.report import Report
from tests.campaigns.drills.traffic import Life

DAY_S: Final = 86_400
BAN_S: Final = 60.0


@contextlib.contextmanager
def small_disk(where: Path) -> Iterator[None]:
    """A file system of 256 KiB at a directory; gone afterwards."""
    where.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(where))
    try:
        yield
    finally:
        # The gateway's own mount namespace may hold it for a moment longer.
        subprocess.run(["umount", "-l", str(where)], check=False)


def fill(where: Path) -> None:
    """Fill a file system to the last byte."""
    with contextlib.suppress(OSError), (where / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def disk_full(layout: str, report: Report) -> None:
    """State and events have no room from some moment on, and at a start."""
    with Ground(layout) as ground, small_disk(ground.where / "state"):
        state = ground.where / "state"
        ground.start()
        lab = ground.lab
        life = Life(lab, seconds=14.0, but=(VICTIM,))
        watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
        begin = time.monotonic_ns()
        fill(state)
        with flood(ground, seconds=13.0):
            time.sleep(5.0)
            now = time.monotonic_ns()
            sent, arrived = watched.between(now - 2 * 10**9, now)
            report.expect(
                sent > 0 and arrived <= sent / 100,
                "disk full: the attack is contained",
                f"{arrived} of {sent} arrive",
            )
            status = ground.status()
            report.expect(
                any("event" in line for line in status.alarms),
                "status says that events are not written",
                "; ".join(status.alarms) or "nothing",
            )
            ground.kill(signal.SIGKILL)
            killed = time.monotonic_ns()
            took = ground.start()
            report.expect(True, "it starts with a full disk", f"{took:.1f} s")
            time.sleep(4.5)
            sent, arrived = watched.between(killed, time.monotonic_ns())
            report.say(
                "restarted without a state file: attacker's packets that arrive",
                f"{arrived} of {sent}",
            )
        (state / "ballast").unlink()
        written = len(ground.events())
        fine = ground.wait(lambda: len(ground.events()) > written, limit_s=12)
        report.expect(fine, "room again: events are written", "yes" if fine else "no")
        saved = ground.wait((state / "decisions.json").exists, limit_s=3)
        report.expect(saved, "room again: decisions are saved", "yes" if saved else "no")
        end = time.monotonic_ns()
        watched.stop()
        life.account(report, start_ns=begin, stop_ns=end)


def clock_jumps(layout: str, report: Report) -> None:
    """The gateway's wall clock jumps by days, running and between two runs.

    Only its own view of it: the machine's clock, and with it the packets' times, stay.
    """
    with Ground(layout) as ground:
        offset = ground.where / "offset"
        offset.write_text("0")
        os.environ["DRILL_CLOCK_OFFSET"] = str(offset)
        shifted = (sys.executable, "-m", "tests.campaigns.drills.shifted")
        try:
            ground.start(wrapped_by=shifted)
            begin = time.monotonic()
            lab = ground.lab
            said = ground.quarantine(
                f"{lab.mac('dev05').hex(':')}@{lab.port('dev05')}", for_s=BAN_S
            )
            assert not said, said
            for days in (1, -3, 400):
                offset.write_text(str(days * DAY_S))
                time.sleep(1.5)
                _left(ground, report, f"running, {days:+} days", BAN_S - (time.monotonic() - begin))
            for days in (-2, 30):
                ground.kill(signal.SIGTERM)
                offset.write_text(str(days * DAY_S))
                ground.start(wrapped_by=shifted)
                _left(
                    ground,
                    report,
                    f"between runs, {days:+} days",
                    BAN_S - (time.monotonic() - begin),
                )
        finally:
            del os.environ["DRILL_CLOCK_OFFSET"]


def _left(ground: Ground, report: Report, what: str, expected_s: float) -> None:
    held = ground.decisions()
    left = f"{held[0].remaining_s:.1f} s left" if held else "nothing stands"
    kernel = ground.lab.mac("dev05").hex(":") in ground.ruleset()
    fine = len(held) == 1 and abs(held[0].remaining_s - expected_s) < 2 and kernel
    where = "in the kernel" if kernel else "NOT in the kernel"
    report.expect(fine, f"{what}: the ban's time", f"{left} of {expected_s:.1f}, {where}")
