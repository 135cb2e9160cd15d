"""A capture in, the MACs of those who forward for others out: whose frames come from beyond them.

Live, the routing table says who the routers are; a capture only shows it. A MAC forwards if at
least MIN_ADDRESSES global IPv4 addresses come from it and are also sent to by way of it. One-way
is not enough: a flood forges any number of sources. A MAC that claims several addresses by ARP is
somebody who poses as others, not a router.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import numpy as np

from ids_appliance.types import U8, FrameBatch, Records

MIN_ADDRESSES: Final = 2
MAX_PAIRS: Final = 262_144
"""Pairs of MAC and address kept; further ones are not looked at."""
MAX_FOUND: Final = 16
"""As many as a HostIdentity takes."""
_HEAD: Final = 34  # Ethernet II and IPv4 without options; the addresses of ARP lie in it too
_ETHERNET: Final = 1


def forwarders(batches: Iterable[FrameBatch]) -> list[bytes]:
    """Return MACs, the one with the most addresses first. Untagged Ethernet and IPv4 only."""
    sources: set[bytes] = set()
    targets: set[bytes] = set()
    claims: set[bytes] = set()
    for batch in batches:
        heads = _heads(batch.data, batch.frames)
        ipv4 = heads[(heads[:, 12] == 8) & (heads[:, 13] == 0) & (heads[:, 14] >> 4 == 4)]
        arp = heads[(heads[:, 12] == 8) & (heads[:, 13] == 6)]
        _add(sources, ipv4[_global(ipv4[:, 26:30])][:, [*range(6, 12), *range(26, 30)]])
        _add(targets, ipv4[_global(ipv4[:, 30:34])][:, [*range(0, 6), *range(30, 34)]])
        _add(claims, arp[arp[:, 28:32].any(axis=1)][:, [*range(6, 12), *range(28, 32)]])
    poses = {mac for mac, n in Counter(pair[:6] for pair in claims).items() if n > 1}
    counts = Counter(pair[:6] for pair in sources & targets)
    found = [mac for mac, n in counts.most_common() if n >= MIN_ADDRESSES and mac not in poses]
    return [mac for mac in found if not mac[0] & 1][:MAX_FOUND]


def _heads(data: U8, frames: Records) -> U8:
    """Return (n, _HEAD) bytes of the Ethernet frames that have so many."""
    long = (frames["caplen"] >= _HEAD) & (frames["linktype"] == _ETHERNET)
    at = frames["offset"][long].astype(np.int64)
    heads: U8 = data[at[:, None] + np.arange(_HEAD)]
    return heads


def _global(addresses: U8) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which IPv4 addresses are neither private, shared, link-local, loopback, nor of a
    group (RFC 1918, RFC 6598, RFC 3927, RFC 5771)."""
    a, b = addresses[:, 0], addresses[:, 1]
    private = (a == 10) | ((a == 172) & (b >> 4 == 1)) | ((a == 192) & (b == 168))
    shared = (a == 100) & (b >> 6 == 1)
    local = ((a == 169) & (b == 254)) | (a == 127) | (a == 0)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = ~(private | shared | local | (a >= 224))
    return found


def _add(pairs: set[bytes], rows: U8) -> None:
    if not len(rows):
        return
    unique = np.unique(np.ascontiguousarray(rows).view("V10"))
    for pair in unique.tolist():
        if len(pairs) >= MAX_PAIRS:
            return
        pairs.add(pair)
