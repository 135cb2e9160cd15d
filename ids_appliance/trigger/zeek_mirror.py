"""Interfaces and a limit in, the nftables text of Zeek's bounded mirror out.

What the rules need is copied into a veth pair, whose far end is Zeek's own network namespace. The
place is prerouting after connection tracking and NAT (priority -50): there both directions of a
connection have the device's own address, with NAT and without, and the kernel knows which ACK is
the originator's first. One limit holds for everything that has an answer, because limits of their
own would let answers outlive questions. Past it, one new flow a second is copied under another MAC:
so Zeek learns of it in order, and rests the rules that count answers.

Frames that we drop at the port (netdev ingress, priority -500) never get here. Sources: nft(8);
nf_dup_ipv4.c and nft_dup_netdev.c of Linux: a copy is not tracked, and not copied again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

TABLE: Final = "ids_zeek"
NEAR_MAC: Final = "02:69:64:73:00:01"
ZEEK_MAC: Final = "02:69:64:73:00:02"
LIMITED_MAC: Final = "02:69:64:73:00:03"
"""Locally administered, like all of a link that nobody else is on."""
NEAR4, ZEEK4, LIMITED4 = "169.254.84.1", "169.254.84.2", "169.254.84.3"
ROUTE6, ZEEK6, LIMITED6 = "fe80::84:0/120", "fe80::84:2", "fe80::84:3"
_SYN_SEEN, _ACK_COPIED, _REPLY_COPIED = 0x1000_0000, 0x2000_0000, 0x4000_0000
"""Bits of the conntrack mark, only ever added."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """One mirror."""

    ports: tuple[str, ...]
    """Captured ports of the protected side: where its ARP is."""
    inside: tuple[str, ...]
    """Interfaces from which addresses of the protected side may come: ports and their bridges."""
    networks: tuple[str, ...] = ()
    """Of the protected side: what comes from elsewhere with such an address is forged."""
    near: str = "idszeek0"
    """Our end of the veth pair."""
    rate_pps: int = 5_000
    burst: int = 500


def ruleset(mirror: Mirror) -> str:
    """Return all tables, as one transaction that replaces what is there (`nft -f`)."""
    return "".join(
        f"table {family} {TABLE}\ndelete table {family} {TABLE}\n{text}"
        for family, text in (
            ("ip", _routed(mirror, "ip")),
            ("ip6", _routed(mirror, "ip6")),
            ("netdev", _arp(mirror)),
        )
    )


def removed() -> str:
    """Return the transaction that leaves none of them."""
    return "".join(
        f"table {family} {TABLE}\ndelete table {family} {TABLE}\n"
        for family in ("ip", "ip6", "netdev")
    )


def _routed(mirror: Mirror, family: str) -> str:
    four = family == "ip"
    zeek, limited = (ZEEK4, LIMITED4) if four else (ZEEK6, LIMITED6)
    icmp = "icmp type" if four else "icmpv6 type"
    asks = "echo-request, destination-unreachable"
    inside = ", ".join(f'"{name}"' for name in mirror.inside)
    own = [net for net in mirror.networks if (":" in net) != four]
    forged = f"iifname != {{ {inside} }} {family} saddr {{ {', '.join(own)} }} return"
    near, flags = mirror.near, "tcp flags & (fin | syn | rst | ack)"
    return f"""\
table {family} {TABLE} {{
  limit mirror {{ rate {mirror.rate_pps}/second burst {mirror.burst} packets; }}
  counter copied {{ }}
  counter limited {{ }}
  chain copy {{
    limit name "mirror" counter name "copied" dup to {zeek} device "{near}" return
    counter name "limited"
    ct state new limit rate 1/second burst 1 packets dup to {limited} device "{near}"
  }}
  chain first_ack {{
    ct mark set ct mark | {_ACK_COPIED:#x}
    goto copy
  }}
  chain first_reply {{
    ct mark set ct mark | {_REPLY_COPIED:#x}
    goto copy
  }}
  chain choose {{
    {flags} == syn ct mark set ct mark | {_SYN_SEEN:#x}
    tcp flags & (fin | syn | rst) != 0 goto copy
    tcp flags & ack == 0 goto copy
    meta l4proto tcp ct state new goto copy
    {flags} == ack ct state established ct direction original \
ct mark & {_SYN_SEEN | _ACK_COPIED:#x} == {_SYN_SEEN:#x} goto first_ack
    {icmp} {{ {asks} }} goto copy
    udp sport 67 goto copy
    meta l4proto udp ct state new ct mark set ct mark | {_SYN_SEEN:#x} goto copy
    meta l4proto udp ct direction reply \
ct mark & {_SYN_SEEN | _REPLY_COPIED:#x} == {_SYN_SEEN:#x} goto first_reply
  }}
  chain arriving {{
    type filter hook prerouting priority -50; policy accept;
    iifname {{ "lo", "{near}" }} return
    {forged if own else "# no network is known to be forged from outside"}
    fib daddr type local ct direction reply return
    goto choose
  }}
  chain answering {{
    type filter hook output priority -50; policy accept;
    oifname {{ "lo", "{near}" }} return
    udp sport 67 goto copy
    ct direction reply goto choose
  }}
}}
"""


def _arp(mirror: Mirror) -> str:
    """ARP of the protected side, ours included: else each answer to us is one nobody asked for."""
    rate = f"limit rate {mirror.rate_pps}/second burst {mirror.burst} packets"
    chains = "".join(
        f"""\
  chain {way}_{number} {{
    type filter hook {hook} device "{port}" priority {priority}; policy accept;
    ether type arp {rate} dup to "{mirror.near}"
  }}
"""
        for number, port in enumerate(mirror.ports)
        for way, hook, priority in (("in", "ingress", -400), ("out", "egress", 400))
    )
    return f"""\
table netdev {TABLE} {{
{chains}\
  chain copies_only {{
    type filter hook egress device "{mirror.near}" priority 0; policy accept;
    ether type != arp ether daddr != {{ {ZEEK_MAC}, {LIMITED_MAC} }} drop
  }}
}}
"""


def created(near: str, namespace: str) -> Iterable[tuple[str, ...]]:
    """Yield the `ip` commands that make the veth pair; its far end has the same name there."""
    yield ("netns", "add", namespace)
    yield (
        *("link", "add", near, "address", NEAR_MAC, "type", "veth"),
        *("peer", "name", near, "address", ZEEK_MAC, "netns", namespace),
    )


def settled(near: str, namespace: str) -> Iterable[tuple[str, ...]]:
    """Yield the `ip` commands that set it up; they change nothing where it is so already."""
    yield ("link", "set", near, "addrgenmode", "none")
    yield ("-n", namespace, "link", "set", near, "addrgenmode", "none", "arp", "off")
    yield ("link", "set", near, "up")
    yield ("-n", namespace, "link", "set", near, "promisc", "on", "up")
    yield ("address", "replace", f"{NEAR4}/29", "dev", near)
    # A copy needs no source address, only a way.
    yield ("-6", "route", "replace", ROUTE6, "dev", near)
    for address, mac in (
        (ZEEK4, ZEEK_MAC),
        (LIMITED4, LIMITED_MAC),
        (ZEEK6, ZEEK_MAC),
        (LIMITED6, LIMITED_MAC),
    ):
        yield ("neighbour", "replace", address, "lladdr", mac, "dev", near, "nud", "permanent")
