"""Bans of whom nobody may lock out: ordered by hand, then put into the kernel's sets directly."""

import ipaddress
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ids_appliance.lab.layouts import GATEWAY, ROUTER
from tests.campaigns.drills.ground import NODE_PORT, Ground
from tests.campaigns.drills.report import Report
from tests.campaigns.drills.traffic import flows

DNS_LAN, ADMIN_LAN, ADMIN_BEYOND = "hub", "admin", "outsider2"
CONTROL_LAN, CONTROL_BEYOND = "dev05", "outsider"
DEVICE: Final = "dev02"
PORT: Final = 8022
"""The gateway's own: what an administrator logs in at."""


@dataclass(frozen=True, slots=True)
class Ban:
    """One sender as an order names it."""

    why: str
    host: str
    text: str


def play(layout: str, report: Report) -> None:
    """The drill."""
    ground = Ground(layout)
    lab = ground.lab
    # Elements by another's hand are gone at the next comparison; here they have to stay for long.
    ground.settings |= {"enforce.reconcile_s": 600.0}
    with ground:
        ground.settings["protect.administrators"] = [
            *lab.addresses(ADMIN_LAN),
            *lab.addresses(ADMIN_BEYOND),
        ]
        servers = (lab.address(DNS_LAN), *lab.addresses("server"))
        place = Path("/etc/netns", lab.full(GATEWAY))
        place.mkdir(parents=True, exist_ok=True)
        (place / "resolv.conf").write_text("".join(f"nameserver {a}\n" for a in servers))
        ground.start_node()
        ground.settings["node.addresses"].append(f"[{lab.address('node', 6)}]:{NODE_PORT}")
        lab.popen(GATEWAY, ["python3", "-m", "http.server", str(PORT), "--bind", "::"])
        greet(ground)
        ground.start()
        greet(ground)
        # Who has which address is looked at every five seconds.
        ground.wait(lambda: known(ground), limit_s=12)
        by_hand(ground, report)
        before = everybody(ground, protected_hosts(ground))
        report.expect(not before, "all reach the gateway and a device at first", told(before))
        put_in(ground)
        after = everybody(ground, protected_hosts(ground))
        report.expect(not after, "banned in the kernel by another's hand: cut off", told(after))
        for host, ways in controls(ground).items():
            through = [way for way in ways if reaches(ground, host, *way)]
            report.expect(
                not through, f"control: {host} banned the same way is cut off", told(through)
            )


def known(ground: Ground) -> bool:
    """The gateway has learned who the administrator's machine is."""
    text = ground.lab.mac(ADMIN_LAN).hex(":")
    return text in ground.ruleset()


def greet(ground: Ground) -> None:
    """Let everybody be heard once, as happens in every network."""
    lab = ground.lab
    hosts = [*protected_hosts(ground), DEVICE, CONTROL_LAN, CONTROL_BEYOND]
    everybody(ground, [h for h in hosts if h != GATEWAY])
    for host in (ADMIN_LAN, DNS_LAN, CONTROL_LAN):
        lab.ip(host, "neigh flush all")
        reaches(ground, host, lab.next_hop(lab.segment(host)), 0)


def protected_hosts(ground: Ground) -> list[str]:
    """Return the hosts that have to get through whatever stands in the sets."""
    hosts = [GATEWAY, ADMIN_LAN, DNS_LAN, ADMIN_BEYOND, "server", "node"]
    return [*hosts, ROUTER if ground.lab.layout.bridged else "isp"]


def orders(ground: Ground) -> Iterable[Ban]:
    """Yield every way to name those who must not be cut off."""
    lab = ground.lab
    own_port = "br0" if lab.layout.bridged else "iot0"
    for address in dict.fromkeys(lab.addresses(GATEWAY)):
        yield Ban("own", GATEWAY, address)
    yield Ban("own", GATEWAY, f"{lab.mac(GATEWAY, own_port).hex(':')}@{lab.port(DEVICE)}")
    router, port, card = (
        (ROUTER, "uplink", "lan0") if lab.layout.bridged else ("isp", "wan0", "eth0")
    )
    # Of a router with several addresses, the one on our side is it.
    for address in lab.addresses(router)[:2]:
        yield Ban("router", router, address)
    yield Ban("router", router, f"{lab.mac(router, card).hex(':')}@{port}")
    for why, host in (
        ("DNS", DNS_LAN),
        ("DNS", "server"),
        ("node", "node"),
        ("administrator", ADMIN_LAN),
        ("administrator", ADMIN_BEYOND),
    ):
        for address in lab.addresses(host):
            if (why, host) != ("DNS", DNS_LAN) or ":" not in address:
                yield Ban(why, host, address)
        if lab.segment(host) in ("home", "iot"):
            yield Ban(why, host, f"{lab.mac(host).hex(':')}@{lab.port(host)}")


def by_hand(ground: Ground, report: Report) -> None:
    """Order each of them: refused in one line that says why."""
    for ban in orders(ground):
        line = ground.quarantine(ban.text)
        fine = bool(line) and "\n" not in line
        report.expect(fine, f"order: {ban.why} {ban.text}", line or "CARRIED OUT")
    text = ground.lab.address(ADMIN_LAN)
    code, out, err = ground.cli("quarantine", text, "--for", "1h")
    lines = (out + err).strip().splitlines()
    report.expect(code == 2 and len(lines) == 1, f"the command: {text}", f"exit {code}: {lines}")
    line = ground.quarantine(ground.lab.address(CONTROL_LAN))
    reached = flows(ground.lab, CONTROL_LAN, ground.lab.address("server"))
    report.expect(
        not line and not reached,
        "control: the same order about a device",
        line or ("carried out, and it still gets through" if reached else "cut off"),
    )
    ground.cli("release", ground.lab.mac(CONTROL_LAN).hex(":"))


def put_in(ground: Ground) -> None:
    """Put everybody into every set that cuts off, as somebody with a grudge and root might."""
    lab = ground.lab
    ports, hosts = "add element netdev ids_ports", "add element inet ids_hosts"
    commands = []
    router, port, card = (ROUTER, "uplink", "lan0") if lab.layout.bridged else ("isp", "", "")
    own = [p for p in lab.interfaces if p != "br0"] or [lab.port(DEVICE)]
    macs = [(p, lab.mac(GATEWAY, lab.interfaces[0])) for p in own]
    macs += [(lab.port(h), lab.mac(h)) for h in (ADMIN_LAN, DNS_LAN, CONTROL_LAN)]
    if card:
        macs.append((port, lab.mac(router, card)))
    for at, mac in macs:
        commands.append(f'{ports} lan_quarantine {{ "{at}" . {mac.hex(":")} timeout 1h }}')
    everyone = [GATEWAY, router, DNS_LAN, "server", "node", ADMIN_LAN, ADMIN_BEYOND, CONTROL_BEYOND]
    addresses = dict.fromkeys(a for host in everyone for a in lab.addresses(host))
    for address in map(_element, addresses):
        family = 6 if ":" in address else 4
        for table in (ports, hosts):
            commands.append(f"{table} wan_quarantine{family} {{ {address} timeout 1h }}")
    for host in (ADMIN_LAN, DNS_LAN):
        for address in map(_element, lab.addresses(host)):
            family = 6 if ":" in address else 4
            element = f'"{lab.port(host)}" . {address} timeout 1h'
            commands.append(f"{ports} lan_quarantine{family} {{ {element} }}")
    for command in dict.fromkeys(commands):
        ground.nft(command)


def _element(address: str) -> str:
    """Return how a sender's address stands in the sets: IPv6 as its /64."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)


Way = tuple[str, int]
"""(address, TCP port or 0 for ping)."""


def everybody(ground: Ground, hosts: Iterable[str]) -> list[tuple[str, str, int]]:
    """Return (host, address, port) of what does not get through."""
    ways = [(host, *way) for host in hosts for way in ways_of(ground, host)]
    with ThreadPoolExecutor(16) as pool:
        fine = list(pool.map(lambda way: reaches(ground, *way), ways))
    return [way for way, there in zip(ways, fine, strict=True) if not there]


def ways_of(ground: Ground, host: str) -> list[Way]:
    """Return what a host has to reach: the gateway itself and a device, IPv4 and IPv6."""
    lab = ground.lab
    device4, device6 = lab.addresses(DEVICE)
    if host == GATEWAY:
        return [(device4, 0), (device6, 0), (device4, 80), *((a, 0) for a in lab.addresses("node"))]
    segment = "outside" if host == "isp" else "iot" if host == ROUTER else lab.segment(host)
    near = [a for a in lab.addresses(GATEWAY) if _on_link(ground, a, segment)]
    if not near:  # an access point, from beyond the router
        near = list(lab.addresses(GATEWAY)[:2])
    found: list[Way] = [(a, port) for a in near for port in (0, PORT)]
    if host in ("isp", "node"):  # know no way to the devices
        return found
    return [*found, (device4, 0), (device6, 0), (device4, 80)]


def _on_link(ground: Ground, address: str, segment: str) -> bool:
    net = ground.lab.net(segment)  # type: ignore[arg-type]
    one = ipaddress.ip_address(address)
    return one in (net.v4 if one.version == 4 else net.v6)


def reaches(ground: Ground, host: str, address: str, port: int) -> bool:
    """Say whether a host gets through."""
    return flows(ground.lab, host, address, family=6 if ":" in address else 4, port=port)


def controls(ground: Ground) -> dict[str, list[Way]]:
    """Return who is banned in the same way and protected by nothing, with all that must fail."""
    lab = ground.lab
    device4, device6 = lab.addresses(DEVICE)
    return {
        CONTROL_LAN: [(lab.next_hop("iot"), 0), (lab.address("server"), 80)],
        CONTROL_BEYOND: [(device4, 0), (device6, 0), (device4, 80)],
    }


def told(ways: Iterable[object]) -> str:
    """Return ways as text."""
    return ", ".join(str(way) for way in ways) or "nobody"
