"""A gateway's interfaces in, two namespaces that only a drill lives in out; and away again.

    NAME-a   namespace of the attacker, behind the gateway's port NAME-a
    NAME-v   namespace of the victim, behind the gateway's port NAME-v

Joined to the captured bridge, or, where the gateway routes, to two networks of their own. Addresses
are of 198.18.0.0/15, which no network in use has (RFC 2544). A table of ours in the kernel lets
nothing through these ports but frames from one of the two ends to the other, whatever a drill
sends.
"""

import ipaddress
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ids_appliance.drill.frames import End, Line
from ids_appliance.errors import DrillError, LabError
from ids_appliance.lab.namespaces import inside, offloads_off, present, remove, require, run
from ids_appliance.telemetry.drills import PORTS

NAME: Final = PORTS
MAC_A: Final = bytes.fromhex("021dd711000a")
MAC_V: Final = bytes.fromhex("021dd711000b")
_BRIDGED: Final = ("198.18.213.2/28", "198.18.213.3/28")
_ROUTED: Final = ("198.18.213.2/30", "198.18.213.6/30")
_GATES: Final = ("198.18.213.1/30", "198.18.213.5/30")
INSIDE: Final = "eth0"


@dataclass(frozen=True, slots=True)
class Place:
    """Where drills happen; `name` is what its namespaces, ports and table are called after."""

    name: str = NAME

    @property
    def attacker(self) -> str:
        """The attacker's namespace, and the gateway's port before it."""
        return f"{self.name}-a"

    @property
    def victim(self) -> str:
        """The victim's."""
        return f"{self.name}-v"

    def prepare(self, bridge: str = "") -> None:
        """Make it, joined to a bridge where one is named; what was there before goes. Raises
        DrillError."""
        _checked_name(self.name)
        try:
            require("ip", "nft", *(("bridge",) if bridge else ()))
            self.remove()
            addresses = _BRIDGED if bridge else _ROUTED
            for n, (port, mac) in enumerate(((self.attacker, MAC_A), (self.victim, MAC_V))):
                self._make(port, mac, addresses[n])
                if bridge:
                    self._join(port, mac, bridge)
                else:
                    self._route(port, mac, n)
            self._acquaint(bridged=bool(bridge))
            run("nft", "-f", "-", text=self._guard(bridged=bool(bridge)))
        except (LabError, OSError) as error:
            self.remove()
            raise DrillError(f"the drill's namespaces cannot be made: {error}") from error

    def remove(self) -> bool:
        """Take it away with whatever lives in it; return whether there was one."""
        there = {self.attacker, self.victim} & present()
        for port in sorted(there):
            # With a namespace the kernel takes them away later, and their names stay taken.
            with suppress(LabError, OSError):
                run("ip", "link", "delete", port)
        remove(there)
        try:
            run("nft", "delete", "table", "netdev", self.name)
        except (LabError, OSError):
            return bool(there)  # no such table
        return True

    def line(self) -> Line:
        """Return who sends to whom. Raises DrillError: nothing is prepared."""
        if not {self.attacker, self.victim} <= present():
            raise DrillError("no drill is prepared: `ids-appliance drill prepare --config FILE`")
        ports = [self._port(name) for name in (self.attacker, self.victim)]
        bridged = bool(ports[0].get("master"))
        addresses = [
            ipaddress.ip_interface(text).packed for text in (_BRIDGED if bridged else _ROUTED)
        ]
        next_hop = MAC_V if bridged else bytes.fromhex(ports[0]["address"].replace(":", ""))
        claimed = addresses[1] if bridged else ipaddress.ip_interface(_GATES[0]).packed
        return Line(End(MAC_A, addresses[0]), End(MAC_V, addresses[1]), next_hop, claimed)

    def _port(self, name: str) -> dict[str, Any]:
        try:
            found: list[dict[str, Any]] = json.loads(run("ip", "-j", "link", "show", "dev", name))
        except (LabError, OSError, ValueError) as error:
            raise DrillError(
                f"the gateway's port {name} is gone: `ids-appliance drill prepare` makes it anew"
            ) from error
        return found[0]

    def _make(self, port: str, mac: bytes, address: str) -> None:
        run("ip", "netns", "add", port)
        with inside(port):
            for scope in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        run("ip", "link", "add", port, "type", "veth", "peer", "name", INSIDE, "netns", port)
        run("ip", "link", "set", port, "addrgenmode", "none")
        for line in (
            f"link set {INSIDE} address {mac.hex(':')}",
            f"addr add {address} dev {INSIDE}",
            "link set lo up",
            f"link set {INSIDE} up",
        ):
            run("ip", "-n", port, *line.split())
        with inside(port):
            offloads_off(INSIDE)
        offloads_off(port)

    def _join(self, port: str, mac: bytes, bridge: str) -> None:
        """Make the port one of a bridge's; nothing that is for nobody in particular goes there."""
        run("ip", "link", "set", port, "master", bridge)
        off = ("learning", "flood", "mcast_flood", "bcast_flood")
        words = [word for name in off for word in (name, "off")]
        run("ip", "link", "set", port, "type", "bridge_slave", *words)
        run("ip", "link", "set", port, "up")
        run("bridge", "fdb", "replace", mac.hex(":"), "dev", port, "master", "static")

    def _route(self, port: str, mac: bytes, n: int) -> None:
        """Give the port a network of its own, and its end the way through us."""
        gate = ipaddress.ip_interface(_GATES[n])
        run("ip", "link", "set", port, "up")
        run("ip", "addr", "add", str(gate), "dev", port)
        end = str(ipaddress.ip_interface(_ROUTED[n]).ip)
        run("ip", "neigh", "replace", end, "lladdr", mac.hex(":"), "dev", port, "nud", "permanent")
        run("ip", "-n", port, "route", "add", "default", "via", str(gate.ip))

    def _acquaint(self, *, bridged: bool) -> None:
        """Let both ends know their next MAC, so that none of them ever asks everybody."""
        ends = (self.attacker, MAC_V, 1), (self.victim, MAC_A, 0)
        for port, other, n in ends:
            where = _BRIDGED[n] if bridged else _GATES[1 - n]
            mac = other.hex(":") if bridged else self._port(port)["address"]
            address = str(ipaddress.ip_interface(where).ip)
            words = f"neigh replace {address} lladdr {mac} dev {INSIDE} nud permanent"
            run("ip", "-n", port, *words.split())

    def _guard(self, *, bridged: bool) -> str:
        """Return the table that keeps everything a drill sends between its two ends.

        After the gateway's own chains of that hook (priority -500), so what they drop is theirs."""
        plan = _BRIDGED if bridged else _ROUTED
        one, other = (str(ipaddress.ip_interface(text).ip) for text in plan)
        chains = []
        for port, mac, far, to in (
            (self.attacker, MAC_A, MAC_V, other),
            (self.victim, MAC_V, MAC_A, one),
        ):
            next_mac = far.hex(":") if bridged else self._port(port)["address"]
            pair = f"ether saddr {mac.hex(':')} ether daddr {next_mac}"
            hook = f'type filter hook ingress device "{port}" priority 0; policy drop;'
            chains.append(
                f"chain {'a' if far == MAC_V else 'v'} {{ {hook}\n"
                f"{pair} ether type arp counter accept\n"
                f"{pair} ip daddr {to} counter accept\ncounter\n}}\n"
            )
        return f"table netdev {self.name} {{\n{''.join(chains)}}}\n"


def _checked_name(name: str) -> None:
    if not name.startswith(PORTS) or len(name) > 13 or not name.replace("-", "").isalnum():
        raise DrillError(f"a drill's name begins with {PORTS} and has 13 characters at most")
