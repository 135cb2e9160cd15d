"""Bytes of a capture file in, the splitter against itself: any chunking gives the same frames.

And every frame lies inside its chunk, consumed bytes never go back, and the counters add up.
"""

import struct
from collections.abc import Iterator

import numpy as np

from ids_appliance._capfile import MAX_FRAME, Splitter
from ids_appliance.types import FRAME
from tests.fuzz.parse import catalogue

Seen = tuple[list[tuple[object, ...]], dict[str, int], bool | None, bool]


def fuzz(data: bytes) -> None:
    """First byte: how the rest, a file, is cut into chunks; second: places for frames."""
    if len(data) < 2:
        return
    step, room, file = data[0] + 1, data[1] % 7 + 1, data[2:]
    whole = split(file, len(file) or 1, 4096)
    pieces = split(file, step, room)
    if whole != pieces:
        raise AssertionError(f"chunks of {step}, {room} places: {pieces}\nwhole: {whole}")


def split(file: bytes, step: int, room: int) -> Seen:
    """Return frames with their bytes, counters and what the format is, `step` bytes at a time."""
    splitter = Splitter()
    table = np.zeros(room, FRAME)
    frames: list[tuple[object, ...]] = []
    left, at = b"", 0
    while at < len(file) or left:
        left += file[at : at + step]
        at += step
        while True:
            # An allocation of exactly the chunk's size: one byte further is the sanitizer's.
            chunk = np.frombuffer(left, np.uint8).copy()
            n, consumed = splitter.split(chunk, table)
            assert 0 <= n <= room and 0 <= consumed <= len(left)
            for record in table[:n]:
                start, size = int(record["offset"]), int(record["caplen"])
                assert size <= MAX_FRAME and start + size <= consumed
                rest = tuple(record[name].item() for name in FRAME.names or () if name != "offset")
                frames.append((*rest, left[start : start + size]))
            left = left[consumed:]
            if n < room:
                break
        if at >= len(file):
            break
    # Bytes behind the end of what makes sense are nobody's.
    splitter.finish(len(left))
    counters = splitter.counters()
    assert counters["delivered"] == len(frames)
    assert splitter.frames == len(frames) + counters["unknown_interface"]
    return frames, counters, splitter.recognised, splitter.ended


def pcap(order: str, magic: int, packets: list[tuple[int, bytes]]) -> bytes:
    """Return a pcap file; its link type is that of the first packet."""
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, packets[0][0])]
    for i, (_, frame) in enumerate(packets):
        parts += [struct.pack(order + "IIII", 1700000000 + i, i, len(frame), len(frame)), frame]
    return b"".join(parts)


def block(order: str, kind: int, body: bytes) -> bytes:
    """Return a pcapng block, its body padded."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def pcapng(order: str, packets: list[tuple[int, bytes]]) -> bytes:
    """Return a section with two interfaces and each packet in every kind of block."""
    section = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    parts = [block(order, 0x0A0D0D0A, section)]
    for resolution in (b"\x06", b"\x89"):
        face = struct.pack(order + "HHI", packets[0][0], 0, 65535)
        face += option(order, 9, resolution) + option(order, 14, bytes(8)) + option(order, 0, b"")
        parts.append(block(order, 1, face))
    parts.append(block(order, 5, bytes(12)))
    for i, (_, frame) in enumerate(packets):
        sizes = struct.pack(order + "IIII", 0x60000, i, len(frame), len(frame))
        padded = frame + bytes(-len(frame) % 4)
        flags = option(order, 2, struct.pack(order + "I", 2)) + option(order, 0, b"")
        parts.append(block(order, 6, struct.pack(order + "I", i % 3) + sizes + padded + flags))
        parts.append(block(order, 2, struct.pack(order + "HH", i % 2, 0) + sizes + padded))
        parts.append(block(order, 3, struct.pack(order + "I", len(frame)) + frame))
    return b"".join(parts)


def seeds() -> Iterator[bytes]:
    packets = [(linktype, frame) for linktype, frame in catalogue() if linktype == 1][::6]
    for order in "<>":
        for magic in (0xA1B2C3D4, 0xA1B23C4D):
            yield b"\x1f\x02" + pcap(order, magic, packets)
        yield b"\x0b\x06" + pcapng(order, packets)
        yield b"\x0b\x00" + pcapng(order, packets[:1]) + pcapng("<", packets[:1])
