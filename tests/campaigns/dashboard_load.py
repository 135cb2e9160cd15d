"""The dashboard with 10,000 blocked senders and a flood: how fast does it refresh, does it grow?

    python -m tests.campaigns.dashboard_load --minutes 60 --out FILE

A gateway in the lab (routed) has so many quarantines and is flooded with random packets, a browser
has the page of blocked senders open and turns pages. A refresh is what people wait for: from the
click to the other rows, in Chromium. Beside it how long the gateway took to answer, and the
resident memory of the dashboard's process every ten seconds, the first minutes left out. Needs
root, Chromium; exit code 1 where p95 is not under a second or the growth in an hour over 20 MB.
"""

import argparse
import ipaddress
import json
import math
import re
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from ids_appliance.config import Policy
from ids_appliance.dashboard.feed import Feed, View
from ids_appliance.errors import ControlError
from ids_appliance.gateway.clocks import Clocks
from ids_appliance.gateway.keeper import Keeper
from ids_appliance.policy.kept import snapshot
from tests.campaigns.drills.ground import Ground
from tests.campaigns.live_flood import flood
from tests.dashboard.browser import Browser, Server, missing, wait
from tests.policy.ledgers import World

FIRST: Final = ipaddress.IPv4Address("100.64.0.1")
HOURS: Final = 20.0
P95_S: Final = 1.0
MIB_AN_HOUR: Final = 20.0
WARM_S: Final = 60.0
EVERY_S: Final = 2.0


def fill(state: Path, count: int) -> None:
    """Leave so many quarantines for a gateway that starts: it takes them up at once."""
    world = World(policy=Policy(), now=time.time_ns() - 10**18)
    for n in range(count):
        world.ledger.quarantine(str(FIRST + n), HOURS * 3600.0)
    state.mkdir(mode=0o700)
    keeper = Keeper(state, clocks=Clocks(monotonic_ns=time.monotonic_ns, wall_ns=time.time_ns))
    keeper.save(snapshot(world.ledger))
    keeper.close()


def in_kernel(ground: Ground) -> int:
    """Return how many the kernel has; 0 while the gateway is busy with them."""
    try:
        return ground.status().found
    except ControlError:
        return 0


def campaign(*, minutes: float, blocked: int, pps: int, every_s: float) -> dict[str, Any]:
    """Run it and return what was seen."""
    with ExitStack() as stack:
        ground = stack.enter_context(Ground("routed"))
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        fill(ground.where / "state", blocked)
        ground.start()
        wait(lambda: in_kernel(ground) >= blocked, "all of them in the kernel")
        standing = ground.status().decisions
        print(f"{standing:,} stand", flush=True)
        config = ground.write_config("gateway", ground.where)
        server = stack.enter_context(Server("--config", str(config), log=scratch / "log"))
        browser = stack.enter_context(Browser(server.address))
        seconds = 60 * minutes
        sender = flood(ground.lab, scratch, pps=pps, seconds=seconds + WARM_S + 120)
        browser.panel("Blocked senders")
        browser.see("decisions stand", f"1 to 15 of {standing:,}")
        feed = Feed(ground.run_dir, clock=time.monotonic, fresh_s=0.0)
        clicks, reads, searches, memory = [], [], [], []
        before = ground.status().counters
        begin = time.monotonic()
        at, lost = 1, 0
        while (now := time.monotonic() - begin) < seconds + WARM_S:
            forward = at < 150
            name, at = ("Older", at + 15) if forward else ("Newer", at - 15)
            clicked = time.monotonic()
            shown = f"{at:,} to {at + 14:,} of {standing:,}"
            took = browser.click_until(name, shown)
            if took == math.inf:  # counted; where the page is now, it says itself
                lost += 1
                found = re.search(r"([\d,]+) to [\d,]+ of", browser.text())
                at = int(found[1].replace(",", "")) if found else at
                continue
            clicks.append(took)
            with suppress(ControlError):  # busy: the page says so, too, and asks again
                reads.append(feed.read(View(offset=at)).took_s)
                searches.append(feed.read(View(find=f"100.64.{at % 30}.7")).took_s)
            if now >= WARM_S:
                memory.append((now, server.memory_mib()))
                if len(memory) % 30 == 1:
                    print(f"{now:6.0f} s {memory[-1][1]:7.1f} MiB", flush=True)
            time.sleep(max(0.0, every_s - (time.monotonic() - clicked)))
        after = ground.status()
        sender.terminate()
        return {
            "blocked": after.decisions,
            "minutes": minutes,
            "flood_seen_pps": round(
                (after.counters["kernel_packets"] - before["kernel_packets"])
                / (time.monotonic() - begin)
            ),
            "refreshes": len(clicks),
            "clicks_without_effect": lost,
            "click_s": _spread(clicks),
            "gateway_answer_s": _spread(reads),
            "gateway_search_s": _spread(searches),
            "memory_mib": _growth(memory),
        }


def _spread(values: list[float]) -> dict[str, float]:
    p50, p95, most = np.percentile(values, [50, 95, 100])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "max": round(most, 3)}


def _growth(memory: list[tuple[float, float]]) -> dict[str, float]:
    """Return the first, the last, and the slope of a straight line through all of them."""
    times, sizes = np.array(memory).T
    slope = np.polyfit(times, sizes, 1)[0] * 3600 if len(memory) > 2 else 0.0
    return {
        "first": round(sizes[0], 1),
        "last": round(sizes[-1], 1),
        "most": round(sizes.max(), 1),
        "slope_an_hour": round(float(slope), 1),
    }


def main() -> None:
    """Run the campaign and say what came of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--blocked", type=int, default=10_000)
    options.add_argument("--pps", type=int, default=5000)
    options.add_argument("--every", type=float, default=EVERY_S, help="seconds between two clicks")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    if why := missing():
        raise SystemExit(why)
    found = campaign(
        minutes=given.minutes, blocked=given.blocked, pps=given.pps, every_s=given.every
    )
    text = json.dumps(found, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")
    grown = found["memory_mib"]["last"] - found["memory_mib"]["first"]
    if found["click_s"]["p95"] >= P95_S or grown > MIB_AN_HOUR * max(1.0, given.minutes / 60):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
