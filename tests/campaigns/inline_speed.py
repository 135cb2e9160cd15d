"""How fast packets are judged inline, beside those who accept everything from the same queue.

    python -m tests.campaigns.inline_speed rate --rounds 2
    python -m tests.campaigns.inline_speed delay --rates 1000 --seconds 5

Five ways in turns, so that a slow minute of the machine is everybody's:

    forwarding   nobody looks
    package      the package accepts everything
    bare         a reader in C accepts everything by batches (accepting.c, built here)
    bare-two     two of them, a queue each; only where asked for
    judged-package, judged-batch    the gateway with either reader, its window open
    judged-two   the gateway with two queues; only where asked for

`rate` searches the highest rate of UDP (two senders, random ports) at which at most LOSS of the
packets are lost, with a queue of 4,096 that drops what finds it full. `delay` sends at a rate and
PROBES_PPS a second more that carry the time of sending; the receiver's kernel notes when they come.
`cpu_us`: what the reader's process used for each packet; `judged_share`: of what it took from the
queue, trials past its highest rate included. Needs root and a C compiler.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from ids_appliance._paced import Paced
from ids_appliance.bench import mixes
from ids_appliance.bench.groups import CLASSES, held
from ids_appliance.bench.sender import transmit
from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.queue_rule import TABLE, QueueRule, add_target
from ids_appliance.lab.namespaces import Network
from tests.campaigns import inline as campaign
from tests.campaigns.inline import LOAD_PORT, QUEUE, TARGET, counted, ends, nobody
from tests.campaigns.probes import Probes

LOSS: Final = 0.001
LENGTH: Final = 4096
STEP: Final = 1.06
"""Two rates nearer to each other than this are one."""
TRIALS: Final = 10
PROBES_PPS: Final = 400
WARM_S: Final = 1.0
Way = Callable[[Network, Path], AbstractContextManager[int]]


# Who takes the packets ------------------------------------------------------------------------


@contextmanager
def forwarding(net: Network, where: Path) -> Iterator[int]:
    """Nobody."""
    with nobody(net, where):
        yield 0


@contextmanager
def started(net: Network, words: list[str]) -> Iterator[int]:
    """A program that says when it has bound the queue, and the gateway's rule before it."""
    words = [*campaign.ROOM, *net.command("gw", *words)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise SystemExit(f"{words[0]} has not started")
        with net.inside("gw"):
            rule = QueueRule(QUEUE, max_clean=64)
            rule.install(["lan0"])
        try:
            yield process.pid
        finally:
            with net.inside("gw"):
                rule.remove()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def bare(net: Network, where: Path) -> AbstractContextManager[int]:
    """Build and run the reader in C."""
    program = where / "accepting"
    source = Path(__file__).with_name("accepting.c")
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return started(net, [str(program), str(QUEUE), "128", str(LENGTH)])


def package(net: Network, where: Path) -> AbstractContextManager[int]:
    """Run the package's own loop."""
    text = (
        "import netfilterqueue; q = netfilterqueue.NetfilterQueue(); "
        f"q.bind({QUEUE}, lambda p: p.accept(), max_len={LENGTH}, range=256, sock_len=8 << 20); "
        "print('ready', flush=True); q.run()"
    )
    return started(net, [sys.executable, "-c", text])


@contextmanager
def bare_two(net: Network, where: Path) -> Iterator[int]:
    """Two readers in C with a queue each; the kernel spreads the load by address, if it is a pair
    of addresses that it sends from."""
    with bare(net, where) as pid:
        words = net.command("gw", str(where / "accepting"), str(QUEUE + 1), "128", str(LENGTH))
        other = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert other.stdout is not None
        try:
            other.stdout.readline()
            with net.inside("gw"):
                Nft().run(f"flush chain inet {TABLE} to_queue")
                add_target(TABLE, "to_queue", queue=QUEUE, queues=2)
            yield pid
        finally:
            other.kill()
            other.wait()
            other.stdout.close()


@contextmanager
def judged(net: Network, where: Path, *, reader: str, queues: int = 1) -> Iterator[int]:
    """The gateway."""
    more = {"reader": reader, "queues": queues, "length": LENGTH, "fail_open": False}
    with campaign.gateway(net, where, **more) as process:
        yield process.pid


WAYS: Final[dict[str, Way]] = {
    "forwarding": forwarding,
    "package": package,
    "bare": bare,
    "bare-two": bare_two,
    "judged-package": partial(judged, reader="package"),
    "judged-batch": partial(judged, reader="batch"),
    "judged-two": partial(judged, reader="batch", queues=2),
}

USUAL: Final = [name for name in WAYS if not name.endswith("-two")]


# What is sent ---------------------------------------------------------------------------------


def pool(gateway: bytes, sender: bytes) -> mixes.Pool:
    """Return UDP to the far side's port of the load, between these MACs."""
    data, ends_at = mixes.make("udp-flood")
    frames = data.reshape(len(ends_at), -1)
    frames[:, 26:30] = np.frombuffer(socket.inet_aton("192.0.2.2"), np.uint8)
    frames[::2, 29] = 3  # a second sender, so that there is something to spread
    frames[:, 30:34] = np.frombuffer(socket.inet_aton(TARGET), np.uint8)
    frames[:, 36:38] = np.frombuffer(LOAD_PORT.to_bytes(2, "big"), np.uint8)
    mixes.summed(frames)
    made = frames.reshape(-1), ends_at
    mixes.address(made, gateway, sender)
    return made


def macs(net: Network) -> tuple[bytes, bytes]:
    """Return the MACs between which the load is sent: the gateway's, the sender's."""
    return net.mac("gw", "lan0"), net.mac("lan", "eth0")


def cpu_s(pid: int) -> float:
    """Return what a process has used so far; 0 for nobody."""
    if not pid:
        return 0.0
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """Frames from lan towards the gateway."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._pool = pool(*macs(net))

    def send(self, pps: float, seconds: float) -> tuple[int, int]:
        """Return (arrived at the gateway, lost behind it), once nothing comes any more."""
        net, frames = self._net, Paced(*self._pool)
        began = counted(net, "gw"), counted(net, "wan")
        with net.packet_socket("lan", "eth0") as where:
            where.setblocking(True)
            where.setsockopt(263, 20, 1)  # PACKET_QDISC_BYPASS, packet(7)
            transmit(where, frames, pps=pps, seconds=seconds)
        came = -1
        while came != (came := counted(net, "wan")):
            time.sleep(0.05)
        arrived = counted(net, "gw") - began[0]
        return arrived, arrived - (came - began[1])


# The parts ------------------------------------------------------------------------------------


def rate(*, rounds: int, seconds: float, ways: list[str]) -> dict[str, Any]:
    """Return the highest rate of each way, round by round, and ratios of the medians."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    cost: dict[str, list[float]] = {name: [] for name in ways}
    shares: list[float] = []
    with TemporaryDirectory() as directory, ends() as net:
        where = Path(directory)
        load = Load(net)
        for _ in range(rounds):
            for name in ways:
                with WAYS[name](net, where) as pid:
                    load.send(5_000, WARM_S)
                    best, used = search(load, pid, seconds=seconds)
                    found[name].append(round(best))
                    cost[name].append(round(used, 2))
                    if name.startswith("judged"):
                        counts = campaign.status(where)
                        seen = counts["queue_received"]
                        shares.append(round(counts["judged"] / max(1, seen), 5))
                print(name, found[name][-1], cost[name][-1], file=sys.stderr, flush=True)
    middle = {name: statistics.median(rates) for name, rates in found.items()}
    pairs = (
        ("judged-package", "package"),
        ("judged-batch", "bare"),
        ("judged-batch", "package"),
        ("bare-two", "bare"),
        ("judged-two", "judged-batch"),
        ("bare", "forwarding"),
    )
    return {
        "pps": found,
        "cpu_us": cost,
        "judged_share": shares,
        "ratios": {
            f"{a} / {b}": round(middle[a] / middle[b], 3)
            for a, b in pairs
            if a in middle and b in middle
        },
    }


def search(load: Load, pid: int, *, seconds: float) -> tuple[float, float]:
    """Return the highest rate that loses at most LOSS, and microseconds of CPU a packet there."""
    low, high, used, pps = 0.0, 0.0, 0.0, 40_000.0
    for _ in range(TRIALS):
        before = cpu_s(pid)
        arrived, lost = load.send(pps, seconds)
        # What could not be sent that fast does not count as carried.
        if lost <= LOSS * arrived and arrived >= 0.97 * pps * seconds:
            low, used = pps, (cpu_s(pid) - before) / arrived * 1e6
        else:
            high = pps
        if low and high and high / low <= STEP:
            break
        pps = pps * 1.5 if not high else (low * high) ** 0.5 if low else high / 2
    return low, used


def delay(*, rates: list[int], seconds: float, ways: list[str]) -> dict[str, Any]:
    """Return one-way delays and losses, per rate and way."""
    found: dict[str, Any] = {}
    with TemporaryDirectory() as directory, ends() as net:
        where = Path(directory)
        path = where / "pool.npz"
        data, ends_at = pool(*macs(net))
        np.savez(path, data=data, ends=ends_at)
        for pps in rates:
            rows = found[f"{pps}_pps"] = {}
            for name in ways:
                with WAYS[name](net, where) as pid, Probes(net, TARGET, pps=PROBES_PPS) as probes:
                    rows[name] = one_delay(net, path, probes, pid=pid, pps=pps, seconds=seconds)
                print(pps, name, rows[name], file=sys.stderr, flush=True)
            base = rows.get("forwarding")
            for row in rows.values():
                for p in ("p50_us", "p99_us") if base else ():
                    row[f"added_{p}"] = round(row[p] - base[p], 1)
    return found


def one_delay(
    net: Network, path: Path, probes: Probes, *, pid: int, pps: int, seconds: float
) -> dict[str, float]:
    """Send at a rate; return what the probes have met."""
    words = [sys.executable, "-m", "ids_appliance.bench.sender", "eth0", str(path), str(pps)]
    sender = subprocess.Popen(
        net.command("lan", *words, str(seconds + WARM_S)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert sender.stdout is not None and sender.stdin is not None
    sender.stdout.readline()
    began = counted(net, "gw"), counted(net, "wan")
    sender.stdin.write(b"\n")
    sender.stdin.flush()
    time.sleep(WARM_S)
    used, begun = cpu_s(pid), counted(net, "gw")
    probes.delays_us.clear()
    time.sleep(seconds - 0.2)
    p50, p99, p999 = np.percentile(probes.delays_us, [50, 99, 99.9])
    row = {"p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1)}
    row |= {"p999_us": round(float(p999), 1), "probes": len(probes.delays_us)}
    came = counted(net, "gw") - begun + len(probes.delays_us)
    row["cpu_us"] = round((cpu_s(pid) - used) / came * 1e6, 2)
    sender.communicate()
    time.sleep(0.3)
    arrived = counted(net, "gw") - began[0]
    return row | {"arrived": arrived, "lost": arrived - (counted(net, "wan") - began[1])}


def main() -> int:
    """Run a part and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("rate", "delay"))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=USUAL)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--room", choices=tuple(CLASSES), help="hold who takes the packets to it")
    asked = parser.parse_args()
    with held(asked.room) if asked.room else nullcontext(()) as campaign.ROOM:
        if asked.part == "rate":
            found = rate(rounds=asked.rounds, seconds=asked.seconds, ways=asked.ways)
        else:
            found = delay(rates=asked.rates, seconds=asked.seconds, ways=asked.ways)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
