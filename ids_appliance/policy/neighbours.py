"""The kernel's neighbour table in, whose an address is that nobody was seen to use yet, out.

A gateway that has begun anew has heard no ARP; the kernel remembers. Its table is what others have
told it: whoever is on the link can put his address beside another's MAC there (RFC 826 proves
nothing). So it is asked only for people's orders, after what the gateway itself has seen, and an
address whose MAC has further addresses there is nobody's: the further one may be the true one.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ids_appliance.errors import SubjectError
from ids_appliance.policy.entries import Layout
from ids_appliance.policy.subjects import Named, address_text
from ids_appliance.types import Kind, Subject

MAX_SAID = 4
"""Addresses that a message names."""


class Neighbour(NamedTuple):
    """One entry that has a MAC."""

    interface: str
    address: bytes
    """4 or 16 bytes."""
    mac: bytes


Neighbours = Callable[[], Sequence[Neighbour]]


def nobody() -> Sequence[Neighbour]:
    """Return no neighbours: a capture file has none."""
    return ()


def whose(named: Named, text: str, neighbours: Sequence[Neighbour], layout: Layout) -> Subject:
    """Return the MAC and captured port of an address on the protected side.

    Raises SubjectError that says what to write: no entry, an entry that contradicts another, or a
    bridge that does not say at which port.
    """
    wanted = set(layout.ports(named.interface)) if named.interface else layout.captured
    here = [one for one in neighbours if wanted.intersection(layout.ports(one.interface))]
    found = [one for one in here if one.address == named.address]
    macs = {one.mac for one in found}
    if not found or any(not any(mac) or mac[0] & 1 for mac in macs):
        raise SubjectError(f"whose {text} is was not seen: write its MAC or MAC@INTERFACE")
    said = ", ".join(sorted(mac.hex(":") for mac in macs))
    more = [a for one in here if one.mac in macs and (a := one.address) != named.address]
    more = [address for address in more if _may_be_another(address, named.address)]
    if more:
        others = ", ".join(sorted({address_text(address) for address in more})[:MAX_SAID])
        raise SubjectError(
            f"whose {text} is was not seen; the kernel's neighbour table says {said}, but for "
            f"{others} as well: write its MAC@INTERFACE"
        )
    ports = sorted(wanted.intersection(*(layout.ports(one.interface) for one in found)))
    if len(macs) > 1 or len(ports) != 1:
        at = ", ".join(sorted({p for one in found for p in layout.ports(one.interface)}))
        raise SubjectError(
            f"whose {text} is was not seen; the kernel's neighbour table says {said}, at one of "
            f"{at}: write MAC@INTERFACE"
        )
    return Subject(Kind.MAC, macs.pop(), interface=ports[0])


def _may_be_another(address: bytes, wanted: bytes) -> bool:
    """Say whether a further address of a MAC may be another host's: each has a link-local one."""
    return len(address) == len(wanted) and not ipaddress.ip_address(address).is_link_local
