"""A controller that is killed and comes again: what does the traffic see?

    python -m tests.campaigns.monitor_controller

Host1 pings Host2 every 20 ms, in both of Open vSwitch's fail modes, while our controller is killed
(SIGKILL), is away for some seconds and comes again. Host3 asks Host1 for the first time while it
is away. Somebody else's entry drops what Host2 asks Host1, as a quarantine does. Needs
root and Open vSwitch; exit code 1 where more than a tenth of a second was lost.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.monitor.controlled import Controlled, address, controlled, mac
from tests.net.namespaces import wait_for

PING_S = 0.02
CUT = f"table=0,cookie=0x1d5a000000000001,priority=64000,icmp,icmp_type=8,dl_src={mac('h2')}"


def play(place: Controlled, mode: str, *, away_s: float) -> dict[str, Any]:
    """Play it in one fail mode; return the figures."""
    place.switch.ofctl("del-flows", "s1")
    place.connect(mode)
    found: dict[str, Any] = {"mode": mode, "away_s": away_s}
    found["before_any_controller"] = place.ping("h1", "h2", wait_s=1)
    found["without_any_it_passes_after_s"] = passes_after(place, at_most_s=away_s)
    with place.controller() as running:
        place.ping("h1", "h2")
        place.switch.ofctl("add-flow", "s1", f"{CUT},actions=drop")
        found["cut_off_passes"] = place.ping("h2", "h1", wait_s=1)
        words = ["ping", "-n", "-D", "-O", "-i", str(PING_S), address("h2")]
        ping = subprocess.Popen(place.net.command("h1", *words), stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        running.send_signal(signal.SIGKILL)
        running.wait()
        time.sleep(away_s)
        found["noticed"] = not place.connected()
        found["newcomer_while_away"] = place.ping("h3", "h1", wait_s=1)
        found["cut_off_passes_while_away"] = place.ping("h2", "h1", wait_s=1)
        found["entries_while_away"] = place.entries(0).count("priority=")
    with place.controller():
        wait_for(place.connected)
        time.sleep(2)
        ping.send_signal(signal.SIGINT)
        text = ping.communicate()[0]
        found["newcomer_afterwards"] = place.ping("h3", "h2", wait_s=1)
        found["cut_off_passes_afterwards"] = place.ping("h2", "h1", wait_s=1)
    sent, received = re.findall(r"(\d+) packets transmitted, (\d+) received", text)[0]
    at = [float(stamp) for stamp in re.findall(r"\[([\d.]+)\] \d+ bytes", text)]
    gaps = [later - earlier for earlier, later in zip(at, at[1:], strict=False)]
    place.switch.vsctl("del-controller", "s1")
    return found | {
        "pings": int(sent),
        "lost": int(sent) - int(received),
        "longest_gap_s": round(max(gaps), 3),
    }


def passes_after(place: Controlled, *, at_most_s: float) -> float | None:
    """Return after how many seconds Host1 reaches Host2 without a controller; None: not at all."""
    begin = time.monotonic()
    while time.monotonic() - begin < at_most_s:
        if place.ping("h1", "h2", wait_s=1):
            return round(time.monotonic() - begin, 1)
    return None


def main() -> int:
    """Play both modes and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--away", type=float, default=20.0, help="seconds without a controller")
    away_s = parser.parse_args().away
    with TemporaryDirectory(prefix="ids-mc-") as where:
        with controlled(Path(where) / "ovs", "mk") as place:
            found = [play(place, mode, away_s=away_s) for mode in ("secure", "standalone")]
    print(json.dumps(found, indent=1))
    return 0 if all(one["lost"] * PING_S <= 0.1 for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
