"""Attackers who try not to look like one: is it still over two seconds after the trigger?"""

import time

from ids_appliance.lab.measure import reach
from tests.campaigns.drills.deaths import ATTACKER, VICTIM, flood
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.report import Report
from tests.campaigns.drills.traffic import Attack, Life, Questions, Stream


def busy(layout: str, report: Report) -> None:
    """A device floods while it goes on with its ordinary work: a download, readings, questions."""
    with Ground(layout) as ground:
        ground.start()
        lab = ground.lab
        life = Life(lab, seconds=12.0, but=(VICTIM,))
        server = lab.address("server")
        work = [
            Stream(lab, ATTACKER, "server", port=7002),
            Questions(lab, [ATTACKER], "server", pace_s=0.002, port=5354),
        ]
        get = ("curl", "-s", "-o", "/dev/null", "--limit-rate", "8M", f"http://{server}/50MiB.bin")
        tell = ("mosquitto_pub", "-h", server, "-t", "bot", "-q", "1", "-m", "hello")
        watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
        begin = time.monotonic_ns()
        with (
            Attack(lab, ATTACKER, *get, seconds=20),
            Attack(lab, ATTACKER, *tell, "--repeat", "600", "--repeat-delay", "0.02", seconds=20),
        ):
            time.sleep(1.0)
            with flood(ground, seconds=8.0):
                named = ground.await_event("trigger", limit_s=4, rule="dos")
                trigger = time.monotonic_ns()
                time.sleep(7.0)
                end = time.monotonic_ns()
        watched.stop()
        for part in work:
            part.stop()
        sent, arrived = watched.between(trigger + 2 * 10**9, end)
        report.expect(
            named and sent > 0 and arrived <= sent / 100,
            "from two seconds after the trigger on, arrive",
            f"{arrived} of {sent}",
        )
        whom = ", ".join(f"{s}: {r}" for s, r in ground.accused().items()) or "nobody"
        report.say("accused in the end", whom)
        life.account(report, start_ns=begin, stop_ns=end)
