"""The node, then the gateway, killed in the middle of an attack: what the traffic sees of it."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY
from ids_appliance.lab.measure import Reach, reach
from tests.campaigns.drills.ground import NODE_PORT, Ground
from tests.campaigns.drills.report import Report
from tests.campaigns.drills.traffic import Attack, Life, hping

VICTIM: Final = "dev01"
ATTACKER: Final = "bot"
PPS: Final = 2000
BAN_S: Final = 14.0


def node(policy: str) -> Callable[[str, Report], None]:
    """Return the drill of a node's death under a setting of on_classifier_down."""

    def play(layout: str, report: Report) -> None:
        with Ground(layout, **{"failure.on_classifier_down": policy}) as ground:
            ground.start_node()
            _await_node(ground)
            ground.start()
            _node_dies(ground, report, policy)

    return play


def _node_dies(ground: Ground, report: Report, policy: str) -> None:
    lab = ground.lab
    life = Life(lab, seconds=14.0, but=(VICTIM,))
    watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
    begin = time.monotonic_ns()
    with flood(ground, seconds=14.0):
        time.sleep(0.15)
        assert ground.node is not None
        ground.node.kill()
        ground.node.wait()
        killed = time.monotonic_ns()
        time.sleep(5.0)
        alone = time.monotonic_ns()
        # While it is away: the last three seconds.
        sent, arrived = watched.between(alone - 3 * 10**9, alone)
        accused = ground.accused()
        counters = ground.status().counters
        alarms = ground.status().alarms
        ground.start_node()
        back = ground.await_event("health", limit_s=6, component="node", state="up")
        time.sleep(2.0)
    end = time.monotonic_ns()
    watched.stop()
    name = f"{lab.mac(ATTACKER).hex(':')}@{lab.port(ATTACKER)}"
    whom = ", ".join(f"{s}: {r}" for s, r in accused.items()) or "nobody"
    report.expect(set(accused) <= {name}, "accused while the node is away", whom)
    share = f"{arrived} of {sent} packets in 3 s"
    if policy == "local":
        report.expect(sent > 0 and arrived <= sent / 100, "of the attack reaches its victim", share)
    elif policy == "closed":
        # The limit is 20 packets a second for the sender.
        report.expect(sent > 0 and arrived <= 100, "of the attack reaches its victim", share)
    else:
        report.say("of the attack reaches its victim (as the setting says)", share)
    names = ("judged", "unanswered", "classifier_local_fallbacks", "classifier_local_requests")
    report.say("counters", ", ".join(f"{n} {counters[n]:,}" for n in names if n in counters))
    report.expect(any("node" in line for line in alarms), "status says so", "; ".join(alarms))
    report.expect(back, "the node comes back and judges", "yes" if back else "no")
    final = ground.accused()
    report.expect(name in final, "in the end", ", ".join(f"{s}: {r}" for s, r in final.items()))
    life.account(report, start_ns=min(begin, killed), stop_ns=end)


def gateway(layout: str, report: Report) -> None:
    """The gateway is killed as soon as it has decided, started again, killed again."""
    settings: dict[str, Any] = {"policy.durations_s": [BAN_S], "policy.probation_s": 0.0}
    with Ground(layout, **settings) as ground:
        ground.start()
        lab = ground.lab
        life = Life(lab, seconds=BAN_S + 2, but=(VICTIM,))
        watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
        begin = time.monotonic_ns()
        with flood(ground, seconds=BAN_S + 12):
            if not ground.await_event("response", limit_s=8, action="applied"):
                report.expect(False, "the attack is contained at first", "nothing was decided")
                return
            applied = time.monotonic_ns()
            time.sleep(0.3)  # what was on its way has arrived
            _killed(ground, report, watched, applied)
            _second(ground, report)
            _killed_for_good(ground, report, watched, applied)
        end = time.monotonic_ns()
        watched.stop()
        life.account(report, start_ns=begin, stop_ns=end)


def _killed(ground: Ground, report: Report, watched: Reach, applied: int) -> None:
    killed = time.monotonic_ns()
    ground.kill(signal.SIGKILL)
    mac = ground.lab.mac(ATTACKER).hex(":")
    time.sleep(2.0)
    stands = mac in ground.ruleset()
    report.expect(stands, "killed: the ban stands in the kernel", "yes" if stands else "no")
    took = ground.start()
    time.sleep(2.5)  # the first comparison with the kernel
    now = time.monotonic_ns()
    left_s = BAN_S - (now - applied) / 1e9
    held = [d for d in ground.decisions() if d.subject.startswith(mac)]
    fine = len(held) == 1 and abs(held[0].remaining_s - left_s) < 1.5
    said = f"{held[0].response}, {held[0].remaining_s:.1f} s left" if held else "nothing stands"
    report.expect(fine, f"started again ({took:.1f} s): taken up, {left_s:.1f} s are left", said)
    status = ground.status()
    report.expect(
        status.intended >= 1 and status.found == status.intended,
        "kernel and intention",
        f"{status.found} of {status.intended}",
    )
    sent, arrived = watched.between(killed, now)
    report.expect(
        sent > 1000 and arrived == 0,
        "attacker's packets that reached the victim meanwhile",
        f"{arrived} of {sent} in {(now - killed) / 1e9:.1f} s",
    )


def _second(ground: Ground, report: Report) -> None:
    code, lines = ground.start_another()
    fine = code == 2 and len(lines) == 1
    report.expect(fine, "a second gateway on these interfaces", f"exit {code}: {' / '.join(lines)}")
    still = ground.status().decisions
    report.expect(still >= 1, "the first one goes on", f"{still} decisions stand")


def _killed_for_good(ground: Ground, report: Report, watched: Reach, applied: int) -> None:
    ground.kill(signal.SIGKILL)
    killed = time.monotonic_ns()
    until = applied + int(BAN_S * 1e9)
    threading.Event().wait(max(0.0, (until - killed) / 1e9 - 1.0))
    sent, arrived = watched.between(killed, time.monotonic_ns())
    report.expect(arrived == 0, "killed again: until the time is over", f"{arrived} of {sent}")
    time.sleep(3.5)
    mac = ground.lab.mac(ATTACKER).hex(":")
    over = mac not in ground.ruleset()
    _, later = watched.between(until + 10**9, time.monotonic_ns())
    report.expect(
        over and later > 0,
        "then the kernel alone lets go",
        f"{'gone' if over else 'still there'}, {later} packets arrive",
    )


def flood(ground: Ground, *, seconds: float) -> Attack:
    """A SYN flood of one device by another."""
    lab = ground.lab
    return hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", pps=PPS, seconds=seconds)


def _await_node(ground: Ground) -> None:
    where = (ground.lab.address("node"), NODE_PORT)

    def there() -> bool:
        with ground.lab.ip_socket(GATEWAY) as tcp:
            return tcp.connect_ex(where) == 0

    if not ground.wait(there, limit_s=15):
        raise LabError("the node does not start")
