"""A class of traffic in, the bits of a packet's mark that carry it out; and what nft says of them.

The kernel keeps a packet's mark from where it comes in to where it leaves, forwarded or bridged;
who its sender is can only be told where it comes in, and which queue it waits in is only settled
where it leaves (routing sets a packet's priority anew, from its TOS). So rules and verdicts that
know the sender write the mark, and the rules in front of the queues read it.
"""

from enum import IntEnum
from typing import Final

MASK: Final = 0x0F00_0000
"""Our bits of a mark; all others are somebody else's and stay as they are."""
_SHIFT: Final = 24


class TrafficClass(IntEnum):
    """Queues of an outgoing interface, the most urgent first."""

    CONTROL = 1
    """What keeps the network itself alive: ARP, neighbour discovery, DHCP, the link to the node."""
    PRIORITY = 2
    NORMAL = 3
    SUSPECT = 4
    """Whoever is deprioritised: last, and under a low ceiling."""


def mark_of(which: TrafficClass) -> int:
    """Return the bits that say a class; 0 under MASK: nobody has said anything."""
    return int(which) << _SHIFT


def marked(mark: int, which: TrafficClass) -> int:
    """Return a packet's mark with our bits set, as a verdict hands it back."""
    return (mark & ~MASK & 0xFFFF_FFFF) | mark_of(which)


def statement(which: TrafficClass) -> str:
    """Return the nft statement that sets our bits of a mark and no others."""
    return f"meta mark set meta mark & {~MASK & 0xFFFF_FFFF:#010x} | {mark_of(which):#010x}"
