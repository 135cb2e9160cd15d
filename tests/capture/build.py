"""Frames in, bytes of capture files out: every variant of pcap and pcapng, right or wrong."""

import struct
from collections.abc import Iterable

LITTLE, BIG = "<", ">"
SECTION, INTERFACE, PACKET, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
INBOUND, OUTBOUND = 1, 2


def pcap_header(
    order: str = LITTLE, *, nano: bool = False, linktype: int = 1, version: tuple[int, int] = (2, 4)
) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, 262144, linktype)


def pcap_record(
    frame: bytes,
    order: str = LITTLE,
    *,
    at: tuple[int, int] = (1, 2),
    caplen: int | None = None,
    wirelen: int | None = None,
) -> bytes:
    """`at`: seconds, and micro- or nanoseconds."""
    caplen = len(frame) if caplen is None else caplen
    wirelen = len(frame) if wirelen is None else wirelen
    return struct.pack(order + "IIII", *at, caplen, wirelen) + frame


def pcap(frames: Iterable[bytes], order: str = LITTLE, *, linktype: int = 1) -> bytes:
    records = (pcap_record(f, order, at=(i, i)) for i, f in enumerate(frames, 1))
    return pcap_header(order, linktype=linktype) + b"".join(records)


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def option(code: int, value: bytes, order: str = LITTLE) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + pad(value)


def block(kind: int, body: bytes, order: str = LITTLE) -> bytes:
    body = pad(body)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = LITTLE) -> bytes:
    return block(SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    linktype: int = 1, order: str = LITTLE, *, snaplen: int = 0, options: bytes = b""
) -> bytes:
    return block(INTERFACE, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def resolution(value: int, order: str = LITTLE) -> bytes:
    """if_tsresol"""
    return option(9, bytes([value]), order)


def seconds_offset(value: int, order: str = LITTLE) -> bytes:
    """if_tsoffset"""
    return option(14, struct.pack(order + "q", value), order)


def enhanced(
    frame: bytes,
    order: str = LITTLE,
    *,
    ticks: int = 0,
    face: int = 0,
    caplen: int | None = None,
    options: bytes = b"",
) -> bytes:
    caplen = len(frame) if caplen is None else caplen
    head = struct.pack(order + "IIIII", face, ticks >> 32, ticks & 0xFFFFFFFF, caplen, len(frame))
    return block(ENHANCED, head + pad(frame) + options, order)


def direction(which: int, order: str = LITTLE) -> bytes:
    """epb_flags"""
    return option(2, struct.pack(order + "I", which | 0x1C), order)


def simple(frame: bytes, order: str = LITTLE, *, wirelen: int | None = None) -> bytes:
    wirelen = len(frame) if wirelen is None else wirelen
    return block(SIMPLE, struct.pack(order + "I", wirelen) + frame, order)


def obsolete(frame: bytes, order: str = LITTLE, *, ticks: int = 0, face: int = 0) -> bytes:
    head = struct.pack(
        order + "HHIIII", face, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(PACKET, head + frame, order)


def pcapng(frames: Iterable[bytes], order: str = LITTLE, *, linktype: int = 1) -> bytes:
    blocks = (enhanced(f, order, ticks=i) for i, f in enumerate(frames))
    return section(order) + interface(linktype, order) + b"".join(blocks)
