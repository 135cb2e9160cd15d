"""A SYN flood on a switch, judged on a mirror, ended by a flow entry: how much still got through?

    python -m tests.campaigns.monitor_flood --cut port --pps 5000 --forged --controller

Host1 floods Host2's port 80 through Open vSwitch (userspace datapath). The appliance sits on the
mirror's port with nothing but the OpenFlow enforcer. Host3 pings Host2 and opens connections to
it all the while. Needs root, Open vSwitch, hping3; exit code 1 where the flood went on, or ordinary
traffic was lost once it was cut off.
"""

import argparse
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ids_appliance.errors import ControlError
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus
from tests.enforce.traffic import echo_server
from tests.monitor.controlled import Controlled, address, controlled, mac

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"
IDS = (sys.executable, "-m", "ids_appliance")
PING_S = 0.02
OURS = "cookie=0x1d5a000000000001/-1"


@contextmanager
def gateway(place: Controlled, where: Path, *, cut: str) -> Iterator[None]:
    """The appliance on the mirror, once it answers."""
    config = where / "gateway.toml"
    config.write_text(
        f'interfaces = ["eth1"]\ntaps = ["eth1"]\nmodel = "{MODEL}"\n'
        f'state_dir = "{where}/state"\nrun_dir = "{where}/run"\n'
        '[enforce]\nenabled = true\nbackend = "openflow"\n'
        f'[enforce.openflow]\nbridge = "s1"\novs_run_dir = "{place.switch.directory}"\n'
        f'cut = "{cut}"\n'
    )
    words = place.net.command("mon", *IDS, "gateway", "--config", str(config))
    with (where / "stderr").open("wb") as errors, subprocess.Popen(words, stderr=errors) as running:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    with Client(where / "run") as client:
                        client.ask(AskStatus())
                    break
                except ControlError:
                    if running.poll() is not None or time.monotonic() > end:
                        raise SystemExit((where / "stderr").read_text()) from None
                    time.sleep(0.05)
            yield
        finally:
            running.terminate()


class Opening:
    """Host3 opens a connection to Host2 ten times a second, until closed."""

    def __init__(self, place: Controlled) -> None:
        self.done: list[tuple[float, bool]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(place,))
        self._thread.start()

    def _run(self, place: Controlled) -> None:
        with place.net.inside("h3"):
            while not self._stop.wait(0.1):
                begun = time.time_ns() / 1e9
                with socket.socket() as plug, suppress(OSError):
                    plug.settimeout(2)
                    answered = plug.connect_ex((address("h2"), 80)) == 0
                    self.done.append((begun, answered))

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()


def times(path: Path) -> list[float]:
    """Return the time of every packet of a capture with nanoseconds, seconds since the epoch."""
    data = path.read_bytes()
    at, found = 24, []
    while at + 16 <= len(data):
        seconds, fraction, length, _ = struct.unpack_from("<IIII", data, at)
        found.append(seconds + fraction / 1e9)
        at += 16 + length
    return found


def events(where: Path) -> list[dict[str, Any]]:
    """Return the event log."""
    path = where / "state" / "events.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def moment(event: dict[str, Any]) -> float:
    """Return an event's time, seconds since the epoch."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def campaign(*, pps: int, seconds: int, cut: str, forged: bool, controller: bool) -> dict[str, Any]:
    """Play it and return the figures."""
    with ExitStack() as stack:
        where = Path(stack.enter_context(TemporaryDirectory(prefix="ids-mf-")))
        place = stack.enter_context(controlled(where / "ovs", "mf"))
        net = place.net
        if controller:
            place.connect()
        stack.enter_context(place.controller() if controller else nullcontext())
        stack.enter_context(echo_server(net, "h2", 80))
        if not place.ping("h3", "h2"):
            raise SystemExit("Host3 does not reach Host2")
        stack.enter_context(gateway(place, where, cut=cut))
        seen = where / "seen.pcap"
        words = ["tcpdump", "-i", "eth1", "-s", "64", "--time-stamp-precision=nano", "-U", "-w"]
        only = f"ether src {mac('h1')} and tcp dst port 80"
        words = net.command("h2", *words, str(seen), "-Z", "root", "-B", "65536", only)
        dump = stack.enter_context(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        stack.callback(dump.terminate)
        assert dump.stderr is not None
        next(line for line in dump.stderr if "listening" in line)
        count = int((seconds + 4) / PING_S)
        words = ["ping", "-n", "-D", "-i", str(PING_S), "-c", str(count), address("h2")]
        words = net.command("h3", *words)
        ping = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        stack.callback(ping.terminate)
        opening = Opening(place)
        stack.callback(opening.close)
        time.sleep(2)  # ordinary traffic alone, as the appliance knows it
        options = ["--rand-source"] if forged else []
        flood = ["hping3", "-q", "-n", "-S", "-p", "80", "-i", f"u{1_000_000 // pps}"]
        flood += ["-c", str(pps * seconds), *options, address("h2")]
        begun = time.time_ns() / 1e9
        subprocess.run(net.command("h1", *flood), capture_output=True, timeout=20 * seconds)
        over = time.time_ns() / 1e9
        entries = place.switch.ofctl("--no-names", "dump-flows", "s1", OURS)
        listed = time.time_ns() / 1e9
        pings = ping.communicate()[0]
        opening.close()
        dump.terminate()
        said = dump.stderr.read()
        dump.wait()
        story = events(where)
        return figures(begun, over, times(seen), story) | {
            "flood_s": round(over - begun, 3),
            "entry_after_s": _entry(entries, listed, begun),
            "entries": [line.strip() for line in entries.splitlines() if "priority" in line],
            "host3_pings_lost": _lost(pings),
            "host3_pings": count,
            "host3_openings": len(opening.done),
            "host3_openings_failed": sum(not good for _, good in opening.done),
            "tcpdump": " ".join(re.findall(r"\d+ packets \w+ by kernel", said)),
        }


def figures(begun: float, over: float, arrived: list[float], story: list[dict[str, Any]]) -> Any:
    """Return what came through, before and after what the appliance did."""
    triggers = [moment(e) for e in story if e["event_type"] == "trigger"]
    applied = [
        e for e in story if e["event_type"] == "response" and e["response"]["action"] == "applied"
    ]
    cut_off = [moment(e) for e in applied if e["response"]["response"] == "quarantine"]
    trigger = min(triggers, default=float("inf"))
    cut = min(cut_off, default=float("inf"))
    return {
        "reached_host2": len(arrived),
        "before_trigger": sum(t < trigger for t in arrived),
        "trigger_to_cut": sum(trigger <= t < cut for t in arrived),
        "after_cut": sum(t >= cut for t in arrived),
        "last_at_s": round(max(arrived, default=begun) - begun, 3),
        "trigger_after_s": round(trigger - begun, 3),
        "applied_after_s": round(cut - begun, 3),
        "cut_before_end": cut < over,
        "whom": sorted({e["response"]["subject"] for e in applied}),
        "notes": sorted({e["response"].get("note") or "" for e in applied}),
    }


def _entry(entries: str, listed: float, begun: float) -> float | None:
    ages = [float(age) for age in re.findall(r"duration=([\d.]+)s", entries)]
    return round(listed - max(ages) - begun, 3) if ages else None


def _lost(pings: str) -> int:
    sent, received = re.findall(r"(\d+) packets transmitted, (\d+) received", pings)[0]
    return int(sent) - int(received)


def main() -> int:
    """Play it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pps", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--cut", choices=["mac", "port"], default="port")
    parser.add_argument("--forged", action="store_true", help="another source address each")
    parser.add_argument("--controller", action="store_true", help="ours, fail-mode secure")
    found = campaign(**vars(parser.parse_args()))
    print(json.dumps(found, indent=1))
    good = found["cut_before_end"] and found["host3_pings_lost"] == 0
    return 0 if good and found["host3_openings_failed"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
