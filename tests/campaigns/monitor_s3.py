"""The published monitor, measured: `python -m tests.campaigns.monitor_s3 [--kill-step N]`.

In a network of its own with a real Open vSwitch (userspace datapath): how long up and down take,
what a ping leaves at the monitor, and what an `up` that is killed at each of its operations leaves.
"""

import argparse
import json
import statistics
import sys
import time

from tests.monitor.enclosure import Dump, Enclosure, enclosed, mark_the_end, ping
from tests.monitor.test_killed import stop_at

H2 = "192.168.1.223"


def main() -> int:
    """Run it, print the figures; 0 if every frame of a ping was seen exactly once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of up and down")
    parser.add_argument("--kill-step", type=int, default=1, help="kill at each so many operations")
    given = parser.parse_args()
    found: dict[str, object] = {}
    with enclosed() as inside:
        found |= times(inside, given.repeats)
        inside.up("s3")
        found |= pings(inside)
        inside.down("s3")
        found |= repeated(inside)
        found |= killed(inside, given.kill_step)
    print(json.dumps(found, indent=2))
    return 0 if found["ping frames seen other than once"] == 0 else 1


def times(inside: Enclosure, repeats: int) -> dict[str, object]:
    """Return how long `up`, a second `up` and `down` take, whole commands, in seconds."""
    seen: dict[str, list[float]] = {"up": [], "up again": [], "down": []}
    for _ in range(repeats):
        for what, call in (("up", inside.up), ("up again", inside.up), ("down", inside.down)):
            begin = time.monotonic()
            call("s3")
            seen[what].append(time.monotonic() - begin)
    return {f"{what}, median s": round(statistics.median(v), 2) for what, v in seen.items()}


def pings(inside: Enclosure) -> dict[str, object]:
    """Return what 100 pings leave at the monitor, beside what Host1 saw itself."""
    assert ping(inside, "Host1", H2)
    dumps = [Dump(inside, "Host1"), Dump(inside, "Monitor", direction="in")]
    assert ping(inside, "Host1", H2, count=100)
    mark_the_end(inside, "Host1", H2)
    host, monitor = (dump.frames() for dump in dumps)
    return {
        "ping frames at Host1": sum(host.values()),
        "ping frames at Monitor": sum(monitor.values()),
        "ping frames seen other than once": sum(
            monitor[frame] != n for frame, n in host.items()
        ) + sum(frame not in host for frame in monitor),
    }  # fmt: skip


def killed(inside: Enclosure, step: int) -> dict[str, object]:
    """Return how many `up`s were killed, each followed by a `down`, or an `up` and a `down`."""
    at, kills = 1, 0
    while stop_at(inside, at):
        at, kills = at + step, kills + 2
    return {"operations of an up": at - 1, "ups killed, all mended": kills}


def repeated(inside: Enclosure) -> dict[str, object]:
    """Return how many changes a second `up` and a second `down` make: none."""
    inside.up("s3")
    unchanged = inside.up("s3", "--diff") == "nothing would change\n"
    inside.down("s3")
    return {
        "second up changes nothing": unchanged,
        "left after down": inside.run("ip", "netns", "list").split()
        + inside.switch.vsctl("list-br").split(),
    }


if __name__ == "__main__":
    sys.exit(main())
