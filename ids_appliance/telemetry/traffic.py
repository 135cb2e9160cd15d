"""Batches of frames in, packets and bytes by protocol out.

For people who look on, not for verdicts. Counted a batch at a time with a dozen array operations,
from the frames as captured: what the socket filter holds back while no window is open is not among
them.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ids_appliance.types import U8, FrameBatch

Whole = npt.NDArray[np.int64]

PROTOCOLS: Final = ("other", "arp", "icmp", "tcp", "udp", "other_ip")
_OTHER, _ARP, _ICMP, _TCP, _UDP, _OTHER_IP = range(len(PROTOCOLS))

_ETHERNET: Final = 1  # LINKTYPE_ETHERNET; whatever else is captured begins with the IP header
_NEEDED: Final = 24
"""Bytes past which nothing is looked at: an IPv4 header's protocol behind Ethernet."""
_TAG: Final = 4

_BY_NUMBER: Final = np.full(256, _OTHER_IP, np.uint8)
_BY_NUMBER[[1, 58]] = _ICMP
_BY_NUMBER[6] = _TCP
_BY_NUMBER[17] = _UDP


class Traffic:
    """Totals since the start; for one thread."""

    def __init__(self) -> None:
        self._packets = np.zeros(len(PROTOCOLS), np.int64)
        self._bytes = np.zeros(len(PROTOCOLS), np.int64)

    def count(self, batch: FrameBatch) -> None:
        """Count a batch's frames; those cut too short to tell are "other"."""
        frames = batch.frames
        if not len(frames):
            return
        kinds = _kinds(batch)
        self._packets += np.bincount(kinds, minlength=len(PROTOCOLS))
        sizes = np.bincount(kinds, weights=frames["wirelen"], minlength=len(PROTOCOLS))
        self._bytes += sizes.astype(np.int64)

    def counters(self) -> dict[str, int]:
        """Totals by name: traffic_packets_tcp, traffic_bytes_tcp, ..."""
        told = (("packets", self._packets), ("bytes", self._bytes))
        return {
            f"traffic_{what}_{name}": int(total)
            for what, totals in told
            for name, total in zip(PROTOCOLS, totals, strict=True)
        }


def _kinds(batch: FrameBatch) -> Whole:
    """Return (n,) indices into PROTOCOLS; IEEE 802.3 and 802.1Q, RFC 791 and RFC 8200 headers."""
    data, frames = batch.data, batch.frames
    start = frames["offset"].astype(np.int64)
    room = frames["caplen"].astype(np.int64)
    ethernet = frames["linktype"] == _ETHERNET
    last = len(data) - 1

    def byte(at: Whole) -> U8:
        found: U8 = data[np.minimum(at, last)]
        return found

    def kind_at(at: Whole) -> Whole:
        return byte(at).astype(np.int64) << 8 | byte(at + 1)

    tagged = ethernet & (kind_at(start + 12) == 0x8100)
    past = np.where(tagged, _TAG, 0)
    ethertype = kind_at(start + 12 + past)
    header = start + np.where(ethernet, 14 + past, 0)
    version = byte(header) >> 4
    whole = room >= np.where(ethernet, _NEEDED + past, _NEEDED - 14)
    ip4 = whole & (version == 4) & (~ethernet | (ethertype == 0x0800))
    ip6 = whole & (version == 6) & (~ethernet | (ethertype == 0x86DD))
    kinds = np.full(len(frames), _OTHER, np.int64)
    kinds[ethernet & (room >= 14 + past) & (ethertype == 0x0806)] = _ARP
    kinds[ip4] = _BY_NUMBER[byte(header + 9)[ip4]]
    kinds[ip6] = _BY_NUMBER[byte(header + 6)[ip6]]
    return kinds
