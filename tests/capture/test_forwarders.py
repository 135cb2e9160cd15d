"""Who is a router in a capture: what goes both ways through one MAC."""

from ids_appliance.capture import forwarders as module
from ids_appliance.capture.forwarders import forwarders
from ids_appliance.types import FrameBatch
from tests.ext import frames as f

ROUTER, DEVICE, OTHER = (bytes([2, 0, 0, 0, 1, i]) for i in range(3))
HOME = bytes([192, 168, 1, 5])


def frame(source, target, source_ip, target_ip):
    head = bytearray(f.ethernet(f.ipv4(f.tcp())))
    head[0:6], head[6:12] = target, source
    head[26:30], head[30:34] = source_ip, target_ip
    return bytes(head)


def claim(mac, address):
    return (
        f.ethernet(f.arp(source=address, mac=mac), f.ARP)[:6]
        + mac
        + f.ethernet(f.arp(source=address, mac=mac), f.ARP)[12:]
    )


def world(i):
    return bytes([203, 0, 113, i])


def there_and_back(i, router=ROUTER):
    return [frame(DEVICE, router, HOME, world(i)), frame(router, DEVICE, world(i), HOME)]


def found(*frames):
    return forwarders([FrameBatch(*f.records(list(frames)))])


def test_two_addresses_both_ways_make_a_router():
    assert found(*there_and_back(1), *there_and_back(2)) == [ROUTER]


def test_one_is_not_enough():
    assert found(*there_and_back(1), *there_and_back(1)) == []


def test_forged_sources_make_no_router():
    assert found(*(frame(OTHER, DEVICE, world(i), HOME) for i in range(50))) == []


def test_private_addresses_do_not_count():
    pairs = [
        (frame(OTHER, DEVICE, a, HOME), frame(DEVICE, OTHER, HOME, a))
        for a in (bytes([10, 0, 0, i]) for i in range(9))
    ]
    assert found(*(x for pair in pairs for x in pair)) == []


def test_who_claims_several_addresses_is_none():
    relayed = [*there_and_back(1, OTHER), *there_and_back(2, OTHER)]
    claims = [claim(OTHER, bytes([192, 168, 1, i])) for i in (1, 5)]
    assert found(*relayed, *claims) == []
    assert found(*relayed, claims[0]) == [OTHER]


def test_short_frames_and_other_links_are_passed_over():
    short = there_and_back(1)[0][:33]
    data, table = f.records([short, *there_and_back(1), *there_and_back(2)], f.RAW)
    assert forwarders([FrameBatch(data, table)]) == []
    assert found(short, b"", *there_and_back(1), *there_and_back(2)) == [ROUTER]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    many = [x for i in range(40) for x in there_and_back(i)]
    assert found(*many) == [ROUTER]
