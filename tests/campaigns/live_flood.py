"""Minutes of a flood with random features: do the books balance every second, is memory flat?

    python -m tests.campaigns.live_flood --seconds 300 --mode offloaded

A gateway with its window open runs in the lab (routed), a node beside it in mode offloaded, and an
outsider sends packets in which everything is random that the 60 features look at. Once a second the
gateway is asked for its counters. Needs root; exit code 1 where a sum does not hold.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ids_appliance.errors import ControlError, NotRunning
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus
from ids_appliance.lab.network import Lab

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"
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
    """Random ports, flags, sizes, TTLs, protocols and payloads from random addresses."""
    hop = lab.next_hop_mac("outsider", "dev01").hex(":")
    ethernet = f"eth(da={hop}, sa={lab.mac('outsider').hex(':')})"
    target = lab.address("dev01")
    ip = f"ipv4(ttl=drnd(), id=drnd(), sa=drnd(), da={target}"
    payloads = ["", ", fill(0x41, 7), drnd(9)", ", drnd(64)", ", drnd(700)"]
    packets = []
    for payload in payloads:
        # A TCP header by hand: trafgen's own has no random flags.
        packets.append(f"{{ {ethernet}, {ip}, proto=6), drnd(12), 0x50, drnd(7){payload} }}")
        packets.append(f"{{ {ethernet}, {ip}), udp(sp=drnd(), dp=drnd()){payload} }}")
        packets.append(f"{{ {ethernet}, {ip}), icmp4(type=drnd(), code=drnd()){payload} }}")
    path = where / "flood.cfg"
    path.write_text("\n".join(packets) + "\n")
    words = ["trafgen", "-c", str(path), "-o", "eth0", "-P", "1", "-C", "-t"]
    words += [f"{1_000_000 // pps}us", "-n", str(int(pps * seconds))]
    with (where / "trafgen").open("wb") as out:
        return lab.popen("outsider", words, limit_s=seconds + 30, stdout=out, stderr=out)


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


def campaign(*, seconds: int, pps: int, mode: str) -> dict[str, Any]:
    """Run the flood and return what was seen."""
    settings = (
        '[trigger]\nkind = "always"\n[enforce]\nenabled = false\n[metrics]\nlisten = ""\n'
        f"[window]\nwindow_s = {seconds}\n"
    )
    with ExitStack() as stack:
        where = Path(stack.enter_context(TemporaryDirectory()))
        lab = stack.enter_context(Lab("routed"))
        process = stack.enter_context(running(lab, where, settings, mode=mode))
        pid = int(status(where).pid)
        sender = flood(lab, where, pps=pps, seconds=seconds)
        samples: list[dict[str, int]] = []
        problems: list[str] = []
        memory: list[int] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(1.0)
            counters = status(where).counters
            samples.append(counters)
            problems += wrong(counters)
            memory.append(resident_kib(pid))
            if len(memory) % 30 == 0:
                print(f"{len(memory)} s: {memory[-1] >> 10} MiB, {counters['judged']:,} judged")
        sent = sender.poll()
        last = samples[-1]
    return {
        "seconds": seconds,
        "mode": mode,
        "offered_pps": pps,
        "samples": len(samples),
        "problems": problems[:20],
        "wrong": len(problems),
        "generator_exit": sent,
        "resident_kib_after_10_s": memory[min(9, len(memory) - 1)],
        "resident_kib_at_start": memory[0],
        "resident_kib_at_end": memory[-1],
        "resident_kib_highest": max(memory),
        "counters": {n: last[n] for n in (*ENDS, "delivered", "kernel_drops", "cell_asks")},
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
    found = campaign(**vars(parser.parse_args()))
    print(json.dumps(found, indent=1))
    return 1 if found["wrong"] or not found["samples"] else 0


if __name__ == "__main__":
    sys.exit(main())
