"""A spoofed flood past a gateway that Zeek prescreens, and past one that has only its own rules.

    python -m tests.campaigns.zeek_live --seconds 10

In the lab (routed) an outsider floods a device with SYNs from random addresses, as fast as the
machine does or at `--pps`, once at a gateway with `trigger.kind = "zeek"` and Zeek behind the
bounded mirror, once at one with "embedded". The cables' far ends belong to the flood: its frames
come straight from the gateway's neighbour, and what is forwarded is swallowed by the next one, so
that this machine's CPU is spent in the gateway. Its senders come before every other program, for
another machine's flood does not wait until this one has time: who is short of CPU is Zeek and the
gateway. Shown: what was sent, what arrived and what was forwarded, Zeek's CPU in the flood and
until it had caught up, its memory and losses, what the mirror copied and held back, the time from
the first packet to each trigger. Needs root and a `zeek` (8.0 or later); exit code 1 where a flood
opened no window, the mirror copied more than it may, or held something back and nobody said so.
"""

import argparse
import ipaddress
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ids_appliance.bench import mixes
from ids_appliance.bench.mixes import Pool
from ids_appliance.config import Config, Zeek
from ids_appliance.enforce.nft import Nft
from ids_appliance.gateway import mirror
from ids_appliance.gateway.mirror import NEAR, Names
from ids_appliance.lab.layouts import SWITCH
from ids_appliance.lab.network import Lab
from ids_appliance.trigger.zeek_mirror import TABLE
from ids_appliance.trigger.zeek_settings import redefs
from tests.campaigns.live_flood import resident_kib, running, status

SCRIPTS = (
    Path(__file__).resolve().parents[2] / "ansible/roles/zeek/files/ids-appliance-zeek/scripts"
)
PORT = 81
VICTIM = "dev01"
START_S = 60.0
DEAF = (
    "add table netdev deaf; add chain netdev deaf from_gateway "
    "{{ type filter hook ingress device {inside} priority 0; }}; "
    f"add rule netdev deaf from_gateway tcp dport {PORT} drop"
)
MAX_FRAMES = 1_000_000
"""Of a pool; after so many the same come again."""
UNBOUNDED_PPS = 2_000_000
AHEAD = -15
"""Nice value of the senders."""
SLACK_S = 1.0
"""Before a flood's first packet is seen, the mirror's counter has been read."""


class Behind:
    """Zeek at the far end of a mirror, in a directory of its own."""

    def __init__(self, names: Names, where: Path) -> None:
        self.names = names
        self.where = where
        self.log = where / "trigger.log"
        self.process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Start it and wait until it writes."""
        # Zeek's ring, as in the role, where this build has it; else libpcap's.
        plugins = subprocess.run(
            ["zeek", "-N", "-b"], capture_output=True, text=True, check=True
        ).stdout
        ring = "af_packet::" if "AF_Packet" in plugins else ""
        begun_s = time.time_ns() / 1e9
        words = ["ip", "netns", "exec", self.names.namespace, "zeek", "-b", "-C"]
        with (self.where / "stderr").open("wb") as errors:
            process = self.process = subprocess.Popen(
                [*words, "-i", f"{ring}{NEAR}", str(SCRIPTS), "gateway.zeek"],
                cwd=self.where,
                stdout=errors,
                stderr=errors,
            )
        end = time.monotonic() + START_S
        while self.last_s() < begun_s:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"Zeek does not write: {(self.where / 'stderr').read_text()}")
            time.sleep(0.1)

    def last_s(self) -> float:
        """Return the time of the last whole line (epoch); 0 where there is none."""
        with suppress(OSError, ValueError, IndexError):
            return float(json.loads(self.log.read_bytes().splitlines()[-1])["ts"])
        return 0.0

    @property
    def pid(self) -> int:
        """Of the running Zeek."""
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        """Whether it has not ended by itself."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it, without a chance to say so; safe to call twice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def behind_the_mirror(
    lab: Lab, where: Path, mirror_pps: int, *, settings: str = ""
) -> Iterator[Behind]:
    """The mirror of the lab's gateway with a Zeek at its far end; yields Zeek once it writes.

    settings: further lines of its script."""
    names = Names(namespace=f"idszeeklive{os.getpid()}")
    where.mkdir()
    config = Config(interfaces=tuple(lab.gateway_interfaces), zeek=Zeek(mirror_pps=mirror_pps))
    with ExitStack() as stack:
        with lab.inside("gw"):
            mirror.up(config, names)
            sight = mirror.sight(config)
        stack.callback(_inside, lab, mirror.down, names)
        # A line that waited for Zeek's timer would not be written at all.
        patient = "redef Log::flush_interval = 1hr;\n"
        (where / "gateway.zeek").write_text(redefs(config.trigger, sight) + patient + settings)
        zeek = Behind(names, where)
        stack.callback(zeek.kill)
        zeek.start()
        yield zeek


def _inside(lab: Lab, call: Any, *arguments: Any) -> Any:
    with lab.inside("gw"):
        return call(*arguments)


def syns(lab: Lab, frames: int) -> Pool:
    """SYNs to the victim from random addresses and ports, as the gateway's connection tracking
    wants them: one whose checksum is wrong is no connection to it."""
    data, ends = mixes.syn_spoofed(np.random.default_rng(0), frames)
    mixes.address((data, ends), lab.next_hop_mac("outsider", VICTIM), lab.mac("outsider"))
    table = data.reshape(frames, -1)
    table[:, 30:34] = list(ipaddress.ip_address(lab.address(VICTIM)).packed)
    table[:, 36:38] = list(PORT.to_bytes(2, "big"))
    words = table.view(">u2")
    header, segment = words[:, 7:17], words[:, 17:27]
    for part, at, more in ((header, 5, ()), (segment, 8, (*range(13, 17),))):
        part[:, at] = 0
        total = part.sum(axis=1, dtype=np.uint32) + words[:, more].sum(axis=1, dtype=np.uint32)
        total += np.uint32(6 + 20) if more else np.uint32(0)  # protocol and length (RFC 9293)
        for _ in range(2):
            total = (total & 0xFFFF) + (total >> 16)
        part[:, at] = 0xFFFF - total
    return data, ends


@dataclass(frozen=True, slots=True)
class Flood:
    """Senders at work."""

    processes: tuple[subprocess.Popen[Any], ...]
    start: float
    """When the first packet arrived (epoch)."""

    def sent(self, within_s: float) -> int:
        """Wait for their end; return the packets that they have sent."""
        said = [process.communicate(timeout=within_s)[0] for process in self.processes]
        return sum(int(json.loads(one)["packets"]) for one in said)


def flood(lab: Lab, where: Path, *, pps: int, seconds: float) -> Flood:
    """Start a SYN flood from random addresses (pps 0: as fast as it goes), one sender a core."""
    n = len(os.sched_getaffinity(0))
    each = (pps or UNBOUNDED_PPS) / n
    data, ends = syns(lab, min(MAX_FRAMES, int(n * each * seconds)))
    wanted = data[30:34].tobytes()
    lab.run(SWITCH, "nft", DEAF.format(inside=f"u-{lab.port(VICTIM)}"))
    processes = []
    for part, first in enumerate(range(0, len(ends), -(-len(ends) // n))):
        path = where / f"syns-{part}.npz"
        share = data.reshape(len(ends), -1)[first : first + -(-len(ends) // n)]
        np.savez(path, data=share.reshape(-1), ends=ends[: len(share)])
        words = [sys.executable, "-m", "ids_appliance.bench.sender", f"u-{lab.port('outsider')}"]
        with (where / "sender").open("wb") as errors:
            processes.append(
                lab.popen(
                    SWITCH, [*words, str(path), str(each), str(seconds)],
                    limit_s=seconds + START_S,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                )
            )  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit(f"no flood: {(where / 'sender').read_text()}")
        os.setpriority(os.PRIO_PGRP, process.pid, AHEAD)
    with lab.packet_socket("gw", lab.port("outsider")) as seen:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([seen], [], [], 1.0)[0]:
                continue
            frame = seen.recv(64)
            if frame[23:24] == b"\x06" and frame[30:34] == wanted and frame[36:38] == b"\0Q":
                return Flood(tuple(processes), time.time_ns() / 1e9)
    raise SystemExit("no packet of the flood has arrived")


def triggers(path: Path, start: float) -> dict[str, float]:
    """Return seconds from the start to each rule's first trigger, by who saw it."""
    found: dict[str, float] = {}
    for line in path.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["event_type"] != "trigger":
            continue
        said = event["trigger"]
        name = f"{said['rule']} ({'Zeek' if said['detail'].startswith('Zeek:') else 'own'})"
        at = datetime.fromisoformat(event["timestamp"]).timestamp()
        found.setdefault(name, round(at - start, 3))
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used; proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def passed(lab: Lab, interface: str, way: str) -> int:
    """Return the frames that the gateway has received ("rx") or sent ("tx") there."""
    shown = lab.run("gw", "ip", "-s", "-j", "link", "show", "dev", interface)
    return int(json.loads(shown)[0]["stats64"][way]["packets"])


def held_back() -> dict[str, int]:
    """Return the mirror's counters."""
    text = Nft().run(f"list counters table ip {TABLE}")
    return {name: int(n) for name, n in re.findall(r"counter (\w+) \{\s*packets (\d+)", text)}


def passage(kind: str, *, pps: int, seconds: float, mirror_pps: int = 5_000) -> dict[str, Any]:
    """One flood past one gateway."""
    with ExitStack() as stack:
        where = Path(stack.enter_context(TemporaryDirectory()))
        lab = stack.enter_context(Lab("routed", tag="z"))
        settings = (
            f'[trigger]\nkind = "{kind}"\n[enforce]\nenabled = false\n[metrics]\nlisten = ""\n'
        )
        settings += f'[zeek]\nlog = "{where}/zeek/trigger.log"\nmirror_pps = {mirror_pps}\n'
        zeek = None
        if kind == "zeek":
            zeek = stack.enter_context(behind_the_mirror(lab, where / "zeek", mirror_pps))
        process = stack.enter_context(running(lab, where, settings, mode="gateway-only"))
        _await_zeek(where, kind)
        outside, inside = lab.port("outsider"), lab.port(VICTIM)
        before = passed(lab, outside, "rx"), passed(lab, inside, "tx")
        copied = _inside(lab, held_back)["copied"] if zeek else 0
        used, ours = cpu_s(zeek.pid) if zeek else 0.0, cpu_s(process.pid)
        under_way = flood(lab, where, pps=pps, seconds=seconds)
        start = under_way.start
        sent = under_way.sent(seconds + START_S)
        took_s = time.time_ns() / 1e9 - start
        result: dict[str, Any] = {
            "kind": kind,
            "seconds": round(took_s, 2),
            "sent": sent,
            "arrived": passed(lab, outside, "rx") - before[0],
            "forwarded": passed(lab, inside, "tx") - before[1],
            "gateway_cpu": round((cpu_s(process.pid) - ours) / took_s, 3),
        }
        result["arrived_pps"] = round(result["arrived"] / took_s)
        if zeek is not None:
            counters = status(where).counters
            result |= {
                "zeek_cpu": round((cpu_s(zeek.pid) - used) / took_s, 3),
                "zeek_resident_kib": resident_kib(zeek.pid),
                "zeek_alive": zeek.alive() and bool(counters["zeek_alive"]),
                **_inside(lab, held_back),
            }
            now_s = time.time_ns() / 1e9 - start
            result["copied"] -= copied
            result["may_copy"] = round(mirror_pps * (now_s + SLACK_S)) + Zeek().mirror_burst
        # What was under way at the flood's end: a sign of life comes once a second.
        time.sleep(2.0)
        if zeek is not None:
            counters = _caught_up(where)
            result["zeek_cpu_s"] = round(cpu_s(zeek.pid) - used, 2)
            result["zeek_behind_s"] = round(time.time_ns() / 1e9 - start - took_s, 1)
            result |= {name: counters[name] for name in ("zeek_packets", "zeek_lost")}
        result["windows"] = status(where).windows
        result["trigger_s"] = triggers(where / "state" / "events.jsonl", start)
        return result


def _await_zeek(where: Path, kind: str) -> None:
    end = time.monotonic() + START_S
    while kind == "zeek" and not status(where).counters["zeek_alive"]:
        if time.monotonic() > end:
            raise SystemExit("the gateway does not hear Zeek")
        time.sleep(0.1)


def _caught_up(where: Path) -> dict[str, int]:
    """Return the gateway's counters once two signs of life of Zeek's say the same."""
    end = time.monotonic() + START_S
    counters: dict[str, int] = status(where).counters
    before = -1
    while counters["zeek_packets"] != before and time.monotonic() < end:
        before = counters["zeek_packets"]
        time.sleep(2.0)
        counters = status(where).counters
    return counters


def wrong(result: dict[str, Any]) -> list[str]:
    """Return what must not be."""
    found = [] if result["windows"] else ["no window was opened"]
    if result["kind"] != "zeek":
        return found
    if not result["zeek_alive"]:
        found.append("Zeek is gone")
    if result["copied"] > result["may_copy"]:
        found.append("the mirror has copied more than its limit allows")
    if result["limited"] and "overflow (Zeek)" not in result["trigger_s"]:
        found.append("the mirror held packets back and Zeek did not say so")
    return found


def main() -> int:
    """Run both and print them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pps", type=int, default=0, help="0: as fast as it goes")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--mirror-pps", type=int, default=5_000)
    options = parser.parse_args()
    if shutil.which("zeek") is None:
        raise SystemExit("there is no zeek on the PATH")
    results = [passage(kind, **vars(options)) for kind in ("embedded", "zeek")]
    problems = [problem for result in results for problem in wrong(result)]
    print(json.dumps({"results": results, "wrong": problems}, indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
