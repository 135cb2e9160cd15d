"""Addresses and networks in, ranges of integers out: comparing them is what every finding costs."""

import ipaddress
from typing import NamedTuple

from ids_appliance.types import Kind, Subject

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Span(NamedTuple):
    """Addresses of one family in a row."""

    size: int
    """Bytes of an address: 4 or 16."""
    first: int
    last: int

    def overlaps(self, other: "Span") -> bool:
        """Say whether the two have an address in common."""
        return self.size == other.size and self.first <= other.last and other.first <= self.last

    def has(self, address: bytes) -> bool:
        """Say whether an address (4 or 16 bytes) lies inside; b"" lies nowhere."""
        return len(address) == self.size and (
            self.first <= int.from_bytes(address, "big") <= self.last
        )


def of_network(network: Network) -> Span:
    """Return a network's addresses."""
    first = int(network.network_address)
    return Span(network.max_prefixlen // 8, first, int(network.broadcast_address))


def of_subject(subject: Subject) -> Span | None:
    """Return the addresses that a decision about a subject concerns; None for a MAC."""
    if subject.kind is Kind.MAC:
        return None
    first = int.from_bytes(subject.value, "big")
    if subject.kind is Kind.IPV6:
        return Span(16, first << 64, first << 64 | 2**64 - 1)
    return Span(len(subject.value), first, first)
