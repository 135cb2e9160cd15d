"""A small network and a ledger that guards it, with a clock that tests turn by hand."""

import struct
from dataclasses import dataclass, field
from typing import Any

from ids_appliance.config import Enforce, Policy, Protect
from ids_appliance.policy.book import Clock
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.ledger import Ledger
from ids_appliance.policy.protect import Place, Protection, SystemFound
from ids_appliance.types import Finding, Kind, Side, Standing, Subject, TriggerEvent

NAMES = {2: "lan0", 3: "lan1"}
S = 10**9


def mac(n: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, n])


def ip(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


ROUTER, ADMIN = mac(1), mac(9)
FOUND = SystemFound(
    captured=("lan0", "lan1"),
    above=(("lan1", "br0"),),
    macs=(mac(254),),
    addresses=(ip("192.0.2.254"), ip("203.0.113.254"), bytes(15) + b"\1"),
    networks=(("lan0", ip("192.0.2.254"), 24),),
    routers=(Place(ip("192.0.2.1"), "lan0", ROUTER), Place(ip("203.0.113.1"), "wan0", mac(77))),
    dns=(Place(ip("198.51.100.53")),),
    nodes=(Place(ip("203.0.113.40"), "wan0"),),
)
HOSTS = KnownHosts(
    {ip(f"192.0.2.{n}"): ("lan0", mac(n)) for n in (5, 6, 7, 9)}, {mac(n): "lan0" for n in (5, 6)}
)
SETTINGS = Protect(administrators=("192.0.2.8/29@lan0", "198.51.100.128/25"))


def lan(n: int, *, ifindex: int = 2) -> bytes:
    return struct.pack("<IBB6s16s", ifindex, Side.LAN, 0, mac(n), bytes(16))


def wan(address: str) -> bytes:
    return struct.pack("<IBB6s16s", 0, Side.WAN, 4, bytes(6), ip(address).ljust(16, b"\0"))


def wan6(address: bytes) -> bytes:
    return struct.pack("<IBB6s16s", 0, Side.WAN, 6, bytes(6), address)


def flood(address: str, port: int = 80) -> bytes:
    return struct.pack("<IBB6s16s", port, Side.FLOOD, 4, bytes(6), ip(address).ljust(16, b"\0"))


def device(n: int, interface: str = "lan0") -> Subject:
    return Subject(Kind.MAC, mac(n), interface=interface)


def finding(sender: bytes, *rules: str, **fields: Any) -> Finding:
    given: dict[str, Any] = {
        "timestamp_ns": 1,
        "malicious": True,
        "score": 9.0,
        "bound": 6.0,
        "packets": 40,
        "cells": ((1, 2.5, 40),),
        "standing": int(Standing.PROVEN),
        "address": b"",
        "reason": "",
    }
    return Finding(sender=sender, rules=rules, **(given | fields))


def event(sender: bytes | None, rule: str = "port_scan", *, decisive: bool = False) -> TriggerEvent:
    return TriggerEvent(rule, "key", 1, 0, sender, "20 ports of 192.0.2.7", decisive)


@dataclass
class World:
    """A ledger over FOUND and HOSTS; `now` is its clock."""

    policy: Policy = field(default_factory=Policy)
    enforce: Enforce = field(default_factory=lambda: Enforce(enabled=True))
    protect: Protect = SETTINGS
    now: int = 1000 * S

    def __post_init__(self) -> None:
        self.protection = Protection(self.protect, FOUND, hosts=HOSTS)
        self.ledger = self.another()
        self.ledger.known_devices = 40

    def another(self) -> Ledger:
        """Return an empty ledger, as after a restart."""
        return Ledger(
            self.policy,
            self.enforce,
            guard=Guard(self.protection),
            names=lambda index: NAMES.get(index, ""),
            clock=Clock(now=lambda: self.now, wall=lambda: self.now + 10**18),
        )

    def found(self, sender: bytes, *rules: str, **fields: Any) -> list[Any]:
        return self.ledger.decide([finding(sender, *rules, **fields)], [])

    def named(self, sender: bytes, rule: str = "port_scan", *, decisive: bool = False) -> list[Any]:
        return self.ledger.decide([], [event(sender, rule, decisive=decisive)])

    def later(self, seconds: float) -> list[Any]:
        self.now += int(seconds * S)
        return self.ledger.expire(self.now)
