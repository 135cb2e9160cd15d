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
 e) Who is deprioritised gets a mark where he comes in, and what is for him where it leaves: the
    table of classes (tc_table.py) puts both into the last queue.
 f) Half-open connections of before the decision would keep the victim's backlog full for a minute:
    its repeated SYN+ACKs to whom nobody let through are answered with a reset. Until they have
    been repeated (`fresh`, 0.9 s) no SYN passes: one that synproxy sends and the victim drops is
    sent again only when the client probes the closed window, 3 s later, while a client that got
    no answer tries again after 1 s. For the probe to count, see `_before_synproxy`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.chains import Layout, hosts_chains, ports_chains
from ids_appliance.enforce.elements import PORTS, SETS, quoted
from ids_appliance.enforce.protected import MAX_MACS

SCHEMA: Final = 2
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
_TYPES: Final = {4: "ipv4_addr", 6: "ipv6_addr"}
_SLACK: Final = 1.25
"""Room in the kernel beyond our own bookkeeping: elements that have ended stay until collected."""


def table(layout: Layout, name: str, elements: Mapping[str, Sequence[str]]) -> str:
    """Return the text of a table with elements (set -> texts with timeouts), nothing before it."""
    sets: dict[str, Sequence[str]] = {**layout.protected.elements(name), **elements}
    captured = [quoted(port) for port in (*layout.ports, *layout.above)]
    body = [_set("owner", "ifname", f'comment "{layout.owner}"', captured)]
    body += [f"counter {counter} {{ }}" for counter in COUNTERS]
    body += _protected_sets(name, sets) + _decision_sets(layout.enforce, name, sets)
    body += _memory_sets(name)
    body += ports_chains(layout) if name == PORTS else hosts_chains(layout)
    return f"table {name} {{\n" + "\n".join(body) + "\n}\n"


def replaced(name: str) -> str:
    """Return the commands after which no table of this name is there, whether there was one."""
    return f"table {name}\ndelete table {name}\n"


def capacity(enforce: Enforce, name: str) -> int:
    """Return the size of a decision set in the kernel."""
    if name.startswith("lan"):
        room = enforce.lan_set
    elif name.startswith("flood"):
        room = enforce.flood_set
    elif "suspect" in name:
        room = enforce.wan_set + enforce.unverified_set
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
            found.append(_set(name, "ifname . ether_addr", f"size {MAX_MACS}", sets[name]))
        found.append(_set("own_macs", "ether_addr", f"size {MAX_MACS}", sets["own_macs"]))
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
    # Connections that synproxy has opened, for longer than conntrack knows them once they end.
    opened = "flags dynamic,timeout; timeout 300s; size 65536"
    found.append(_set("opened4", "ipv4_addr . inet_service . ipv4_addr . inet_service", opened))
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
