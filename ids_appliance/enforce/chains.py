"""Settings in, the text of our tables' chains out; ruleset.py says why they are as they are.

The path of an ordinary packet is kept short, each expression costs: what only some packets need
(TCP's first ones, one family's) is reached by one verdict map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.elements import quoted
from ids_appliance.enforce.marks import TrafficClass, statement
from ids_appliance.enforce.protected import ProtectedSets

_FLAGS: Final = "tcp flags & (fin | syn | rst | ack)"
_SOURCE: Final = {4: "ip saddr", 6: "ip6 saddr"}
_VICTIM: Final = {4: "ip daddr . tcp dport", 6: "ip6 daddr . tcp dport"}
_ANSWERER: Final = {4: "ip saddr . tcp sport", 6: "ip6 saddr . tcp sport"}
_SENDER: Final = {4: "ip saddr", 6: "ip6 saddr & ffff:ffff:ffff:ffff::"}
_TO: Final = {4: "ip daddr", 6: "ip6 daddr & ffff:ffff:ffff:ffff::"}
_BRIDGED: Final = "ether daddr != @own_macs"
"""What is addressed to us is routed, and met in the other table."""
_DISCOVERY: Final = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }"
_DHCP: Final = ("68 . 67, 546 . 547", "67 . 68, 547 . 546")
"""Ports of clients, who may be cut off, and of servers: a false one is no client."""


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
    classed: tuple[str, ...] | None = None
    """Interfaces on which traffic classes stand; None: nobody can be deprioritised."""


def chain_of(port: str) -> str:
    """Return the name of a port's base chain, different for every port."""
    return "on_" + "".join(c if c.isalnum() or c in "_.-" else f"/{ord(c):02x}" for c in port)


def port_chain(port: str) -> str:
    """Return the base chain of a port, as it stands in the table."""
    hook = f"type filter hook ingress device {quoted(port)} priority -500; policy accept;"
    return f"chain {chain_of(port)} {{ {hook} jump screen; }}"


def ports_chains(layout: Layout) -> list[str]:
    """Return the chains of `netdev ids_ports`."""
    chains = [_dropping(name, beyond=False) for name in ("lan_quarantine", "lan_limited")]
    chains += [
        _dropping(name, beyond=True) for name in ("wan_quarantine", "wan_limited", "wan_unverified")
    ]
    classed = bool(layout.classed)
    chains += _suspects_at_ports(layout) if classed else []
    for family, sender in _SENDER.items():
        routers = "iifname . ether saddr @routers"
        chains += [_from_beyond(family), *_openings(layout.enforce, family), *_flooded(family)]
        opening = [f"{_BRIDGED} {_VICTIM[family]} @flood{family} jump flooded{family}"]
        one = [
            f"iifname . {sender} @lan_quarantine{family} jump lan_quarantine",
            f"iifname . {sender} @lan_limited{family} jump lan_limited",
        ]
        if layout.protected.routers:
            one.append(f"{routers} jump beyond{family}")
            # No connection tracking here: of the new flows only TCP's can be told.
            unverified = f"{sender} @wan_unverified{family} jump wan_unverified"
            opening.insert(0, f"{routers} {unverified}")
        chains.append(_chain(f"opening{family}", [*opening, f"jump openings{family}"]))
        verdicts = f"0x02 : jump opening{family}"
        if layout.resets:
            answer = f"{_BRIDGED} {_ANSWERER[family]} @flood{family} jump half_open{family}"
            chains += [_half_open(family), _chain(f"answer{family}", [answer])]
            verdicts += f", 0x12 : jump answer{family}"
        one.append(f"{_FLAGS} vmap {{ {verdicts} }}")
        chains.append(_chain(f"ipv{family}", [*_at_port(layout, family), *one]))
    screen = [
        *(("iifname . ether saddr @lan_suspect jump lan_suspect",) * classed),
        "iifname . ether saddr @lan_quarantine jump lan_quarantine",
        "iifname . ether saddr @lan_limited jump lan_limited",
        "meta protocol vmap { ip : jump ipv4, ip6 : jump ipv6 }",
    ]
    chains.append(_chain("screen", screen))
    return chains + [port_chain(port) for port in layout.ports]


def hosts_chains(layout: Layout) -> list[str]:
    """Return the chains of `inet ids_hosts`."""
    chains = [
        _dropping(name, beyond=True) for name in ("wan_quarantine", "wan_limited", "wan_unverified")
    ]
    opening: list[str] = []
    unverified: list[str] = []
    proving: list[str] = []
    answers: list[str] = []
    passing: list[str] = []
    leaving: list[str] = []
    for family, source in _SOURCE.items():
        victim = f"{_VICTIM[family]} @flood{family}"
        chains += [_from_beyond(family), *_openings(layout.enforce, family), *_flooded(family)]
        only = f"meta nfproto ipv{family}"
        opening.append(f"iifname != @owner {only} jump openings{family}")
        unverified.append(f"{_SENDER[family]} @wan_unverified{family} jump wan_unverified")
        proving.append(f"update @proven{family} {{ {source} }}")
        if layout.synproxy and family == 4:
            opening += _before_synproxy(victim)
            chains.append(_proxied(layout.enforce))
        chains.append(_chain(f"passing{family}", _passing(layout, family)))
        passing.append(f"{victim} jump passing{family}")
        if layout.synproxy and family == 4:
            leaving.append(f"{victim} {_FLAGS} == syn update @opened4 {{ {_attempt(4)} }}")
        leaving.append(f"{victim} {_FLAGS} == syn jump admitted{family}")
        if layout.resets:
            chains.append(_half_open(family))
            answers.append(f"{_ANSWERER[family]} @flood{family} jump half_open{family}")
    classed = bool(layout.classed)
    arriving = [
        'iifname "lo" accept',
        *(("meta nfproto vmap { ipv4 : jump suspects4, ipv6 : jump suspects6 }",) * classed),
        "iifname != @owner meta nfproto vmap { ipv4 : jump beyond4, ipv6 : jump beyond6 }",
        f"{_FLAGS} == syn jump opening",
    ]
    # The originator's bare ACK of a tracked handshake; the kernel has checked its numbers.
    ack = "tcp flags & (fin | syn | rst | psh | ack) == ack meta length < 120 ct direction original"
    answered = [f"{_FLAGS} == (syn | ack) jump answer"]
    tracked = ["ct state vmap { new : jump new, established : jump established }"]
    chains += [
        *(_suspects_beyond() if classed else []),
        _chain("opening", opening),
        _chain("unverified", unverified),
        _chain("proving", proving),
        _chain("answer", answers),
        _chain("new", ["iifname != @owner jump unverified"]),
        _chain("established", [f"{ack} jump proving"]),
        _chain("arriving", arriving, hook="prerouting priority -300"),
        _chain("tracked", tracked, hook="prerouting priority -150"),
        # After the translation of addresses back, before routing: the forged have none.
        _chain("answered", answered, hook="prerouting priority -90"),
        # Before others' filters at priority 0, whose usual drop of `invalid` takes the cookies.
        _chain("on_forward", passing, hook="forward priority -10"),
        _chain("on_input", passing, hook="input priority -10"),
        # What synproxy opens for those who have proved themselves.
        _chain("leaving", leaving, hook="output priority -10"),
    ]
    return chains


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


def _marking(name: str, *, beyond: bool) -> str:
    return _chain(name, [*_spared(beyond=beyond), statement(TrafficClass.SUSPECT)])


def _suspects_at_ports(layout: Layout) -> list[str]:
    """Chains for whoever is deprioritised on a captured port: what comes from him, and what is for
    him where it leaves (his MAC is not known before)."""
    rules = ["oifname . ether daddr @lan_suspect jump towards"]
    rules += [f"oifname . {receiver} @lan_suspect{n} jump towards" for n, receiver in _TO.items()]
    spared = [f"{source} @protected_anywhere{n} return" for n, source in _SOURCE.items()]
    chains = [_marking("lan_suspect", beyond=False), _marking("wan_suspect", beyond=True)]
    chains += [_chain("towards", [*spared, statement(TrafficClass.SUSPECT)])]
    chains += [_chain("out", rules)]
    for port in layout.ports:
        if port in (layout.classed or ()):
            hook = f"type filter hook egress device {quoted(port)} priority -500; policy accept;"
            chains.append(f"chain out_{chain_of(port)} {{ {hook} jump out; }}")
    return chains


def _at_port(layout: Layout, family: int) -> list[str]:
    """Rules that mark who is deprioritised by address, in the path of a captured port."""
    if not layout.classed:
        return []
    rules = [f"iifname . {_SENDER[family]} @lan_suspect{family} jump lan_suspect"]
    return rules + (_beyond(family) if layout.protected.routers else [])


def _beyond(family: int) -> list[str]:
    both = (_SENDER[family], _TO[family])
    return [f"{one} @wan_suspect{family} jump wan_suspect" for one in both]


def _suspects_beyond() -> list[str]:
    chains = [_chain(f"suspects{family}", _beyond(family)) for family in _SENDER]
    return [_marking("wan_suspect", beyond=True), *chains]


def _openings(enforce: Enforce, family: int) -> list[str]:
    """Chains that keep protected senders under a limit of new connections."""
    source = _SOURCE[family]
    rules = [
        f"iifname . ether saddr . {source} @protected_hosts{family} goto limited_syns{family}",
        f"iifname . {source} @protected{family} goto limited_syns{family}",
        f"{source} @protected_anywhere{family} goto limited_syns{family}",
    ]
    rate = f"limit rate over {enforce.protected_syns_pps}/second burst 200 packets"
    limit = f"update @syns{family} {{ {source} {rate} }} counter name protected_syns drop"
    return [_chain(f"limited_syns{family}", [limit]), _chain(f"openings{family}", rules)]


def _from_beyond(family: int) -> str:
    sender = _SENDER[family]
    rules = [
        f"{sender} @wan_quarantine{family} jump wan_quarantine",
        f"{sender} @wan_limited{family} jump wan_limited",
    ]
    return _chain(f"beyond{family}", rules)


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
    attempt = f"{ip} daddr . tcp dport . {_ANSWERER[family]}"
    reset = "limit rate 5000/second burst 1000 packets counter name half_open reject with tcp reset"
    return _chain(f"half_open{family}", [f"{attempt} @admitted{family} return", reset])


def _before_synproxy(victim: str) -> list[str]:
    fresh = victim.replace("@flood", "@fresh")
    # Whom synproxy has served may come again from the same port: only a SYN that is tracked ends
    # what conntrack still knows of the connection before (TIME_WAIT), into which the cookie's
    # return would run.
    again = f"{_attempt(4)} @opened4 return"
    # A SYN of synproxy's that the victim loses is sent again when the client probes the window,
    # but the probe's sequence number, one too low, turns the MSS in the cookie into the next of
    # the kernel's four (536, 1300, 1440, 1460; net/ipv4/syncookies.c): there has to be one. The
    # statement only ever lowers an MSS.
    lower = f"{victim} tcp option maxseg size set 1300"
    return [f"{fresh} counter name flood drop", f"{victim} {again}", lower, f"{victim} notrack"]


def _passing(layout: Layout, family: int) -> list[str]:
    """Rules for packets to a flooded victim, on their way to it."""
    rules = []
    if layout.synproxy and family == 4:
        # Picked up in mid-flow: the cookie's return. A flow known already is one whose SYN the
        # victim has lost: the client's probe has to reach synproxy's own hook.
        picked_up = "tcp flags & (syn | ack) == ack ct state new ct status & confirmed == 0"
        again = f"{_FLAGS} == syn {_attempt(4)} @opened4"
        for which in ("ct state invalid,untracked", picked_up, again):
            rules.append(f"{which} jump proxied4")
    # Without synproxy all of them; with it only a victim that is addressed by translation.
    return [*rules, f"{_FLAGS} == syn ct state new jump flooded{family}"]


def _proxied(enforce: Enforce) -> str:
    words = f"synproxy mss {enforce.synproxy_mss}"
    if enforce.synproxy_wscale:
        words += f" wscale {enforce.synproxy_wscale} timestamp sack-perm"
    return _chain("proxied4", [f"meta l4proto tcp counter name flood_proxied {words}", "drop"])
