"""One packet too many in, how long it takes until the kernel holds its sender out.

A sender sends a packet, waits, sends the next one: whichever of them crosses the threshold is the
last one sent before the gateway decides. From its sending it is measured until the kernel has
confirmed the element. Two ways across: ARP that contradicts a configured binding (the very first
packet), and evidence, SYN by SYN of a scan that the forest knows. Every sample is a sender of its
own; elements of the earlier ones stay, so the sets grow.
"""

import json
import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ids_appliance.bench.bed import GATEWAY, INTERFACE, Bed
from ids_appliance.bench.modes import connect
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import SetWindow
from ids_appliance.lab.demo.journal import time_of
from tests.bench import spine
from tests.bench.budgets.rows import Figure

LIMIT_MS: Final = 20.0
BOUND_MAC: Final = "02:1d:5e:00:07:07"
"""Whose the claimed addresses are; each claimant claims another one, as a rule rests for a while
after it has fired about an address."""
PAUSE_S: Final = 0.06
"""Between two packets of a sender: longer than a decision should take."""
PATIENCE_S: Final = 1.0
MOST: Final = 120
"""Packets after which a sender that nobody has cut off is given up."""


@dataclass(slots=True)
class Watched:
    """Senders' MACs -> when it was decided, and when the kernel held them; by events."""

    decided: dict[str, int]
    applied: dict[str, int]
    changed: threading.Condition


@contextmanager
def enforcing(bed: Bed, samples: int) -> Iterator[Watched]:
    """A gateway on the bed that acts, followed."""
    bindings = ", ".join(f'"{_claimed(number)}" = "{BOUND_MAC}"' for number in range(samples))
    place = bed.directory / "enforcing"
    place.mkdir()
    config = place / "gateway.toml"
    config.write_text(
        f"interfaces = {json.dumps([INTERFACE])}\nmodel = {json.dumps(str(spine.SHIPPED))}\n"
        f'mode = "gateway-only"\nstate_dir = "{place}/state"\nrun_dir = "{place}/run"\n'
        f'leases = ""\n[trigger]\nbindings = {{ {bindings} }}\n'
        "[policy]\nbreaker_per_minute = 1000000\nbreaker_lan_share = 1.0\n"
        "[window]\nwindow_s = 600\nmax_window_s = 3600\n[enforce]\nenabled = true\n"
    )
    words = [sys.executable, "-m", "ids_appliance", "gateway", "--config", str(config)]
    with closing(bed.process(GATEWAY, *words)) as process:
        with closing(connect(process, place / "run")):
            pass
        watched = Watched({}, {}, threading.Condition())
        with (
            closing(Client(place / "run")) as following,
            closing(Client(place / "run", orders=True)) as orders,
        ):
            thread = threading.Thread(target=_follow, args=(following, watched), daemon=True)
            thread.start()
            orders.ask(SetWindow(open_=True))
            yield watched


def _follow(client: Client, watched: Watched) -> None:
    for event in client.follow(0):
        if isinstance(event, int) or "src_mac" not in event:
            continue
        kind = event["event_type"]
        action = event.get(kind, {}).get("action")
        with watched.changed:
            if (kind, action) == ("decision", "decided"):
                watched.decided.setdefault(event["src_mac"], time_of(event))
            elif (kind, action) == ("response", "applied"):
                watched.applied.setdefault(event["src_mac"], time_of(event))
            watched.changed.notify_all()


def measure(*, samples: int) -> list[Figure]:
    """Return p50 and p99 of both ways."""
    with Bed() as bed, enforcing(bed, samples) as watched, closing(bed.wire()) as wire:
        to = bed.hop
        for number in range(2 * samples):
            # Others live here too: a gateway that decides about everybody holds itself back.
            wire.send(_asking(_card(0x5EBB, number), number))
        ways = {
            "ARP against a binding": [
                _sample(wire, watched, number, lambda mac, k, n=number: _arp(to, mac, n))
                for number in range(samples)
            ],
            "evidence of SYNs": [
                _sample(wire, watched, 0x8000 + number, lambda mac, k: _syn(to, mac, k))
                for number in range(max(10, samples // 5))
            ],
        }
    return [figure for way, delays in ways.items() for figure in figures(way, delays)]


def figures(way: str, delays: Sequence[float | None]) -> list[Figure]:
    """Return median and p99 of what each sender took; who was never held out took for ever."""
    known = sum(delay is not None for delay in delays)
    note = f"{known} of {len(delays)} senders"
    waited = [math.inf if delay is None else delay for delay in delays]
    # No interpolation: between a number and for ever there is nothing.
    p50, p99 = np.percentile(waited, [50, 99], method="higher")
    return [
        Figure("element", f"{way}, p99", float(p99), "ms", LIMIT_MS, note=note),
        Figure("element", f"{way}, median", float(p50), "ms"),
    ]


def _sample(wire: socket.socket, watched: Watched, number: int, packet: Any) -> float | None:
    """Return the milliseconds from the last packet to the element; None: there was none."""
    mac = _card(0x5EAA, number)
    name, sent = mac.hex(":"), []
    for k in range(MOST):
        sent.append(time.clock_gettime_ns(time.CLOCK_REALTIME))
        wire.send(packet(mac, k))
        with watched.changed:
            if watched.changed.wait_for(lambda: name in watched.decided, PAUSE_S):
                break
    with watched.changed:
        watched.changed.wait_for(lambda: name in watched.applied, PATIENCE_S)
        decided, applied = watched.decided.get(name), watched.applied.get(name)
    if decided is None or applied is None:
        return None
    return (applied - max(t for t in sent if t <= decided)) / 1e6


def _claimed(number: int) -> str:
    """Return the address that the number-th claimant claims."""
    return f"198.18.{8 + number // 250}.{1 + number % 250}"


def _card(kind: int, number: int) -> bytes:
    """Return the MAC of the number-th of a kind."""
    return struct.pack("!HHH", 0x021D, kind, number)


def _asking(mac: bytes, number: int) -> bytes:
    """Return an ordinary device's question for the gateway's MAC."""
    own = socket.inet_aton(f"198.18.{100 + number // 250}.{1 + number % 250}")
    head = b"\xff" * 6 + mac + bytes.fromhex("08060001080006040001")
    return (head + mac + own + bytes(6) + socket.inet_aton("198.18.0.1")).ljust(60, b"\0")


def _arp(to: bytes, mac: bytes, number: int) -> bytes:
    """Return a reply in which a MAC claims what is bound to another."""
    head = to + mac + bytes.fromhex("08060001080006040002")
    own = socket.inet_aton("198.18.0.1")
    return (head + mac + socket.inet_aton(_claimed(number)) + to + own).ljust(60, b"\0")


def _syn(to: bytes, mac: bytes, k: int) -> bytes:
    """Return the k-th SYN of nmap's kind from a MAC's own address to a new port."""
    source = bytes([198, 19, mac[4], mac[5] or 255])
    options = bytes.fromhex("020405b4")
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 44, 1000 + 7 * k, 0, 53, 6, 0) + source
    ip += socket.inet_aton("198.18.1.2")
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", 0xFFFF - (total & 0xFFFF) - (total >> 16)) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", 40000 + k, 1 + 37 * k, 12345 * k, 0, 0x60, 2, 1024, 0, 0)
    return (to + mac + b"\x08\x00" + ip + tcp + options).ljust(60, b"\0")
