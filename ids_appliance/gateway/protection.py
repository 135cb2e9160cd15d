"""Who is let off, as the policy knows it, in; the kernel's protected sets out."""

from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.protect import Pins, Protection, SystemFound
from ids_appliance.policy.subjects import address_text


def protected_sets(guard: Guard, found: SystemFound) -> ProtectedSets:
    """Return what the first rules of the kernel's tables accept: protected and allowed senders."""
    pins = guard.protection.pins
    own = tuple(map(address_text, found.addresses))
    return ProtectedSets(guard.elements(), router_ports(found, pins), found.macs, own)


def router_ports(found: SystemFound, pins: Pins) -> tuple[tuple[str, bytes], ...]:
    """Return (captured interface, MAC) of the routers on the protected side.

    The MAC that a router's address is pinned to counts before the neighbour table's: or an ARP
    forger who has fooled us would be taken for the router, named by whatever addresses it writes
    and cut off never.
    """
    ports: dict[str, list[str]] = {port: [port] for port in found.captured}
    for port, upper in found.above:
        ports.setdefault(upper, []).append(port)
    known: dict[tuple[str, bytes], None] = {}
    for place in found.routers:
        pinned = pins.get((place.interface, place.address)) or pins.get(("", place.address))
        mac = pinned or place.mac
        if mac:
            known.update(((port, mac), None) for port in ports.get(place.interface, ()))
    for mac in found.router_macs:
        known.update(((port, mac), None) for port in found.captured)
    return tuple(known)


def layout_above(found: SystemFound) -> tuple[str, ...]:
    """Return the bridges and VLANs that stand on captured interfaces."""
    return tuple(dict.fromkeys(upper for _, upper in found.above))


def router_macs(protection: Protection) -> list[bytes]:
    """Return the MACs whose frames come from beyond: routers on the protected side."""
    return list(dict.fromkeys(mac for _, mac in router_ports(protection.found, protection.pins)))
