"""Minutes of a flood with random features: do the books balance every second, is memory flat?

    python -m tests.campaigns.live_flood --seconds 1800 --mode offloaded --json FILE

A gateway with its window open runs in the lab (routed), a node beside it in mode offloaded, and an
outsider sends packets in which everything is random that the 60 features look at: the benchmark's
mix `random`, four times as many of them as the gateway's cache holds cells. Once a second the
gateway is asked for its counters, and ordinary devices ping the server through it all the time.
When the flood is over and everything has been judged, the sums are held to the packet once more,
with nothing under way. Needs root; exit code 1 where a sum does not hold, memory grows or a device
was not answered.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ids_appliance.bench import mixes
from ids_appliance.errors import ControlError, NotRunning
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus
from ids_appliance.lab.namespaces import orderly
from ids_appliance.lab.network import Lab

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"
BOOKS = ("delivered", "kernel_packets", "kernel_drops", "malformed", "in_ring", "under_way")
BOOKS += ("cell_asks", "cell_evictions")
DEVICES = ("dev02", "dev03", "phone")
"""Who pings the server twice a second."""
GROWTH = 1.02
"""What resident memory may grow by in the second half: tables have their sizes from the start, but
the kernel gives their pages only as they are touched."""
LOST = 0.001
"""Share of pings that may stay without an answer: on a full link one is lost now and then."""
ENDS = ("judged", "unparsable", "own", "echo", "unanswered", "shed", "screened", "contained")


@contextmanager
def running(lab: Lab, where: Path, settings: str, *, mode: str) -> Iterator[Any]:
    """A gateway (and its node) in the lab; yields the process once it answers."""
    if mode == "offloaded":
        listen = f"{lab.address('node')}:7447"
        words = [sys.executable, "-m", "ids_appliance", "classifier", "--model", str(MODEL)]
        lab.popen("node", [*words, "--listen", listen, "--plaintext"])
        settings += f'\n[node]\naddresses = ["{listen}"]\nplaintext = true\n'
    config = where / "gateway.toml"
    config.write_text(
        f"interfaces = {json.dumps(list(lab.gateway_interfaces))}\n"
        f'model = "{MODEL}"\nmode = "{mode}"\n'
        f'state_dir = "{where}/state"\nrun_dir = "{where}/run"\n{settings}'
    )
    with (where / "stderr").open("wb") as errors:
        words = [sys.executable, "-m", "ids_appliance", "gateway", "--config", str(config)]
        process = lab.popen("gw", words, stderr=errors)
    end = time.monotonic() + 20
    while True:
        try:
            with Client(where / "run") as client:
                client.ask(AskStatus())
            break
        except (NotRunning, ControlError):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit((where / "stderr").read_text()) from None
            time.sleep(0.1)
    yield process
    process.terminate()
    process.wait(20)


def flood(lab: Lab, where: Path, *, pps: int, seconds: float) -> Any:
    """Random ports, flags, sizes, TTLs, protocols and payloads from random addresses, to dev01."""
    pool = mixes.make("random")
    mixes.address(pool, lab.next_hop_mac("outsider", "dev01"), lab.mac("outsider"))
    mixes.aim(pool, ip_address(lab.address("dev01")).packed)
    np.savez(where / "pool.npz", data=pool[0], ends=pool[1])
    words = [sys.executable, "-m", "ids_appliance.bench.sender", "eth0", str(where / "pool.npz")]
    words += [str(pps), str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    sender = lab.popen("outsider", words, limit_s=seconds + 60, **pipes)
    sender.stdout.readline()  # ready
    sender.stdin.write(b"\n")
    sender.stdin.flush()
    return sender


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def wrong(counters: dict[str, int]) -> list[str]:
    """Return the sums that do not hold."""
    found = []
    ends = sum(counters[name] for name in ENDS) + counters["under_way"]
    if counters["delivered"] != ends:
        found.append(f"delivered {counters['delivered']} != {ends}")
    ring = sum(counters[name] for name in ("delivered", "malformed", "in_ring", "kernel_drops"))
    # `delivered` is the ring's here; the pipeline's own can be one batch behind.
    if counters["kernel_packets"] != ring:
        found.append(f"kernel packets {counters['kernel_packets']} != {ring}")
    return found


def pings(lab: Lab, *, seconds: float) -> dict[str, Any]:
    """Let ordinary devices ping the server until the end."""
    words = ["ping", "-n", "-q", "-i", "0.5", "-W", "2", "-w", str(int(seconds))]
    words.append(lab.address("server"))
    return {
        name: lab.popen(name, words, limit_s=seconds + 30, stdout=subprocess.PIPE)
        for name in DEVICES
    }


def answered(running: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return (sent, answered) of each device's pings, once they have ended."""
    found = {}
    for name, process in running.items():
        said = process.communicate()[0].decode()
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        found[name] = (int(counts[1]), int(counts[2])) if counts else (0, 0)
    return found


def settled(where: Path) -> dict[str, int]:
    """Return the counters once nothing is under way, or after ten seconds."""
    for _ in range(100):
        counters: dict[str, int] = status(where).counters
        if not counters["under_way"] and not counters["in_ring"]:
            break
        time.sleep(0.1)
    return counters


def campaign(*, seconds: int, pps: int, mode: str) -> dict[str, Any]:
    """Run the flood and return what was seen."""
    settings = (
        '[trigger]\nkind = "always"\n[enforce]\nenabled = false\n[metrics]\nlisten = ""\n'
        f"[window]\nwindow_s = {seconds}\nmax_window_s = {max(600, seconds)}\n"
    )
    with ExitStack() as stack:
        where = Path(stack.enter_context(TemporaryDirectory()))
        lab = stack.enter_context(Lab("routed"))
        process = stack.enter_context(running(lab, where, settings, mode=mode))
        pid = int(status(where).pid)
        load = os.getloadavg()[0]
        began = status(where).counters
        pinging = pings(lab, seconds=seconds)
        sender = flood(lab, where, pps=pps, seconds=seconds)
        start = time.monotonic()
        samples: list[dict[str, int]] = []
        problems: list[str] = []
        memory: list[int] = []
        end = start + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(1.0)
            counters = status(where).counters
            samples.append(counters)
            problems += wrong(counters)
            memory.append(resident_kib(pid))
            if len(memory) % 30 == 0:
                print(f"{len(memory)} s: {memory[-1] >> 10} MiB, {counters['judged']:,} judged")
        reached = answered(pinging)
        sent = json.loads(sender.communicate(timeout=60)[0])
        took = time.monotonic() - start
        last = settled(where)
        problems += wrong(last)
        if last["under_way"]:
            problems.append(f"{last['under_way']} still under way at the end")
    warm = memory[len(memory) // 2]
    return {
        "seconds": seconds,
        "mode": mode,
        "asked_pps": pps,
        "sent": sent["packets"],
        "given_up": sent["given_up"],
        "seconds_of_flood": round(took, 1),
        "judged_pps": round((last["judged"] - began["judged"]) / took),
        "load_before": round(load, 2),
        "samples": len(samples),
        "problems": problems[:20],
        "wrong": len(problems),
        "generator_exit": sender.returncode,
        "pings": {name: {"sent": n, "answered": good} for name, (n, good) in reached.items()},
        "pings_lost": round(
            1 - sum(g for _, g in reached.values()) / max(1, sum(n for n, _ in reached.values())), 5
        ),
        "resident_kib_half_way": warm,
        "resident_mib_each_minute": [kib >> 10 for kib in memory[::60]],
        "resident_growth": round(max(memory[len(memory) // 2 :]) / warm, 4),
        "resident_kib_at_start": memory[0],
        "resident_kib_at_end": memory[-1],
        "resident_kib_highest": max(memory),
        "counters": {n: last[n] for n in (*ENDS, *BOOKS)},
    }


def status(where: Path) -> Any:
    """Ask the gateway how it is."""
    with Client(where / "run") as client:
        return client.ask(AskStatus())


def main() -> int:
    """Run it and print what was seen as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--pps", type=int, default=20_000)
    parser.add_argument("--mode", choices=["gateway-only", "offloaded"], default="gateway-only")
    parser.add_argument("--json", type=Path, help="also write what was seen here")
    given = vars(parser.parse_args())
    file = given.pop("json")
    with orderly():
        found = campaign(**given)
    print(json.dumps(found, indent=1))
    if file:
        file.write_text(json.dumps(found, indent=1) + "\n")
    fine = found["samples"] and not found["wrong"]
    return 0 if fine and found["resident_growth"] <= GROWTH and found["pings_lost"] <= LOST else 1


if __name__ == "__main__":
    sys.exit(main())
