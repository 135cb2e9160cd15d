"""The closed window's socket filter: in a BPF machine here, and in the kernel's own."""

import ctypes
import random
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.trigger import filter as closed_window
from ids_appliance.trigger.filter import CLOSED, OPEN, assemble
from tests.ext import frames as f
from tests.ext import traffic as t
from tests.ext.traffic import DEVICES, Story
from tests.reference import packet as twin
from tests.trigger import bpf

ETHERNET, NONE, LOOPBACK = 1, 65534, 772
A, B = DEVICES[0][1], DEVICES[1][1]
A6, B6 = DEVICES[0][2], DEVICES[1][2]
MAC = DEVICES[0][0]


def wanted(frame: bytes, hardware: int) -> bool:
    """Say by the page what the rules need: written without looking at the program."""
    if hardware == NONE:
        kind = {4: twin.IPV4, 6: twin.IPV6}.get(frame[0] >> 4, 0) if frame else 0
        p = frame
    else:
        at = 12
        while at < 20 and frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
            at += 4
        kind, p = int.from_bytes(frame[at : at + 2], "big"), frame[at + 2 :]
        if len(frame) < at + 2:
            return False
    if kind == twin.ARP:
        return True
    version = {twin.IPV4: 4, twin.IPV6: 6}.get(kind)
    if version == 4:
        if len(p) < 10 or int.from_bytes(p[6:8], "big") & 0x1FFF:
            return False
        if p[9] == 6 and p[6] & 0x20:
            return True
        proto, header = p[9], (p[0] & 15) * 4
        length = int.from_bytes(p[2:4], "big") - header
        always = proto == 1
    elif version == 6:
        if len(p) < 7:
            return False
        proto, header, length = p[6], 40, int.from_bytes(p[4:6], "big")
        always = proto == 58 or proto in twin.EXTENSIONS
    else:
        return False
    if always:
        return True
    segment = p[header:]
    ports = [int.from_bytes(segment[i : i + 2], "big") for i in (0, 2)]
    if proto == 17:
        if len(segment) >= 2 and ports[0] in (67, 68):
            return True
        return len(segment) >= 4 and ports[1] in (67, 68)
    if proto != 6 or len(segment) < 14:
        return False
    flags = segment[13]
    if flags & 7 or not flags & 16:
        return True
    return length == (segment[12] >> 4) * 4 and sum(ports) & 0x1E == 0


def mutate(rng: random.Random, frame: bytes) -> bytes:
    """Sometimes tag it, cut it short or change a byte of its headers."""
    if rng.randrange(4) == 0:
        tags = b"".join(
            rng.choice((b"\x81\x00", b"\x88\xa8")) + b"\0\x05" for _ in range(rng.randint(1, 3))
        )
        frame = frame[:12] + tags + frame[12:]
    if rng.randrange(4) == 0:
        frame = frame[: rng.randrange(len(frame) + 1)]
    if rng.randrange(3) == 0 and frame:
        data = bytearray(frame)
        data[rng.randrange(min(len(data), 60))] = rng.randrange(256)
        frame = bytes(data)
    return frame


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_program_passes_what_the_page_says(seed: int) -> None:
    rng = random.Random(seed)
    for sent in Story(rng.randrange).frames(60):
        frame = mutate(rng, sent.data)
        for hardware, data in ((ETHERNET, frame), (LOOPBACK, frame), (NONE, frame[14:])):
            assert bool(bpf.run(CLOSED, data, hardware)) == wanted(data, hardware), data.hex()
            assert bpf.run(OPEN, data, hardware)


def passes(packet: bytes, ethertype: int = 0x0800) -> bool:
    return bool(bpf.run(CLOSED, t.ethernet(MAC, packet, ethertype)))


def test_by_example() -> None:
    assert passes(t.arp(1, MAC, A, B), 0x0806)
    assert passes(t.ip(A, B, 1, t.echo(8, 1))) and passes(t.ip(A6, B6, 58, t.echo(128, 1)), 0x86DD)
    for flags in (2, 18, 1, 17, 4, 20, 0, 41, 8):
        assert passes(t.ip(A, B, 6, t.tcp((1, 2), flags, payload=b"x")))
    assert passes(t.ip(A, B, 17, t.udp((68, 67)))) and passes(t.ip(A, B, 17, t.udp((67, 68))))
    assert not passes(t.ip(A, B, 17, t.udp((5000, 53))))
    assert not passes(t.ip(A6, B6, 17, t.udp((5000, 53))), 0x86DD)
    assert not passes(t.ip(A, B, 6, t.tcp((32, 0), 16, payload=b"x")))
    assert not passes(t.ip(A, B, 47, b"x" * 40))
    assert not passes(b"x" * 40, 0x88CC)


def test_later_fragments_are_refused_and_extension_headers_pass() -> None:
    assert passes(f.ipv4(f.tcp(), fragment=0x2000)) and not passes(f.ipv4(f.tcp(), fragment=5))
    cut = f.ipv4(f.tcp()[:8], fragment=0x2000)  # ends before TCP's flags, and nobody pads it
    assert passes(cut) and bpf.run(CLOSED, cut, NONE)
    hops = f.extended((f.HOP, f.extension(f.UDP)), payload=t.udp((5, 6)))
    assert passes(hops, 0x86DD)


def test_one_flow_in_sixteen_the_same_both_ways() -> None:
    def bare(ports: tuple[int, int]) -> bool:
        return passes(t.ip(A, B, 6, t.tcp(ports, 16)))

    for service in (80, 443, 1883, 23):
        # Linux gives connecting sockets even ports, others any; each way one in sixteen.
        for step in (1, 2):
            ports = range(32768, 32768 + 4096 * step, step)
            chosen = [port for port in ports if bare((port, service))]
            assert len(chosen) == 4096 // 16
        assert all(bare((service, port)) == bare((port, service)) for port in range(40000, 40064))


def test_the_assembler_refuses_what_classic_bpf_has_not() -> None:
    assert assemble([("ja", 0, "end"), ("ret", 1), "end", ("ret", 2)])[0] == (5, 0, 0, 1)
    with pytest.raises(ValueError, match="no such instruction"):
        assemble([("call", 1)])
    with pytest.raises(ValueError, match="no such jump"):
        assemble([("jeq", 1, "nowhere")])
    with pytest.raises(ValueError, match="away"):
        assemble(["back", ("jeq", 1, "back")])
    with pytest.raises(ValueError, match="away"):
        assemble([("jeq", 1, "far"), *[("ret", 0)] * 256, "far", ("ret", 1)])


def test_the_kernel_agrees() -> None:
    # A socket pair has no interface, so the program's first steps, by the kind of link, are left
    # out; the rest runs on the frame as it is.
    program = assemble(closed_window._CLOSED[9:])
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with inside, outside:
        code = b"".join(struct.pack("HBBI", *one) for one in program)
        held = ctypes.create_string_buffer(code)
        inside.setsockopt(
            socket.SOL_SOCKET, 26, struct.pack("HL", len(program), ctypes.addressof(held))
        )
        inside.setblocking(False)
        rng = random.Random(8)
        for sent in Story(rng.randrange).frames(3000):
            frame = mutate(rng, sent.data)
            outside.send(frame)
            try:
                passed = inside.recv(4096) == frame
            except BlockingIOError:
                passed = False
            assert passed == bool(frame and wanted(frame, ETHERNET)), frame.hex()
