"""The published monitor, measured: `python -m tests.campaigns.monitor_s3 [--kill-step N]`.

In a network of its own with a real Open vSwitch (userspace datapath): how long up and down take,
what a ping leaves at the monitor, what an `up` that is killed at each of its operations leaves, and
the whole published scenario with our controller: switch, controller, capture, ping, tshark.
"""

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.monitor.enclosure import Dump, Enclosure, enclosed, mark_the_end, pcap, ping
from tests.monitor.test_killed import stop_at
from tests.net.namespaces import wait_for

H2 = "192.168.1.223"
EMBEDDED = "s3-embedded"
PINGS = 100
ARP, IPV4, LLDP, BDDP = b"\x08\x06", b"\x08\x00", b"\x88\xcc", b"\x89\x42"
WAIT_S = 120


def main() -> int:
    """Run it, print the figures; 0 if every frame of both pings was seen exactly once."""
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
        found["with our controller"] = whole = scenario(inside)
    print(json.dumps(found, indent=2))
    wrong = [one["ping frames seen other than once"] for one in (found, whole)]
    unseen = [kind for kind in ("LLDP", "0x8942") if not whole[f"{kind} frames"]]
    return 1 if any(wrong) or unseen or whole.get("tshark: echoes seen other than once") else 0


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
    assert ping(inside, "Host1", H2, count=PINGS)
    mark_the_end(inside, "Host1", H2)
    host, monitor = (dump.frames() for dump in dumps)
    return compared(host, monitor)


def compared(host: Counter[bytes], monitor: Counter[bytes]) -> dict[str, object]:
    """Return how many frames a host and the monitor saw, and how many not equally often."""
    return {
        "ping frames at Host1": sum(host.values()),
        "ping frames at Monitor": sum(monitor.values()),
        "ping frames seen other than once": sum(
            monitor[frame] != n for frame, n in host.items()
        ) + sum(frame not in host for frame in monitor),
    }  # fmt: skip


def scenario(inside: Enclosure) -> dict[str, object]:
    """Return what the published scenario shows: the commands as a person gives them, in order."""
    inside.up(EMBEDDED)
    path = inside.directory / "trafh1h2.pcap"
    with controller(inside):
        assert ping(inside, "Host1", H2)  # each now knows the other's MAC
        capture = command(inside, "capture", "--config", EMBEDDED, "--write", str(path))
        assert capture.stderr is not None
        assert "eth1 in Monitor" in capture.stderr.readline()
        dump = Dump(inside, "Host1")
        rounds = inside.start(*f"ip netns exec Host2 tcpdump -n -i eth1 -c 1 {DISCOVERY}".split())
        assert ping(inside, "Host1", H2, count=PINGS)
        mark_the_end(inside, "Host1", H2)
        dump.frames()
        rounds.communicate(timeout=WAIT_S)  # the controller's next round has begun
        capture.send_signal(signal.SIGINT)
        printed, said = capture.communicate(timeout=WAIT_S)
        assert capture.returncode == 0, said
    inside.down(EMBEDDED)
    frames = list(pcap(path.read_bytes()))
    kinds = Counter(frame[12:14] for frame in frames)
    host = list(pcap(dump.path.read_bytes()))
    found = compared(of_the_ping(host), of_the_ping(frames))
    found |= {"LLDP frames": kinds[LLDP], "0x8942 frames": kinds[BDDP]}
    found["LLDP about ports"] = dict(Counter(about(f) for f in frames if f[12:14] == LLDP))
    return found | {"account": printed.splitlines()[0]} | by_tshark(path)


DISCOVERY = "ether proto 0x8942"


def command(inside: Enclosure, *words: str) -> subprocess.Popen[str]:
    """Start a command of the monitor's in there."""
    return inside.start(sys.executable, "-m", "ids_appliance", "monitor", *words)


@contextmanager
def controller(inside: Enclosure) -> Iterator[None]:
    """Run our controller until the switch has its entries; end it afterwards."""
    running = command(inside, "controller")
    try:
        assert running.stderr is not None
        assert any("is here" in line for line in running.stderr), "the switch has not connected"
        wait_for(lambda: "NORMAL" in inside.switch.ofctl("dump-flows", "s1"), seconds=WAIT_S)
        yield
    finally:
        running.terminate()
        running.communicate()


def of_the_ping(frames: list[bytes]) -> Counter[bytes]:
    """Return the ARP and ICMP frames from the first echo to the frame that ends dumps: hosts ask
    for each other's MAC again later, and not everybody listens for as long."""
    first = next(n for n, frame in enumerate(frames) if is_icmp(frame))
    last = next(n for n, frame in enumerate(frames) if Dump.MARKER in frame)
    return Counter(f for f in frames[first:last] if f[12:14] == ARP or is_icmp(f))


def is_icmp(frame: bytes) -> bool:
    """Return whether a frame is ICMP over IPv4."""
    return frame[12:14] == IPV4 and frame[23] == 1


def about(frame: bytes) -> str:
    """Return the port that a discovery frame of ours went out of: its second TLV."""
    at = 14 + 2 + frame[15]
    return frame[at + 3 : at + 2 + frame[at + 1]].decode()


def by_tshark(path: Path) -> dict[str, object]:
    """Return what tshark reads in a capture, or why that is not known."""
    if shutil.which("tshark") is None:
        return {"tshark": "not installed: apt-get install tshark"}
    words = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=,"]
    for name in ("eth.type", "icmp.type", "icmp.seq"):
        words += ["-e", name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=True)
    rows = [line.split(",") for line in done.stdout.splitlines()]
    echoes = Counter((row[1], row[2]) for row in rows if row[1] in {"0", "8"})
    kinds = Counter(row[0] for row in rows)
    expected = {(kind, str(n)) for kind in ("0", "8") for n in range(1, PINGS + 1)}
    return {
        "tshark: frames": len(rows),
        "tshark: echoes and replies": sum(echoes.values()),
        "tshark: echoes seen other than once": sum(echoes[one] != 1 for one in expected)
        + len(echoes.keys() - expected),
        "tshark: LLDP, 0x8942": [kinds["0x88cc"], kinds["0x8942"]],
    }


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
