"""Who is at which port: learned within bounds, whatever is forged."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.monitor.discovery import frames
from ids_appliance.monitor.learning import MOVE_PAUSE_S, Addresses, Lesson


def mac(number: int) -> bytes:
    return b"\2\0" + number.to_bytes(4, "big")


def test_an_address_is_learned_moves_and_is_forgotten() -> None:
    table = Addresses()
    assert table.see(mac(1), 1, now_s=0.0) is Lesson.NEW
    assert table.see(mac(1), 1, now_s=0.1) is Lesson.KNOWN
    assert table.see(mac(1), 2, now_s=0.2) is Lesson.HELD
    assert table.see(mac(1), 2, now_s=MOVE_PAUSE_S) is Lesson.MOVED
    assert not table.forget(mac(1), 1) and table.forget(mac(1), 2)
    assert len(table) == 0 and table.see(mac(1), 1, now_s=9.0) is Lesson.NEW


@pytest.mark.parametrize("text", ["010203040506", "ffffffffffff", "000000000000", "0203"])
def test_nobody_sends_from_a_group(text: str) -> None:
    assert Addresses().see(bytes.fromhex(text), 1, now_s=0.0) is Lesson.NOBODY


def test_a_flood_of_forged_addresses_fills_its_port_only() -> None:
    table = Addresses(most=100, per_port=10)
    lessons = [table.see(mac(n), 1, now_s=n / 1000) for n in range(5000)]
    assert (lessons.count(Lesson.NEW), lessons.count(Lesson.FULL)) == (10, 4990)
    assert table.see(mac(9999), 2, now_s=6.0) is Lesson.NEW
    for port in range(3, 20):
        for n in range(10):
            table.see(mac(10_000 + 100 * port + n), port, now_s=7.0)
    assert len(table) == 100
    # A full table has room for whoever is known already and moves.
    assert table.see(mac(9999), 30, now_s=60.0) is Lesson.MOVED


def test_a_port_that_goes_takes_its_addresses_along() -> None:
    table = Addresses(per_port=2)
    for n, port in ((1, 1), (2, 1), (3, 2)):
        table.see(mac(n), port, now_s=0.0)
    assert sorted(table.forget_port(1)) == [mac(1), mac(2)] and len(table) == 1
    assert table.see(mac(4), 1, now_s=0.0) is Lesson.NEW


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30))
def test_books_are_kept_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    table = Addresses(most=12, per_port=5)
    truth: dict[bytes, int] = {}
    now = 0.0
    for _ in range(300):
        now += chance.random()
        who, port = mac(chance.randrange(25)), chance.randrange(5)
        if chance.random() < 0.7:
            if table.see(who, port, now_s=now) in (Lesson.NEW, Lesson.MOVED):
                truth[who] = port
        elif chance.random() < 0.8:
            assert table.forget(who, port) == (truth.get(who) == port)
            if truth.get(who) == port:
                del truth[who]
        else:
            gone = table.forget_port(port)
            assert sorted(gone) == sorted(m for m, p in truth.items() if p == port)
            truth = {m: p for m, p in truth.items() if p != port}
        assert len(table) == len(truth) <= 12
        assert all(sum(p == q for q in truth.values()) <= 5 for p in range(5))


def test_discovery_frames_are_what_other_controllers_send() -> None:
    lldp, bddp = frames(0x0000AABBCCDDEEFF, 7, everybody=True)
    assert lldp[:6].hex(":") == "01:80:c2:00:00:0e" and lldp[12:14] == b"\x88\xcc"
    assert bddp[:6] == b"\xff" * 6 and bddp[12:14] == b"\x89\x42"
    assert lldp[14:] == bddp[14:] and len(lldp) == 60 and not lldp[6] & 1
    # Chassis id, port id, time to live, end (IEEE 802.1AB 8.5).
    chassis = b"\x07of:0000aabbccddeeff"
    told = bytes([2, len(chassis)]) + chassis + b"\4\2\x077" + b"\6\2\0\x78" + b"\0\0"
    assert lldp[14:].rstrip(b"\0") == told.rstrip(b"\0")
    assert frames(1, 1, everybody=False) == [frames(1, 1, everybody=True)[0]]
