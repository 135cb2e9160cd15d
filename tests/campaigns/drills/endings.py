"""How a gateway ends, and what is left: SIGTERM, Ctrl-C, panic, and the start after a panic."""

import signal
import time
from pathlib import Path
from typing import Final

from ids_appliance.lab.measure import reach
from tests.campaigns.drills.deaths import ATTACKER, VICTIM, flood
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.report import Report
from tests.campaigns.drills.traffic import flows

BANNED: Final = "dev05"


def play(layout: str, report: Report) -> None:
    """The drill."""
    with Ground(layout) as ground:
        ground.start()
        flows(ground.lab, BANNED, ground.lab.address("server"))
        for number in (signal.SIGTERM, signal.SIGINT):
            _ends(ground, report, number)
            ground.start()
        _panics(ground, report)
        ground.kill(signal.SIGTERM)
        _starts_after(ground, report)
        _panics_dead(ground, report)


def _banned(ground: Ground) -> bool:
    return not flows(ground.lab, BANNED, ground.lab.address("server"))


def _ban(ground: Ground) -> str:
    return ground.quarantine(f"{ground.lab.mac(BANNED).hex(':')}@{ground.lab.port(BANNED)}")


def _ends(ground: Ground, report: Report, number: signal.Signals) -> None:
    said = _ban(ground)
    before = _banned(ground)
    begin = time.monotonic()
    code = ground.kill(number)
    took = time.monotonic() - begin
    report.expect(code == 0 and took < 3, f"{number.name}: it ends", f"exit {code}, {took:.1f} s")
    endless = [line for line in _elements(ground) if "expires" not in line]
    stands = before and _banned(ground)
    report.expect(
        stands and not endless,
        f"{number.name}: bans stand, each with its end",
        said or ("stands" if stands else "free") + (f", endless: {endless}" if endless else ""),
    )
    left = _left(ground)
    report.expect(not left, f"{number.name}: sockets and the like that are left", left or "none")


def _elements(ground: Ground) -> list[str]:
    """Return the elements of the sets that hold decisions."""
    names = ("lan_quarantine", "lan_limited")
    found = []
    for name in names:
        text = ground.lab.run("gw", "nft", "list", "set", "netdev", "ids_ports", name)
        body = text.partition("elements = {")[2].partition("}")[0]
        found += [part.strip() for part in body.split(",") if part.strip()]
    return found


def _left(ground: Ground) -> list[str]:
    return [path.name for path in Path(ground.run_dir).iterdir() if path.is_socket()]


def _panics(ground: Ground, report: Report) -> None:
    if not _banned(ground):
        _ban(ground)
    begin = time.monotonic()
    code, out, err = ground.cli("panic")
    took = time.monotonic() - begin
    gone = "ids_" not in ground.ruleset()
    report.expect(
        code == 0 and gone and not _banned(ground),
        "panic: everything of ours is gone",
        f"exit {code}, {'no table' if gone else 'TABLES'}, {took:.1f} s; {err.strip()}",
    )
    status = ground.status()
    report.expect(not status.enforcing, "panic: it only observes", status.held)


def _starts_after(ground: Ground, report: Report) -> None:
    ground.start()
    status = ground.status()
    said = ground.said.read_text().strip()
    report.expect(
        not status.enforcing and "panic" in said,
        "started after a panic: only observes, and says so",
        said,
    )
    lab = ground.lab
    watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
    with flood(ground, seconds=16):
        time.sleep(4)
        begin = time.monotonic_ns()
        sent, arrived = watched.between(begin - 10**9, begin)
        seen = [f"{d.subject}: {d.response}, would {d.would}" for d in ground.decisions()]
        report.expect(
            arrived > sent / 2 and bool(seen),
            "an attack is recorded, nothing is done",
            f"{arrived} of {sent} arrive; {'; '.join(seen)}",
        )
        before = len(ground.events())
        code, out, _ = ground.cli("enforce", "on")
        # A rule says the same thing again after five seconds.
        fine = ground.wait(lambda: "quarantine" in ground.accused(before).values(), limit_s=6)
        time.sleep(1.0)
        end = time.monotonic_ns()
        sent, arrived = watched.between(end - 5 * 10**8, end)
    watched.stop()
    report.expect(
        code == 0 and fine and arrived <= sent / 100,
        "`enforce on` goes on: contained",
        f"{out.strip()}: {arrived} of {sent} arrive",
    )


def _panics_dead(ground: Ground, report: Report) -> None:
    ground.kill(signal.SIGKILL)
    before = "ids_" in ground.ruleset()
    code, _, err = ground.cli("panic")
    gone = "ids_" not in ground.ruleset()
    report.expect(
        before and code == 0 and gone,
        "panic with a gateway that was killed",
        f"exit {code}, {'no table' if gone else 'TABLES'}; {err.strip()}",
    )
