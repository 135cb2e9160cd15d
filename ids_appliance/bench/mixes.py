"""The name of a mix in, a pool of Ethernet frames towards the gateway out; the same every time.

A pool is sent again and again. Where features are random it holds four times as many frames as the
gateway's cache holds cells, so that a second round meets no cell of the first. Addresses are those
that RFC 2544 sets aside for benchmarks; ordinary traffic keeps the captured ones.
"""

import functools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import ids_appliance
from ids_appliance.capture.file import CaptureFile

Bytes = npt.NDArray[np.uint8]
Pool = tuple[Bytes, npt.NDArray[np.int64]]
"""All frames' bytes, and where each ends."""

SOURCE: Final = (198, 18, 0, 2)
TARGET: Final = (198, 19, 0, 10)
ORDINARY: Final = Path(ids_appliance.__file__).parent / "demo" / "lan.pcap.gz"
FRAMES: Final = 65_536
RANDOM_FRAMES: Final = 262_144
_ETHERNET, _IP = 14, 20


def _headers(rng: np.random.Generator, n: int, *, size: int, protocol: int) -> Bytes:
    """Return n frames of one size with Ethernet type and IPv4 header, the rest zero."""
    frames = np.zeros((n, size), np.uint8)
    frames[:, 12] = 8
    ip = frames[:, _ETHERNET:]
    ip[:, 0] = 0x45
    ip[:, 2:4] = _be16(np.full(n, size - _ETHERNET))
    ip[:, 4:6] = rng.integers(0, 256, (n, 2))
    ip[:, 8], ip[:, 9] = 64, protocol
    ip[:, 12:16], ip[:, 16:20] = SOURCE, TARGET
    return frames


def _be16(values: npt.NDArray[np.int64]) -> Bytes:
    return np.stack([values >> 8, values & 255], axis=-1).astype(np.uint8)


def _folded(frames: Bytes) -> npt.NDArray[np.int64]:
    """Return the checksum (RFC 1071) of (n, even) bytes."""
    total = _words(frames)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    checksum: npt.NDArray[np.int64] = 0xFFFF - total
    return checksum


def _sum_ip(frames: Bytes) -> None:
    """Set the header checksums of (n, size) frames with 20-byte headers."""
    ip = frames[:, _ETHERNET : _ETHERNET + _IP]
    ip[:, 10:12] = 0
    ip[:, 10:12] = _be16(_folded(ip))


def _sum_transport(frames: Bytes) -> None:
    """Set the checksums of TCP and UDP (RFC 9293, 768) of (n, even) frames with 20-byte headers:
    connection tracking lets others be."""
    body = frames[:, _ETHERNET + _IP :]
    for protocol, at in ((6, 16), (17, 6)):
        those = frames[:, _ETHERNET + 9] == protocol
        if not those.any():
            continue
        body[those, at : at + 2] = 0
        part = body[those]
        pseudo = np.zeros((len(part), 12), np.uint8)
        pseudo[:, :8] = frames[those, _ETHERNET + 12 : _ETHERNET + 20]
        pseudo[:, 9] = protocol
        pseudo[:, 10:12] = _be16(np.full(len(part), part.shape[1]))
        total = _folded(np.concatenate((pseudo, part), axis=1))
        body[those, at : at + 2] = _be16(np.where(total == 0, 0xFFFF, total))


def _syn(rng: np.random.Generator, frames: Bytes) -> None:
    """Make them SYNs from random ports to port 80, with random sequence numbers."""
    tcp = frames[:, _ETHERNET + _IP :]
    tcp[:, 0:2] = _be16(rng.integers(1024, 65_536, len(tcp)))
    tcp[:, 3] = 80
    tcp[:, 4:8] = rng.integers(0, 256, (len(tcp), 4))
    tcp[:, 12], tcp[:, 13], tcp[:, 14] = 0x50, 2, 2


def _spoof(rng: np.random.Generator, frames: Bytes) -> None:
    """Give each a random unicast source."""
    frames[:, _ETHERNET + 12] = rng.integers(11, 127, len(frames))
    frames[:, _ETHERNET + 13 : _ETHERNET + 16] = rng.integers(0, 256, (len(frames), 3))


def syn_single(rng: np.random.Generator, n: int) -> Pool:
    """A SYN flood from one source."""
    frames = _headers(rng, n, size=54, protocol=6)
    _syn(rng, frames)
    return _packed(frames)


def syn_spoofed(rng: np.random.Generator, n: int) -> Pool:
    """A SYN flood, every packet from another source."""
    frames = _headers(rng, n, size=54, protocol=6)
    _syn(rng, frames)
    _spoof(rng, frames)
    return _packed(frames)


def udp_flood(rng: np.random.Generator, n: int) -> Pool:
    """UDP from one source to random ports, 100 bytes of one letter each."""
    frames = _headers(rng, n, size=142, protocol=17)
    udp = frames[:, _ETHERNET + _IP :]
    udp[:, 0:4] = rng.integers(0, 256, (len(udp), 4))
    udp[:, 4:6] = _be16(np.full(len(udp), 108))
    udp[:, 8:] = ord("A")
    return _packed(frames)


def scan(rng: np.random.Generator, n: int) -> Pool:
    """SYNs from one source to random ports of 65,536 hosts, ordinary traffic between."""
    frames = _headers(rng, n, size=54, protocol=6)
    _syn(rng, frames)
    frames[:, _ETHERNET + 18 : _ETHERNET + 20] = rng.integers(0, 256, (len(frames), 2))
    frames[:, _ETHERNET + _IP + 2 : _ETHERNET + _IP + 4] = rng.integers(0, 256, (len(frames), 2))
    return _interleaved(_packed(frames), ordinary(rng, n))


def ordinary(rng: np.random.Generator, n: int) -> Pool:
    """The unicast IPv4 packets of a home network's capture, addresses, sizes and payload kept."""
    del rng, n  # nothing here is random, and there are as many as there are
    data, ends = _captured()
    return data.copy(), ends


@functools.cache
def _captured() -> Pool:
    kept: list[Bytes] = []
    with closing(CaptureFile(ORDINARY)) as source:
        for batch in source.batches():
            for frame in batch.frames:
                begin, size = int(frame["offset"]), int(frame["caplen"])
                one = batch.data[begin : begin + size].copy()
                if size == int(frame["wirelen"]) and _forwarded(one):
                    _sum_ip(one[None, :])
                    kept.append(one)
    return np.concatenate(kept), np.cumsum([len(one) for one in kept]).astype(np.int64)


def _forwarded(frame: Bytes) -> bool:
    """Return whether a router would pass it on: unicast IPv4 without options, hops left."""
    if not 34 <= len(frame) <= 1514 or bytes(frame[12:15]) != b"\x08\x00\x45" or frame[22] < 2:
        return False
    length = int(frame[16]) * 256 + int(frame[17])
    if not _IP <= length <= len(frame) - _ETHERNET or frame[20] & 0x3F or frame[21]:
        return False  # shorter than it says, or a fragment
    return all(0 < first < 224 and first != 127 for first in (frame[26], frame[30])) and (
        frame[29] != 255 and frame[33] != 255  # nobody's broadcast
    )


def mixed(rng: np.random.Generator, n: int) -> Pool:
    """A flood with forged senders and ordinary traffic, packet by packet."""
    return _interleaved(syn_spoofed(rng, n // 2), ordinary(rng, n))


def random_payloads(rng: np.random.Generator, n: int) -> Pool:
    """TCP and UDP in which everything is random that the 60 features look at."""
    parts = []
    for size in (60, 78, 110, 200):
        frames = _headers(rng, n // 4, size=size, protocol=6)
        frames[:, _ETHERNET + 8] = rng.integers(2, 256, len(frames))
        frames[:, _ETHERNET + 9] = rng.choice(np.array([6, 17], np.uint8), len(frames))
        body = frames[:, _ETHERNET + _IP :]
        body[:] = rng.integers(0, 256, body.shape)
        tcp = frames[:, _ETHERNET + 9] == 6
        body[tcp, 12] = 0x50
        body[~tcp, 4:6] = _be16(np.full(int((~tcp).sum()), size - _ETHERNET - _IP))
        _spoof(rng, frames)
        parts.append(_packed(frames))
    first = _interleaved(parts[0], parts[1])
    return _interleaved(first, _interleaved(parts[2], parts[3]))


def summed(frames: Bytes) -> None:
    """Set the checksums of (n, even) changed frames of IPv4, TCP and UDP with 20-byte headers, in
    place."""
    _sum_ip(frames)
    _sum_transport(frames)


def _packed(frames: Bytes) -> Pool:
    summed(frames)
    n, size = frames.shape
    return frames.reshape(-1), size * np.arange(1, n + 1, dtype=np.int64)


def _interleaved(one: Pool, other: Pool) -> Pool:
    """Return both in turns, frame by frame; the shorter one begins again until the longer ends."""
    (data_a, ends_a), (data_b, ends_b) = one, other
    n = max(len(ends_a), len(ends_b))
    ends = np.concatenate((ends_a, len(data_a) + ends_b))
    starts = np.concatenate(([0], ends[:-1]))
    order = np.empty(2 * n, np.int64)
    order[0::2] = np.arange(n) % len(ends_a)
    order[1::2] = len(ends_a) + np.arange(n) % len(ends_b)
    sizes = (ends - starts)[order]
    out_ends = np.cumsum(sizes)
    # Byte k of the result is byte (k - where its frame begins there + where it begins here).
    shift = np.repeat(starts[order] - (out_ends - sizes), sizes)
    data = np.concatenate((data_a, data_b))
    return data[shift + np.arange(len(shift))], out_ends


def address(pool: Pool, destination: bytes, source: bytes) -> None:
    """Give every frame its MACs, in place."""
    data, ends = pool
    starts = np.concatenate(([0], ends[:-1]))
    both = np.frombuffer(destination + source, np.uint8)
    data[starts[:, None] + np.arange(12)] = both


def aim(pool: Pool, target: bytes) -> None:
    """Send every frame to another IPv4 address, in place; IP, TCP and UDP checksums follow
    (RFC 1624). Frames are IPv4 with 20-byte headers."""
    data, ends = pool
    starts = np.concatenate(([0], ends[:-1]))
    at = starts[:, None] + (_ETHERNET + 16 + np.arange(4))
    change = _words(np.frombuffer(target, np.uint8)[None, :]) - _words(data[at])
    protocol = data[starts + _ETHERNET + 9]
    data[at] = np.frombuffer(target, np.uint8)
    for of, offset in ((None, _ETHERNET + 10), (6, _ETHERNET + 36), (17, _ETHERNET + 26)):
        those = np.ones(len(ends), bool) if of is None else protocol == of
        where = (starts[those] + offset)[:, None] + np.arange(2)
        # One's complement sums are sums modulo 2**16 - 1.
        data[where] = _be16(0xFFFF - (change[those] - _words(data[where])) % 0xFFFF)


def _words(octets: Bytes) -> npt.NDArray[np.int64]:
    """Return the sum of the 16-bit words of (n, even) bytes, (n,)."""
    high, low = (octets[:, at::2].sum(axis=1, dtype=np.int64) for at in (0, 1))
    total: npt.NDArray[np.int64] = 256 * high + low
    return total


@dataclass(frozen=True, slots=True)
class Mix:
    """How a pool is made, and of how many frames."""

    make: Callable[[np.random.Generator, int], Pool]
    frames: int


MIXES: Final = {
    "syn-single": Mix(syn_single, FRAMES),
    "syn-spoofed": Mix(syn_spoofed, RANDOM_FRAMES),
    "udp-flood": Mix(udp_flood, FRAMES),
    "scan": Mix(scan, FRAMES),
    "ordinary": Mix(ordinary, 0),
    "mixed": Mix(mixed, RANDOM_FRAMES),
    "random": Mix(random_payloads, RANDOM_FRAMES),
}


def make(name: str, *, frames: int = 0, seed: int = 0) -> Pool:
    """Return a mix's pool, of about so many frames instead of its own number."""
    mix = MIXES[name]
    return mix.make(np.random.default_rng(seed), frames or mix.frames)
