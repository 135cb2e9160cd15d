"""A drill's frames go to its victim only, and there is an end to them."""

import socket
import struct

import pytest

from ids_appliance.drill.frames import KINDS, MAX_FRAMES, MAX_PPS, End, Line, frames

ATTACKER = End(bytes.fromhex("021dd711000a"), bytes([198, 18, 213, 2]))
VICTIM = End(bytes.fromhex("021dd711000b"), bytes([198, 18, 213, 3]))
HOP = bytes.fromhex("021dd711000c")
LINE = Line(ATTACKER, VICTIM, HOP, VICTIM.address)


def checksum_is_right(data: bytes) -> bool:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_bounded_and_to_nobody_else(kind):
    assert kind.pps <= MAX_PPS and kind.count <= MAX_FRAMES
    sent = list(frames(kind, LINE))
    assert len(sent) == kind.count
    for frame in sent:
        assert frame[:12] == HOP + ATTACKER.mac and 60 <= len(frame) < 100
        if frame[12:14] == b"\x08\x00":
            assert frame[26:34] == ATTACKER.address + VICTIM.address
        else:
            assert frame[12:14] == b"\x08\x06" and frame[38:42] == VICTIM.address


@pytest.mark.parametrize("name", ["syn_burst", "scan", "odd_packets"])
def test_headers_are_whole(name):
    for frame in frames(KINDS[name], LINE):
        length = int.from_bytes(frame[16:18])
        ip, tcp = frame[14:34], frame[34 : 14 + length]
        assert checksum_is_right(ip)
        assert len(tcp) == tcp[12] >> 4 << 2
        pseudo = ip[12:20] + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(tcp))
        assert checksum_is_right(pseudo + tcp)


def test_a_conflict_is_a_question_and_a_claim_in_turn():
    question, claim = list(frames(KINDS["arp_conflict"], LINE))[:2]
    assert question[20:22] == b"\0\1" and question[28:32] == ATTACKER.address
    assert claim[20:22] == b"\0\2" and claim[22:32] == ATTACKER.mac + VICTIM.address
