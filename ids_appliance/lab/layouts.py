"""Who hangs where: the lab's hosts, their segments, and three ways to wire them up.

routed   iot devices - switch - iot0  \\            / node0 - node
         home hosts  - switch - guest0 > gateway <
                                      /            \\ wan0 - switch - isp, server, outsiders

vlan     the same, but iot0, guest0 and wan0 are VLANs of one cable, trunk0

bridge   every device and home host - a port of br0 in the gateway (an access point)
                                      br0 - uplink - router - switch - isp, server, outsiders
                                      node0 - node
"""

import ipaddress
from dataclasses import dataclass
from typing import Final, Literal

from ids_appliance.errors import LabError

Segment = Literal["iot", "home", "outside", "node"]

DEVICES: Final = 20
"""IoT devices dev01 .. dev20."""
GATEWAY: Final = "gw"
ROUTER: Final = "router"
SWITCH: Final = "switch"
"""Namespace of the plain switches; nobody lives in it."""
NEWCOMER: Final = "newcomer"


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace with one interface, eth0."""

    name: str
    segment: Segment
    number: int
    """Last part of its addresses, 1 .. 254."""
    about: str


@dataclass(frozen=True, slots=True)
class Net:
    """Addresses of a segment."""

    v4: ipaddress.IPv4Network
    v6: ipaddress.IPv6Network

    def address4(self, number: int) -> str:
        """Return the IPv4 address of a host's number."""
        return str(self.v4[number])

    def address6(self, number: int) -> str:
        """Return the IPv6 address of a host's number."""
        return str(self.v6[number])


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to wire the hosts up."""

    name: str
    about: str
    captured: tuple[str, ...]
    """What the gateway is told to watch: its protected side."""
    bridged: bool
    """The gateway only switches; a router beyond it routes."""
    trunk: bool
    """All segments come over one cable as VLANs."""


LAYOUTS: Final = {
    layout.name: layout
    for layout in (
        Layout(
            "routed",
            "the gateway routes",
            ("iot0", "guest0"),
            False,
            False,
        ),
        Layout("vlan", "as routed, over VLANs of one cable", ("iot0", "guest0"), False, True),
        Layout("bridge", "the gateway is an access point: it only bridges", ("br0",), True, False),
    )
}

HOSTS: Final = (
    *(Host(f"dev{n:02}", "iot", 10 + n, "IoT device") for n in range(1, DEVICES + 1)),
    Host("hub", "home", 10, "home hub: polls the devices"),
    Host("phone", "home", 11, "telephone: looks around, browses"),
    Host("admin", "home", 12, "administrator's machine: takes the inventory"),
    Host(NEWCOMER, "home", 13, "a device that gets a new network card"),
    Host("bot", "home", 66, "compromised device: the attacker inside"),
    Host("isp", "outside", 1, "everything else out there: swallows what is sent"),
    Host("server", "outside", 10, "MQTT broker, web, iperf3"),
    Host("outsider", "outside", 66, "attacker outside"),
    Host("outsider2", "outside", 67, "second attacker outside"),
    Host("node", "node", 2, "classifier service"),
)

PORTS: Final[dict[Segment, str]] = {"iot": "iot0", "home": "guest0", "outside": "wan0"}
"""Segment -> the routing gateway's interface there."""
GATEWAY_NUMBER: Final = 1
"""Of the gateway (routed) or the router (bridge) on iot and home, of the gateway on node."""
BORDER_NUMBER: Final = 2
"""Of whoever routes, on the outside."""
ACCESS_POINT_NUMBER: Final = 2
"""Of the gateway itself where it only bridges."""
ACCESS_POINT_MAC: Final = "02:1d:5e:00:00:02"
"""Of its bridge, which would otherwise take its ports' lowest."""


def _net(v4: str, v6: str) -> Net:
    return Net(ipaddress.IPv4Network(v4), ipaddress.IPv6Network(v6))


NODE_NET: Final = _net("192.168.30.0/24", "fd00:1d5:30::/64")
OUTSIDE_NET: Final = _net("198.51.100.0/24", "2001:db8:51::/64")  # RFC 5737, RFC 3849
_LAN: Final = _net("192.168.10.0/24", "fd00:1d5:10::/64")
_HOME: Final = _net("192.168.20.0/24", "fd00:1d5:20::/64")


def layout(name: str) -> Layout:
    """Return a layout by its name. Raises LabError."""
    if name not in LAYOUTS:
        raise LabError(f"there is no layout {name!r}: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def net_of(segment: Segment, *, bridged: bool) -> Net:
    """Return a segment's addresses; behind an access point iot and home are one network."""
    lan: dict[Segment, Net] = {"iot": _LAN, "home": _LAN if bridged else _HOME}
    return {**lan, "outside": OUTSIDE_NET, "node": NODE_NET}[segment]


def number_of(host: Host, *, bridged: bool) -> int:
    """Return a host's number; behind an access point home hosts come after the devices."""
    return host.number + 100 if bridged and host.segment == "home" else host.number


def mac_of(host: Host) -> str:
    """Return a host's MAC: locally administered, the segment and number readable in it."""
    segment = ("iot", "home", "outside", "node").index(host.segment)
    return f"02:1d:5e:00:{segment:02x}:{host.number:02x}"


def places(layout: Layout, name: str) -> list[tuple[Segment, int]]:
    """Return (segment, number) of each of a host's addresses. Raises LabError for no such host."""
    if name == GATEWAY and layout.bridged:
        return [("iot", ACCESS_POINT_NUMBER), ("node", GATEWAY_NUMBER)]
    if name == (ROUTER if layout.bridged else GATEWAY):
        lans: list[Segment] = ["iot"] if layout.bridged else ["iot", "home"]
        nodes: list[tuple[Segment, int]] = [] if layout.bridged else [("node", GATEWAY_NUMBER)]
        return [(lan, GATEWAY_NUMBER) for lan in lans] + [("outside", BORDER_NUMBER)] + nodes
    host = host_of(name)
    return [(host.segment, number_of(host, bridged=layout.bridged))]


def host_of(name: str) -> Host:
    """Return a host by its name. Raises LabError."""
    for host in HOSTS:
        if host.name == name:
            return host
    raise LabError(f"there is no device or server {name!r}: {', '.join(h.name for h in HOSTS)}")


def next_hop(segment: Segment) -> int:
    """Return the number of whoever routes on a segment."""
    return BORDER_NUMBER if segment == "outside" else GATEWAY_NUMBER


def ways_out(layout: Layout, segment: Segment) -> list[str]:
    """Return the `ip` lines of a segment's default routes."""
    net = net_of(segment, bridged=layout.bridged)
    number = next_hop(segment)
    return [
        f"route add default via {net.address4(number)}",
        f"route add ::/0 via {net.address6(number)}",
    ]
