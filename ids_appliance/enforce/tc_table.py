"""Settings in, the text of `netdev ids_classes` out: which packet waits in which queue (nft(8)).

One base chain per interface at egress: whatever leaves comes by, routed, bridged or our own, and
after routing, which sets a packet's priority anew. The priority is the class's id: HTB takes a
packet there without asking a filter (sch_htb.c, htb_classify). What nothing here names keeps the
priority it has, and HTB's default is normal.

First come the marks of `marks.py`: a suspect stays one, whatever code point it writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config.priorities import Tc
from ids_appliance.enforce.chains import chain_of
from ids_appliance.enforce.elements import quoted
from ids_appliance.enforce.marks import MASK, TrafficClass, mark_of
from ids_appliance.enforce.tc_plan import CLASS_IDS

TABLE: Final = "netdev ids_classes"
_DISCOVERY: Final = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }"
)
_DHCP: Final = "udp dport { 67, 68, 546, 547 }"


@dataclass(frozen=True, slots=True)
class Leaving:
    """What the table's text depends on."""

    tc: Tc
    ports: tuple[str, ...]
    """Interfaces whose classes stand."""
    node_ports: tuple[int, ...]
    """TCP ports of the nodes that judge for us; only our own packets to them are control."""
    uid: int
    """User we run as."""
    owner: str
    """Comment of the set `owner`."""


def table(leaving: Leaving) -> str:
    """Return the table's text, nothing before it."""
    ports = ", ".join(quoted(port) for port in leaving.ports)
    elements = f" elements = {{ {ports} }};" if ports else ""
    body = [f'set owner {{ type ifname; comment "{leaving.owner}";{elements} }}']
    body += [
        _chain(_name(which), [f"meta priority set {CLASS_IDS[which]} accept"])
        for which in TrafficClass
    ]
    body += [_chain("classes", _rules(leaving))]
    for port in leaving.ports:
        hook = f"type filter hook egress device {quoted(port)} priority 0; policy accept;"
        body.append(_chain(chain_of(port), [hook, "jump classes"]))
    return f"table {TABLE} {{\n" + "\n".join(body) + "\n}\n"


def _rules(leaving: Leaving) -> list[str]:
    tc = leaving.tc
    said = ", ".join(f"{mark_of(one):#010x} : goto {_name(one)}" for one in TrafficClass)
    rules = [
        f"meta mark & {MASK:#010x} vmap {{ {said} }}",
        "meta protocol arp goto as_control",
        f"{_DISCOVERY} goto as_control",
        f"{_DHCP} goto as_control",
    ]
    if leaving.node_ports:
        rules.append(
            f"meta skuid {leaving.uid} tcp dport {_set(leaving.node_ports)} goto as_control"
        )
    if tc.all_tcp:
        return [*rules, "meta l4proto tcp goto as_priority"]
    if tc.dscp:
        rules += [f"{family} dscp {_set(tc.dscp)} goto as_priority" for family in ("ip", "ip6")]
    for kind, ports in (("tcp", tc.tcp_ports), ("udp", tc.udp_ports)):
        if ports:
            rules += [f"{kind} {end} {_set(ports)} goto as_priority" for end in ("dport", "sport")]
    return rules


def _name(which: TrafficClass) -> str:
    return f"as_{which.name.lower()}"  # `priority` alone is a word of nft's


def _set(numbers: Sequence[int]) -> str:
    return f"{{ {', '.join(map(str, dict.fromkeys(numbers)))} }}"


def _chain(name: str, rules: Sequence[str]) -> str:
    return f"chain {name} {{\n" + "\n".join(rules) + "\n}"
