"""What was played in, labels for every packet of its capture out (the format of labels.json).

The rules are made from who attacked whom with what and when, never from the packets: malicious is
what the attacker sent to its victim, related what came back or was diverted. The first match wins;
everything else is ordinary life.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ids_appliance.lab.layouts import GATEWAY, HOSTS, SWITCH
from ids_appliance.lab.network import Lab
from ids_appliance.lab.scenarios import Scenario, Step, hosts
from ids_appliance.lab.tools import Flood, Replay, Scan, Spoof, address

SLACK_S: Final = 5.0
"""How long after a step answers to it, and last packets of a tool's, may still come."""
EARLY_S: Final = 0.05
"""The start is noted before the tool starts; clocks of capture and lab are the same."""
LABELS: Final = "labels.json"

Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """When a step was."""

    step: Step
    start_ns: int
    stop_ns: int


def rules(lab: Lab, played: Iterable[Played], first_ns: int) -> list[Rule]:
    """Return the rules of all attacks, in the order of their start."""
    found: list[Rule] = []
    for one in sorted(played, key=lambda one: one.start_ns):
        if not one.step.attack:
            continue
        when = {
            "t_min": round(max(0.0, (one.start_ns - first_ns) / 1e9 - EARLY_S), 6),
            "t_max": round((one.stop_ns - first_ns) / 1e9 + SLACK_S, 6),
        }
        for attacker in hosts(lab, one.step):
            for label, match in _matches(lab, one.step, attacker):
                found.append(
                    {"label": label, "family": one.step.attack, "match": {**match, **when}}
                )
    return found


def _matches(lab: Lab, step: Step, attacker: str) -> Iterator[tuple[str, Rule]]:
    """Yield the matches of one attacker's step."""
    what = step.parameters
    own = list(lab.addresses(attacker))
    if isinstance(what, Spoof):
        yield from _spoofing(lab, what, attacker)
    elif isinstance(what, Flood) and what.spoof:
        # Whoever is of the lab is not forged: its own connections to the victim are ordinary.
        forged: Rule = {"ip_src_not": _everybody(lab)}
        if what.spoof != "random":
            forged = {"ip_src": [what.spoof]}
        victim = lab.addresses(what.target)[0]
        flow = {"proto": "tcp", "ip_dst": victim, "dport": what.port}
        yield "malicious", {**forged, **flow}
        back = {key.replace("src", "dst"): value for key, value in forged.items()}
        yield "related", {**back, "proto": "tcp", "ip_src": victim, "sport": what.port}
    elif isinstance(what, Flood):
        flow = {"proto": "tcp", "dport": what.port}
        yield "malicious", {"ip_src": own, "ip_dst": lab.address(what.target), **flow}
        flow = {"proto": "tcp", "sport": what.port}
        yield "related", {"ip_src": lab.address(what.target), "ip_dst": own, **flow}
    elif isinstance(what, Scan):
        ports = _ports(what.ports)
        flow = {"proto": "tcp", **({"dport": ports} if len(ports) <= 64 else {})}
        host = {"ip_dst": lab.address(what.targets)} if what.targets in lab.hosts else {}
        yield "malicious", {"ip_src": own, **host, **flow}
        if not host:  # a whole network: its own part of it is asked for by ARP
            mac = lab.mac(attacker).hex(":")
            yield "malicious", {"eth_src": mac, "etype": "arp", "arp_op": 1}
        if what.ping:
            yield "malicious", {"ip_src": own, **host, "proto": "icmp"}
        back = {"ip_src": host["ip_dst"]} if host else {}
        flow = {"proto": "tcp", **({"sport": ports} if len(ports) <= 64 else {})}
        yield "related", {"ip_dst": own, **back, **flow}
        yield "related", {"ip_dst": own, "proto": "icmp"}
    elif isinstance(what, Replay):
        yield "malicious", {"eth_src": lab.mac(attacker).hex(":")}
    else:
        yield "malicious", {"ip_src": own, "ip_dst": list(lab.addresses(step.victim))}
        yield "related", {"ip_src": list(lab.addresses(step.victim)), "ip_dst": own}


def _spoofing(lab: Lab, what: Spoof, attacker: str) -> Iterator[tuple[str, Rule]]:
    target, claim = (address(lab, w, seen_from=attacker) for w in (what.target, what.claim))
    claimed = [claim, target] if what.both else [claim]
    mac = lab.mac(attacker).hex(":")
    own = lab.address(attacker)
    frame = {"eth_src": mac}
    yield "malicious", {**frame, "etype": "arp", "arp_op": 2, "arp_spa": claimed}
    # arpspoof knocks at its target first (UDP), so that the kernel learns the address.
    yield "malicious", {**frame, "ip_src": own, "ip_dst": target, "proto": "udp"}
    yield "related", {"ip_src": target, "ip_dst": own, "proto": "icmp"}
    yield "related", {**frame, "etype": "ipv4", "ip_src_not": [own, "0.0.0.0"]}
    yield "related", {"eth_dst": mac, "etype": "ipv4", "ip_dst_not": own}


def _everybody(lab: Lab) -> list[str]:
    return [one for host in lab.hosts for one in lab.addresses(host)]


def _ports(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def write(
    lab: Lab, scenario: Scenario, played: list[Played], *, capture: Path, first_ns: int
) -> Path:
    """Write labels.json beside a capture; return its path."""
    packets, sha256 = _measure(capture)
    attacks = [one.step for one in played if one.step.attack]
    gateway = [lab.mac(GATEWAY, i).hex(":") for i in lab.gateway_interfaces]
    entry = {
        "file": capture.name,
        "kind": "pcap",
        "family": attacks[0].attack if attacks else "Benign",
        "attack": "; ".join(f"{s.id}: {s.tool} by {', '.join(s.who)}" for s in attacks),
        "rules": rules(lab, played, first_ns),
        "default": "benign",
        "label_quality": "A",
        "note": f"scenario {scenario.name} in the lab, layout {lab.layout.name}",
        "group": "lab",
        "gateway_macs": gateway,
        "gateway_addresses": list(lab.addresses(GATEWAY)),
        "router_macs": [mac.hex(":") for mac in lab.routers],
        "devices": {lab.mac(h.name).hex(":"): h.name for h in HOSTS if h.name != SWITCH},
        "link_type": "EN10MB (1)",
        "packets": packets,
        "sha256_uncompressed": sha256,
        "steps": [_step(lab, one, first_ns) for one in played],
    }
    document = {
        "version": 1,
        "about": "rules for every packet of a capture of the lab; the first match wins",
        "label_values": ["malicious", "related", "benign", "ignore"],
        "files": [entry],
    }
    path = capture.parent / LABELS
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")
    return path


def _step(lab: Lab, one: Played, first_ns: int) -> Rule:
    step = one.step
    return {
        "id": step.id,
        "tool": step.tool,
        "hosts": hosts(lab, step),
        "attack": step.attack,
        "victim": step.victim,
        "opens": step.opens,
        "twin_of": step.twin_of,
        "start_s": round((one.start_ns - first_ns) / 1e9, 6),
        "stop_s": round((one.stop_ns - first_ns) / 1e9, 6),
    }


def _measure(capture: Path) -> tuple[int, str]:
    """Return the packets of a classic pcap in our byte order, and its SHA-256."""
    packets = 0
    digest = hashlib.sha256()
    with capture.open("rb") as file:
        digest.update(file.read(24))
        while len(head := file.read(16)) == 16:
            digest.update(head)
            digest.update(file.read(int.from_bytes(head[8:12], "little")))
            packets += 1
    return packets, digest.hexdigest()
