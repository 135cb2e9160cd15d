"""The inline path in figures: attack and ordinary traffic, what a kill costs.

    python -m tests.campaigns.inline --seconds 10
    python -m tests.campaigns.inline --only attack kill --room 1core-1gb

Three parts, in a network of namespaces (routed) or in the lab (attack). Needs root, trafgen and
hping3; prints JSON. Rates and delays: tests/campaigns/inline_speed.py.

    attack     hping3 and ordinary traffic mixed, in the lab: dropped from 1 s on, ordinary lost
    kill       SIGKILL under load: packets lost, fail_open on and off; and SIGTERM
    published  profile = "paper": each packet judged malicious dropped, nothing else
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ids_appliance.bench.groups import CLASSES, held
from ids_appliance.config import Inline
from ids_appliance.enforce.nft import Nft
from ids_appliance.errors import ControlError, NotRunning
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus
from ids_appliance.lab.namespaces import Network
from tests.campaigns.drills.ground import Ground
from tests.net.conftest import connect

MODEL: Final = Path(__file__).resolve().parents[2] / "models" / "iot-top20"
PROFILE = "appliance"
READER: str = Inline().reader
ROOM: tuple[str, ...] = ()
"""Words before a gateway's command that put it into a control group."""
QUEUE: Final = 7914
LOAD_PORT: Final = 9010
TARGET: Final = "198.51.100.2"


# The network and what runs in it ----------------------------------------------------------------


@contextmanager
def ends() -> Iterator[Network]:
    """lan - gw - wan, with counters of what comes in at gw and at wan for the load's port."""
    with Network("inl", "lan", "gw", "wan") as net:
        connect(net)
        for name, port, then in (("gw", "lan0", ""), ("wan", "eth0", "drop")):
            with net.inside(name):
                Nft().run(
                    "table netdev counted { chain c {\n"
                    f'type filter hook ingress device "{port}" priority -600; policy accept;\n'
                    f"udp dport {LOAD_PORT} counter {then}\n}}\n}}"
                )
        yield net


def counted(net: Network, name: str) -> int:
    """Return the load's packets that have come in at a host."""
    with net.inside(name):
        words = Nft().run("list table netdev counted").split()
    return int(words[words.index("packets") + 1])


def load(net: Network, where: Path, *, pps: int, seconds: float) -> subprocess.Popen[bytes]:
    """Send UDP from random ports with a small random payload."""
    gateway, own = net.mac("gw", "lan0").hex(":"), net.mac("lan", "eth0").hex(":")
    path = where / "load.cfg"
    path.write_text(
        f"{{ eth(da={gateway}, sa={own}), ipv4(ttl=64, id=drnd(), sa=192.0.2.2, da={TARGET}), "
        f"udp(sp=drnd(), dp={LOAD_PORT}), drnd(8), fill(0x41, 32) }}\n"
    )
    words = ["trafgen", "-c", str(path), "-o", "eth0", "-P", "1", "-C"]
    words += ["-b", f"{pps}pps", "-n", str(int(pps * seconds))]
    return subprocess.Popen(
        net.command("lan", *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@contextmanager
def gateway(
    net: Network, where: Path, *, more: str = "", **inline: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway process, its window open, in a profile: PROFILE; more: settings of the top."""
    settings = {"enabled": True, "queue": QUEUE, "bypass": False, "reader": READER, **inline}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    config = where / "gateway.toml"
    acting = json.dumps(PROFILE == "paper")
    config.write_text(
        f'interfaces = ["lan0"]\nmodel = "{MODEL}"\nstate_dir = "{where}/state"\n'
        f'run_dir = "{where}/run"\nprofile = "{PROFILE}"\n{more}'
        f'[trigger]\nkind = "always"\n[enforce]\nenabled = {acting}\n[inline]\n{lines}'
    )
    with (where / "said").open("wb") as said:
        words = [sys.executable, "-m", "ids_appliance", "gateway", "--config", str(config)]
        process = subprocess.Popen([*ROOM, *net.command("gw", *words)], stderr=said)
    try:
        wait_for(lambda: running(where), lambda: process.poll() is not None, where)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)


def running(where: Path) -> bool:
    """Say whether it answers."""
    try:
        status(where)
    except (NotRunning, ControlError):
        return False
    return True


def wait_for(look: Callable[[], bool], over: Callable[[], bool], where: Path) -> None:
    """Wait until it is so. Raises SystemExit: it cannot be any more."""
    end = time.monotonic() + 60
    while not look():
        if over() or time.monotonic() > end:
            raise SystemExit((where / "said").read_text())
        time.sleep(0.05)


def status(where: Path) -> dict[str, int]:
    """Return the gateway's counters."""
    with Client(where / "run") as client:
        return dict(client.ask(AskStatus()).counters)


@contextmanager
def nobody(net: Network, where: Path) -> Iterator[None]:
    """Forwarding without us."""
    with net.inside("gw"):
        Nft().run("table inet ids_inline\ndelete table inet ids_inline\n")
    yield


# The parts --------------------------------------------------------------------------------------


def kill(*, pps: int, seconds: float) -> dict[str, Any]:
    """Return what SIGKILL under load costs, and an orderly stop."""
    found: dict[str, Any] = {}
    for name, number, fail_open in (
        ("fail_open", signal.SIGKILL, True),
        ("fail_closed", signal.SIGKILL, False),
        ("stopped", signal.SIGTERM, True),
    ):
        with TemporaryDirectory() as directory, ends() as net, ExitStack() as stack:
            where = Path(directory)
            process = stack.enter_context(gateway(net, where, fail_open=fail_open))
            sender = load(net, where, pps=pps, seconds=seconds)
            time.sleep(seconds / 2)
            before = counted(net, "gw") - counted(net, "wan")
            process.send_signal(number)
            process.wait(30)
            sender.wait(60)
            time.sleep(0.5)
            arrived, delivered = counted(net, "gw"), counted(net, "wan")
            found[name] = {
                "arrived": arrived,
                "lost": arrived - delivered,
                "in_flight_before": before,
            }
    return found


def attack(*, seconds: float, published: bool = False) -> dict[str, Any]:
    """Return how much of a SYN flood and of ordinary traffic is dropped, in the lab."""
    settings: dict[str, Any] = {"inline.enabled": True, "inline.log_per_second": 500}
    settings["inline.reader"] = READER
    if published:
        settings |= {"profile": "paper"}
    with Ground("routed", **settings) as ground:
        lab = ground.lab
        ground.start()
        assert ground.process is not None
        for group in re.findall(r"> (\S+);", " ".join(ROOM)):  # not to be seen from inside the lab
            Path(group).write_text(str(ground.process.pid))
        server = lab.address("server")
        hosts = ["dev01", "dev02", "dev03", "phone"]
        words = ["ping", "-n", "-q", "-i", "0.02", "-W", "2", "-w", str(int(seconds) + 2), server]
        pings = [lab.popen(host, words, stdout=subprocess.PIPE) for host in hosts]
        time.sleep(1.0)
        count = _count_in("bot", lab)
        flood = lab.popen(
            "bot",
            ["hping3", "-q", "-S", "-p", "80", "-i", "u200", server],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1.0)
        sent_1s, through_1s = count()
        time.sleep(max(1.0, seconds - 2))
        flood.terminate()
        flood.wait(10)
        time.sleep(0.5)
        sent, through = count()
        lost = {}
        for host, ping in zip(hosts, pings, strict=True):
            said = ping.communicate()[0].decode()
            lost[host] = said.partition("transmitted,")[2].partition("\n")[0].strip()
        after, passed = sent - sent_1s, through - through_1s
        return {
            "attack_packets_from_1_s_on": after,
            "of_these_passed": passed,
            "dropped_share": round(1 - passed / max(1, after), 5),
            "ordinary": lost,
            "told_as_dropped_by_source": dict(
                Counter(e.get("src_ip", "more") for e in ground.events("drop"))
            ),
            "counters": _of_interest(ground.status().counters),
        }


def _count_in(host: str, lab: Any) -> Callable[[], tuple[int, int]]:
    """Count a host's SYNs to port 80: where it sends them, and where they arrive."""
    source = lab.address(host)
    rule = f"ip saddr {source} tcp dport 80 tcp flags syn counter"
    with lab.inside(host):
        Nft().run(
            "table inet counted { chain c {\ntype filter hook output priority -400;\n"
            f"{rule}\n}}\n}}"
        )
    with lab.inside("server"):
        Nft().run(
            "table inet counted { chain c {\ntype filter hook prerouting priority -400;\n"
            f"{rule}\n}}\n}}"
        )

    def count() -> tuple[int, int]:
        found = []
        for name in (host, "server"):
            with lab.inside(name):
                words = Nft().run("list table inet counted").split()
            found.append(int(words[words.index("packets") + 1]))
        return found[0], found[1]

    return count


def _of_interest(counters: dict[str, int]) -> dict[str, int]:
    names = ("queue_", "forward_", "inline_", "bypass_", "judged", "shed", "unanswered")
    return {
        name: value
        for name, value in counters.items()
        if value and name.startswith(names) and "_le_" not in name
    }


def main() -> int:
    """Run the parts and print what was seen."""
    global READER, ROOM
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parts = ("attack", "kill", "published")
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts))
    parser.add_argument("--reader", choices=("package", "batch"), default=READER)
    parser.add_argument("--room", choices=tuple(CLASSES), help="hold the gateway to it")
    asked = parser.parse_args()
    READER = asked.reader
    with held(asked.room) if asked.room else nullcontext(()) as ROOM:
        print(json.dumps(run(asked), indent=1))
    return 0


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that are asked for."""
    found: dict[str, Any] = {}
    if "kill" in asked.only:
        found["kill"] = kill(pps=10_000, seconds=asked.seconds)
    if "attack" in asked.only:
        found["attack"] = attack(seconds=asked.seconds)
    if "published" in asked.only:
        found["published"] = attack(seconds=asked.seconds, published=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
