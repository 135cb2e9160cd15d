"""Settings in, the text of our two tables out (nft(8)); the whole of it is one transaction.

`netdev ids_ports`: one base chain per captured port, at ingress, before bridge, routing and every
chain of others'; all of them jump to `screen`. `inet ids_hosts`: addresses beyond us on interfaces
that are not captured, and what needs connection tracking, which netdev does not have.

Design:
 a) An ordinary packet pays one hash look-up per set and nothing else. Every chain that drops
    begins with the protected ones, who return to where they came from, so what stands in a set by
    mistake or by another's hand does not lock anybody out.
 b) A set of limited senders carries a limit in each element; the look-up matches only while the
    sender is over it, so nothing else has to count.
 c) Neighbour discovery and DHCP of who is cut off pass at a small rate, one for all of them
    together: enough to keep an address, too little to harm.
 d) A flood with forged senders is handled per victim and port. IPv4, routed: synproxy answers for
    the victim, and only who returns the cookie reaches it. It needs neither tcp_loose nor any
    other sysctl: `new` without SYN is taken besides `invalid`, so flows tracked before stay
    untouched. Elsewhere a first SYN is noted and dropped, its repetition (RFC 6298: after 1 s)
    passes; random senders never repeat themselves; proven senders pass at once. IPv6 is elsewhere:
    Linux 6.18 drops its SYNs in synproxy where no hardware has verified their checksum.
 e) Half-open connections of before the decision would keep the victim's backlog full for a minute:
    its repeated SYN+ACKs to whom nobody let through are answered with a reset. Until they have
    been repeated (`fresh`, 0.9 s) no SYN passes: one that synproxy sends and the victim drops is
    never sent again, while a client that got no answer tries again after 1 s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.elements import HOSTS, PORTS, SETS, quoted
from ids_appliance.enforce.protected import ProtectedSets

SCHEMA: Final = 1
"""Of the tables' structure; tables of another one are rebuilt."""
COUNTERS: Final = (
    "lan_quarantine",
    "lan_limited",
    "wan_quarantine",
    "wan_limited",
    "wan_unverified",
    "flood",
    "flood_proxied",
    "half_open",
    "protected_syns",
)
PROVEN_S: Final = 3600
"""How long a completed handshake speaks for its sender."""
FRESH_S: Final = 0.9
"""From a flood's decision until its victim has been rid of half-open connections."""
MAX_PROVEN: Final = 65_536
_SYN: Final = "tcp flags & (fin | syn | rst | ack) == syn"
_SYN_ACK: Final = "tcp flags & (fin | syn | rst | ack) == (syn | ack)"
_NET64: Final = "ip6 saddr & ffff:ffff:ffff:ffff::"
_TYPES: Final = {4: "ipv4_addr", 6: "ipv6_addr"}
_SOURCE: Final = {4: "ip saddr", 6: "ip6 saddr"}
_VICTIM: Final = {4: "ip daddr . tcp dport", 6: "ip6 daddr . tcp dport"}
_SENDER: Final = {4: "ip saddr", 6: _NET64}
_DISCOVERY: Final = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }"
_DHCP: Final = ("68 . 67, 546 . 547", "67 . 68, 547 . 546")
"""Ports of clients, who may be cut off, and of servers: a false one is no client."""
_SLACK: Final = 1.25
"""Room in the kernel beyond our own bookkeeping: elements that have ended stay until collected."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All that the tables' text depends on, the elements of decisions apart."""

    enforce: Enforce
    ports: tuple[str, ...]
    """Captured interfaces that exist now."""
    above: tuple[str, ...]
    """Bridges, bonds and VLANs on them: what comes in there was seen at a port."""
    protected: ProtectedSets
    synproxy: bool
    resets: bool
    owner: str
    """Comment of the set `owner`."""


def table(layout: Layout, name: str, elements: Mapping[str, Sequence[str]]) -> str:
    """Return the text of a table with elements (set -> texts with timeouts), nothing before it."""
    sets: dict[str, Sequence[str]] = {**layout.protected.elements(name), **elements}
    captured = [quoted(port) for port in (*layout.ports, *layout.above)]
    body = [_set("owner", "ifname", f'comment "{layout.owner}"', captured)]
    body += [f"counter {counter} {{ }}" for counter in COUNTERS]
    body += _protected_sets(name, sets) + _decision_sets(layout.enforce, name, sets)
    body += _memory_sets(name)
    body += _ports_chains(layout) if name == PORTS else _hosts_chains(layout)
    return f"table {name} {{\n" + "\n".join(body) + "\n}\n"


def replaced(name: str) -> str:
    """Return the commands after which no table of this name is there, whether there was one."""
    return f"table {name}\ndelete table {name}\n"


def chain_of(port: str) -> str:
    """Return the name of a port's base chain, different for every port."""
    return "on_" + "".join(c if c.isalnum() or c in "_.-" else f"/{ord(c):02x}" for c in port)


def port_chain(port: str) -> str:
    """Return the base chain of a port, as it stands in the table."""
    hook = f"type filter hook ingress device {quoted(port)} priority -500; policy accept;"
    return f"chain {chain_of(port)} {{ {hook} jump screen; }}"


def capacity(enforce: Enforce, name: str) -> int:
    """Return the size of a decision set in the kernel."""
    if name.startswith("lan"):
        room = enforce.lan_set
    elif name.startswith("flood"):
        room = enforce.flood_set
    else:
        room = enforce.unverified_set if "unverified" in name else enforce.wan_set
    return int(room * _SLACK) + 64


# Sets ------------------------------------------------------------------------------------------


def _set(name: str, kind: str, words: str, elements: Sequence[str] = ()) -> str:
    held = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"set {name} {{ type {kind}; {words};{held} }}"


def _protected_sets(table_name: str, sets: dict[str, Sequence[str]]) -> list[str]:
    found = []
    for family, kind in _TYPES.items():
        for name, key in (
            ("protected_hosts", f"ifname . ether_addr . {kind}"),
            ("protected", f"ifname . {kind}"),
            ("protected_anywhere", kind),
        ):
            full = f"{name}{family}"
            found.append(_set(full, key, "flags interval", sets[full]))
        found.append(_set(f"syns{family}", kind, "flags dynamic,timeout; timeout 1m; size 4096"))
    if table_name == PORTS:
        for name in ("protected_macs", "routers"):
            found.append(_set(name, "ifname . ether_addr", "size 4096", sets[name]))
        found.append(_set("own_macs", "ether_addr", "size 256", sets["own_macs"]))
    return found


def _decision_sets(enforce: Enforce, table_name: str, sets: dict[str, Sequence[str]]) -> list[str]:
    found = []
    for name in SETS[table_name]:
        family = int(name[-1]) if name[-1] in "46" else 0
        if name.startswith("flood"):
            kind = f"{_TYPES[family]} . inet_service"
        elif name.startswith("lan"):
            kind = f"ifname . {_TYPES.get(family, 'ether_addr')}"
        else:
            kind = _TYPES[family]
        words = f"flags timeout; size {capacity(enforce, name)}"
        if "_limited" in name:
            words += f"; limit rate over {enforce.rate_limit_pps}/second"
        elif "_unverified" in name:
            words += f"; limit rate over {enforce.new_flows_per_minute}/minute"
        found.append(_set(name, kind, words, sets.get(name, ())))
    return found


def _memory_sets(table_name: str) -> list[str]:
    # What the packets themselves write. `tried`: 131,072 first SYNs in 4 s are 32,000 a second.
    found = [_set("fresh4", "ipv4_addr . inet_service", "flags timeout; size 1024")]
    for family, kind in _TYPES.items():
        words = f"flags dynamic,timeout; timeout {PROVEN_S}s; size {MAX_PROVEN}"
        found.append(_set(f"proven{family}", kind, words))
        attempt = f"{kind} . inet_service . {kind} . inet_service"
        for name, kept in (
            ("tried", "timeout 4s; size 131072"),
            ("admitted", "timeout 30s; size 65536"),
        ):
            found.append(_set(f"{name}{family}", attempt, f"flags dynamic,timeout; {kept}"))
    return found


# Chains ----------------------------------------------------------------------------------------


def _chain(name: str, rules: Sequence[str], *, hook: str = "") -> str:
    head = f"type filter hook {hook}; policy accept;\n" if hook else ""
    return f"chain {name} {{\n{head}" + "\n".join(rules) + "\n}"


def _spared(*, beyond: bool) -> list[str]:
    """Rules for protected senders; beyond: of packets from beyond us, else of a MAC on a port."""
    rules = []
    if not beyond:
        rules.append("iifname . ether saddr @protected_macs return")
        # A protected host whose MAC nobody knows yet still has to answer for its address.
        rules.append("iifname . arp saddr ip @protected4 limit rate 5/second return")
    for family, source in _SOURCE.items():
        rules.append(f"iifname . ether saddr . {source} @protected_hosts{family} return")
        rules.append(f"iifname . {source} @protected{family} return")
        if beyond:
            rules.append(f"{source} @protected_anywhere{family} return")
    return rules


def _dropping(name: str, *, beyond: bool) -> str:
    ports = ", ".join(_DHCP) if beyond else _DHCP[0]
    matches = (_DISCOVERY, f"udp sport . udp dport {{ {ports} }}")
    kept = [f"{match} limit rate 10/second burst 10 packets return" for match in matches]
    return _chain(name, [*_spared(beyond=beyond), *kept, f"counter name {name} drop"])


def _openings(enforce: Enforce) -> list[str]:
    """Chains that keep protected senders under a limit of new connections."""
    chains = []
    for family, source in _SOURCE.items():
        rules = [
            f"iifname . ether saddr . {source} @protected_hosts{family} goto opening{family}",
            f"iifname . {source} @protected{family} goto opening{family}",
            f"{source} @protected_anywhere{family} goto opening{family}",
        ]
        rate = f"limit rate over {enforce.protected_syns_pps}/second burst 200 packets"
        limit = f"update @syns{family} {{ {source} {rate} }} counter name protected_syns drop"
        chains += [_chain(f"opening{family}", [limit]), _chain(f"openings{family}", rules)]
    return chains


def _attempt(family: int) -> str:
    return f"{_SOURCE[family]} . tcp sport . {_VICTIM[family]}"


def _flooded(family: int) -> list[str]:
    """Chains for SYNs to a flooded victim: proven senders pass, others on their second attempt."""
    attempt = _attempt(family)
    admitted = f"goto admitted{family}"
    rules = [
        f"{_SOURCE[family]} @proven{family} {admitted}",
        f"{attempt} @tried{family} limit rate 1000/second burst 500 packets {admitted}",
        f"add @tried{family} {{ {attempt} }} counter name flood drop",
        # No room to note it in: a few have to get through all the same.
        f"limit rate 200/second burst 20 packets {admitted}",
        "counter name flood drop",
    ]
    note = f"update @admitted{family} {{ {attempt} }}"
    return [_chain(f"admitted{family}", [note]), _chain(f"flooded{family}", rules)]


def _half_open(family: int) -> str:
    """Chain for a flooded victim's SYN+ACKs: a reset where nobody was let through."""
    ip = "ip" if family == 4 else "ip6"
    attempt = f"{ip} daddr . tcp dport . {ip} saddr . tcp sport"
    reset = "limit rate 5000/second burst 1000 packets counter name half_open reject with tcp reset"
    return _chain(f"half_open{family}", [f"{attempt} @admitted{family} return", reset])


def _from_beyond() -> str:
    rules = []
    for family, sender in _SENDER.items():
        rules.append(f"{sender} @wan_quarantine{family} jump wan_quarantine")
        rules.append(f"{sender} @wan_limited{family} jump wan_limited")
    return _chain("beyond", rules)


def _ports_chains(layout: Layout) -> list[str]:
    chains = [_dropping(name, beyond=False) for name in ("lan_quarantine", "lan_limited")]
    chains += [
        _dropping(name, beyond=True) for name in ("wan_quarantine", "wan_limited", "wan_unverified")
    ]
    chains += _openings(layout.enforce)
    chains.append(_from_beyond())
    screen = [
        "iifname . ether saddr @lan_quarantine jump lan_quarantine",
        "iifname . ether saddr @lan_limited jump lan_limited",
    ]
    for family, sender in _SENDER.items():
        screen.append(f"iifname . {sender} @lan_quarantine{family} jump lan_quarantine")
        screen.append(f"iifname . {sender} @lan_limited{family} jump lan_limited")
    screen.append("iifname . ether saddr @routers jump beyond")
    openings: list[str] = []
    answers: list[str] = []
    for family, sender in _SENDER.items():
        chains += _flooded(family)
        # No connection tracking here: of the new flows only TCP's can be told.
        unverified = f"{sender} @wan_unverified{family} jump wan_unverified"
        openings.append(f"iifname . ether saddr @routers {unverified}")
        # What is addressed to us is routed, and met by synproxy.
        bridged = f"ether daddr != @own_macs {_VICTIM[family]} @flood{family} jump flooded{family}"
        openings += [
            bridged,
            f"meta protocol {'ip' if family == 4 else 'ip6'} jump openings{family}",
        ]
        if layout.resets:
            chains.append(_half_open(family))
            answers.append(f"ether daddr != @own_macs {_answer(family)} jump half_open{family}")
    screen.append(f"{_SYN} jump opening")
    screen += [f"{_SYN_ACK} {answer}" for answer in answers]
    chains += [_chain("opening", openings), _chain("screen", screen)]
    return chains + [port_chain(port) for port in layout.ports]


def _hosts_chains(layout: Layout) -> list[str]:
    chains = [
        _dropping(name, beyond=True) for name in ("wan_quarantine", "wan_limited", "wan_unverified")
    ]
    chains += [*_openings(layout.enforce), _from_beyond()]
    arriving = ['iifname "lo" accept', "iifname != @owner jump beyond"]
    tracked = []
    passing = []
    answers: list[str] = []
    leaving = []
    for family, source in _SOURCE.items():
        victim = f"{_VICTIM[family]} @flood{family}"
        protocol = "ip" if family == 4 else "ip6"
        arriving.append(f"iifname != @owner meta protocol {protocol} {_SYN} jump openings{family}")
        tracked.append(
            f"ct state new iifname != @owner {_SENDER[family]} @wan_unverified{family} "
            "jump wan_unverified"
        )
        # The originator's bare ACK of a tracked handshake; the kernel has checked its numbers.
        tracked.append(
            "ct state established ct direction original meta length < 120 "
            "tcp flags & (fin | syn | rst | psh | ack) == ack "
            f"update @proven{family} {{ {source} }}"
        )
        chains += _flooded(family)
        if layout.synproxy and family == 4:
            fresh = victim.replace("@flood", "@fresh")
            arriving += [f"{_SYN} {fresh} counter name flood drop", f"{_SYN} {victim} notrack"]
            chains.append(_proxied(layout.enforce))
            passing.append(f"{victim} ct state invalid,untracked jump proxied4")
            # Picked up in mid-flow: the cookie's return. A flow known already is one whose SYN the
            # victim has lost: the client's probe has to reach synproxy's own hook.
            picked_up = "tcp flags & (syn | ack) == ack ct state new ct status & confirmed == 0"
            passing.append(f"{victim} {picked_up} jump proxied4")
        # Without synproxy all of them; with it only a victim that is addressed by translation.
        passing.append(f"{_SYN} {victim} ct state new jump flooded{family}")
        leaving.append(f"{_SYN} {victim} jump admitted{family}")
        if layout.resets:
            chains.append(_half_open(family))
            answers.append(f"{_SYN_ACK} {_answer(family)} jump half_open{family}")
    chains.append(_chain("arriving", arriving, hook="prerouting priority -300"))
    chains.append(_chain("tracked", tracked, hook="prerouting priority -150"))
    # After the translation of addresses back, before routing: forged senders may have no route.
    chains.append(_chain("answered", answers, hook="prerouting priority -90"))
    chains.append(_chain("passing", passing))
    # Before others' filters at priority 0, whose usual drop of `invalid` would take the cookies.
    chains.append(_chain("on_forward", ["jump passing"], hook="forward priority -10"))
    chains.append(_chain("on_input", ["jump passing"], hook="input priority -10"))
    # What synproxy opens for those who have proved themselves.
    chains.append(_chain("leaving", leaving, hook="output priority -10"))
    return chains


def _answer(family: int) -> str:
    ip = "ip" if family == 4 else "ip6"
    return f"{ip} saddr . tcp sport @flood{family}"


def _proxied(enforce: Enforce) -> str:
    words = f"synproxy mss {enforce.synproxy_mss}"
    if enforce.synproxy_wscale:
        words += f" wscale {enforce.synproxy_wscale} timestamp sack-perm"
    return _chain("proxied4", [f"counter name flood_proxied {words}", "drop"])


__all__ = ["HOSTS", "PORTS", "SCHEMA", "Layout", "replaced", "table"]
