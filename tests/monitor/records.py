"""Classic pcap streams made by hand, and what is in finished files."""

import struct
from pathlib import Path

from ids_appliance.monitor.stream import Records

START_NS = 1_790_000_000 * 10**9


def head() -> bytes:
    """Return a file header: nanoseconds, Ethernet."""
    return struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)


def record(number: int, size: int = 100) -> bytes:
    """Return a record whose frame says its number, a millisecond after the one before."""
    time_ns = START_NS + number * 10**6
    frame = struct.pack("!Q", number).ljust(size, b"x")[:size]
    return struct.pack("=IIII", time_ns // 10**9, time_ns % 10**9, size, size) + frame


def stream(*records: bytes) -> tuple[Records, bytes, list[int]]:
    """Return a stream that has read its header, whole records and where each ends."""
    found = Records()
    data, ends = found.feed(head() + b"".join(records))
    return found, data, ends


def numbers(*paths: Path) -> list[int]:
    """Return the numbers of all frames of files, in their order."""
    found = []
    for path in paths:
        reader = Records()
        data, ends = reader.feed(path.read_bytes())
        assert reader.head == head()
        assert 24 + len(data) == path.stat().st_size, "ends in the middle of a frame"
        for at in [0, *ends[:-1]] if ends else []:
            found.append(struct.unpack_from("!Q", data, at + 16)[0])
    return found
