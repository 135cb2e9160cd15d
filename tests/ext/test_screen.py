"""The compiled prescreener against its slow twin, and each rule at its threshold."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance._features import HostIdentity
from ids_appliance._screen import Screen
from ids_appliance.capture.file import CaptureFile
from ids_appliance.types import SENDER, Outcome, Standing
from tests.examples import examples
from tests.ext import traffic as t
from tests.ext.screening import (
    DEFAULTS,
    EVERYTHING,
    IDENTITY,
    SMALL,
    Event,
    S,
    batch,
    check,
    run,
)
from tests.ext.traffic import BEYOND, DEVICES, GATEWAY4, GATEWAY_MAC, Sent, Story
from tests.reference import packet
from tests.reference import screen as twin


def fired(screen: Screen, frames: list[Sent]) -> list[Event]:
    return run(screen, frames)[0]


@examples(150)
@given(seed=st.integers(0, 2**32), small=st.booleans())
def test_twin_agrees(seed: int, small: bool) -> None:
    rng = random.Random(seed)
    check(rng.randrange, SMALL if small else EVERYTHING, 400)


def test_the_stories_reach_every_rule() -> None:
    # What the comparison above never produces, it does not compare.
    rules: dict[str, int] = {}
    convicting = set()
    details = ""
    for seed in range(60):
        for event in check(random.Random(seed).randrange, SMALL, 400):
            rules[event[0]] = rules.get(event[0], 0) + 1
            convicting |= {event[0]} if event[6] else set()
            details += event[5] + "\n"
    assert set(rules) >= {
        "dos", "port_scan", "mirai", "arp_spoof", "slow_scan", "connection_rate", "udp_rate",
        "icmp_rate", "idle_connections", "unsolicited_answers", "failed_connections",
        "impossible_flags",
    } | (alone := {
        "repeated_connections", "udp_exchanges", "arp_sweep", "arp_insistence",
    })  # fmt: skip
    alone |= {"arp_spoof", "icmp_rate", "unsolicited_answers", "failed_connections"}
    alone |= {"port_scan", "mirai", "slow_scan", "impossible_flags"}
    assert convicting == alone
    for words in ("gateway's own", "still uses it", "third MAC", "changed hands", "nobody asked",
                  "by the configuration", "ICMP echo", "ARP requests"):  # fmt: skip
        assert words in details, words


# --- each rule at its threshold -------------------------------------------------------------------

MAC, ADDRESS, ADDRESS6 = DEVICES[0]
OTHER_MAC, OTHER, _ = DEVICES[1]
THIRD_MAC, THIRD, _ = DEVICES[2]
WAN = BEYOND[0][0]
SYN, ACK, RST, FIN, PSH, URG = 2, 16, 4, 1, 8, 32


def sent(mac: bytes, packet_: bytes, at_s: float, ethertype: int = 0x0800) -> Sent:
    leaving = 4 if mac == GATEWAY_MAC else 0
    return Sent(t.ethernet(mac, packet_, ethertype), round(at_s * S), leaving)


def segment(
    way: tuple[bytes, bytes], ports: tuple[int, int], flags: int, at_s: float, **more: Any
) -> Sent:
    """A TCP segment from the device that has the address, else through the gateway."""
    mac = {d[1]: d[0] for d in DEVICES}.get(way[0], GATEWAY_MAC)
    return sent(mac, t.ip(*way, 6, t.tcp(ports, flags, **more)), at_s)


def claim(mac: bytes, address: bytes, at_s: float, *, op: int = 2, to: bytes = OTHER) -> Sent:
    return sent(mac, t.arp(op, mac, address, to), at_s, 0x0806)


def name(mac: bytes) -> bytes:
    return twin.record((0, 0, 3, mac, b""))


def screen_of(**changed: float) -> Screen:
    return Screen(DEFAULTS | changed)


def syns(n: int, *, sources: int = 1, at_s: float = 10.0, mac: bytes = MAC) -> list[Sent]:
    frames = []
    for i in range(n):
        source = bytes([203, 0, 113 + i % sources // 250, 1 + i % sources % 250])
        if sources == 1:
            source = ADDRESS
        body = t.tcp((1024 + i, 80), SYN, seq=i)
        frames.append(sent(mac, t.ip(source, OTHER, 6, body), at_s + i * 0.001))
    return frames


def test_dos_fires_at_the_five_hundredth_syn_and_names_the_mac() -> None:
    for sources in (1, 500):  # whatever addresses it forges
        screen = screen_of()
        assert fired(screen, syns(499, sources=sources)) == []
        (event,) = fired(screen, syns(500, sources=sources, at_s=10.5)[499:])
        assert event[:2] == ("dos", "192.0.2.2:80") and event[4] == name(MAC)
        assert event[5] == "500 SYNs to 192.0.2.2:80 in 1.0 s, 0 handshakes"


def test_dos_does_not_add_up_two_windows() -> None:
    screen = screen_of()
    assert fired(screen, syns(400, at_s=4.5)) == []  # 10 s is a border
    assert fired(screen, syns(400, at_s=9.61)) == []


def test_dos_from_many_beyond_is_a_flood_with_a_number() -> None:
    screen = screen_of()
    events, marks, standings = run(screen, syns(600, sources=600, mac=GATEWAY_MAC))
    record = twin.record((2, 4, 80, b"", OTHER))
    assert [(e[0], e[3], e[4]) for e in events] == [("dos", 499, record)]
    assert standings == [0] * 499 + [1 << 4] * 101
    assert screen.floods() == [(1, record)]
    screen.contain(np.frombuffer(record, SENDER))
    _, marks, standings = run(screen, syns(10, sources=600, at_s=11, mac=GATEWAY_MAC))
    assert set(marks) == {Outcome.CONTAINED} and set(standings) == {0}
    screen.contain(np.zeros(0, SENDER))
    screen.close_window()
    assert run(screen, syns(1, sources=600, at_s=12, mac=GATEWAY_MAC))[2] == [0]


def test_dos_rests_where_handshakes_complete() -> None:
    for part, fires in ((4, False), (6, True)):  # every fourth, every sixth
        frames = []
        for i, syn in enumerate(syns(520)):
            frames.append(syn)
            at_s, ports = syn.time_ns / S, (1024 + i, 80)
            if i % part == 0:
                way = (OTHER, ADDRESS)
                frames += [
                    segment(way, ports[::-1], SYN | ACK, at_s, seq=7, ack=i + 1),
                    segment(way[::-1], ports, ACK, at_s, seq=i + 1, ack=8),
                ]
        assert bool([e for e in fired(screen_of(), frames) if e[0] == "dos"]) == fires


def handshake(way: tuple[bytes, bytes], port: int, at_s: float, *, last: bool = True) -> list[Sent]:
    frames = [
        segment(way, (port, 443), SYN, at_s, seq=9),
        segment(way[::-1], (443, port), SYN | ACK, at_s, seq=70, ack=10),
    ]
    return frames + [segment(way, (port, 443), ACK, at_s, seq=10, ack=71)] * last


def test_standing_of_those_beyond() -> None:
    screen = screen_of()
    peer = twin.record((1, 4, 0, b"", WAN))
    _, _, standings = run(screen, handshake((WAN, ADDRESS), 5000, 1, last=False))
    assert standings == [0, Standing.ANSWER] and screen.peers(peer) == 0
    _, _, standings = run(screen, [segment((WAN, ADDRESS), (5000, 443), ACK, 1.1, seq=10, ack=71)])
    assert standings == [Standing.PROVEN] and screen.peers(peer) == Standing.PROVEN
    # The address is proven; what begins something in its name shows nothing.
    begins = [segment((WAN, ADDRESS), (6000, 80), SYN, 1.2, seq=1)]
    begins += [segment((WAN, ADDRESS), (6001, 80), FIN, 1.2, seq=1)]
    begins += [sent(GATEWAY_MAC, t.ip(WAN, ADDRESS, 17, t.udp((6002, 80), b"?")), 1.2)]
    assert run(screen, begins)[2] == [0, 0, 0] and screen.peers(peer) == Standing.PROVEN
    more = segment((WAN, ADDRESS), (5000, 443), ACK, 1.3, seq=10, ack=71, payload=b"more")
    assert run(screen, [more])[2] == [Standing.PROVEN]
    forged = [segment((BEYOND[1][0], ADDRESS), (5000, 443), ACK, 1.1, seq=10, ack=71)]
    assert run(screen, forged)[2] == [0]
    run(screen, handshake((ADDRESS, BEYOND[2][0]), 5001, 2))
    called = Standing.PROVEN | Standing.CALLED
    assert screen.peers(twin.record((1, 4, 0, b"", BEYOND[2][0]))) == called
    screen.expire(3700 * S)
    assert screen.peers(peer) == 0


def test_what_the_gateway_itself_asks_is_answered() -> None:
    screen = screen_of()
    ask = sent(GATEWAY_MAC, t.arp(1, GATEWAY_MAC, GATEWAY4, ADDRESS), 1, 0x0806)
    answer = claim(MAC, ADDRESS, 1.1, to=GATEWAY4)
    _, marks, standings = run(screen, [ask, answer])
    assert marks == [Outcome.OWN, Outcome.WAITING] and standings == [0, Standing.ANSWER]
    query = sent(MAC, t.ip(ADDRESS, GATEWAY4, 17, t.udp((5000, 53), b"?")), 2)
    reply = sent(GATEWAY_MAC, t.ip(GATEWAY4, ADDRESS, 17, t.udp((53, 5000), b"!")), 2.1)
    run(screen, [query, reply])
    screen.expire(9 * S)
    assert screen.counters()["keys_port_scan"] == 0  # else: a failed attempt


def scan(ports: int, at_s: float, *, answer: int = 0) -> list[Sent]:
    """SYNs to so many ports; `answer`: flags of what comes back to each."""
    frames = []
    for port in range(1, ports + 1):
        now = at_s + port * 0.01
        frames.append(segment((ADDRESS, OTHER), (4000, port), SYN, now, seq=5))
        if answer:
            back = segment((OTHER, ADDRESS), (port, 4000), answer | ACK, now, seq=1, ack=6)
            frames.append(back)
    return frames


def test_port_scan_fires_when_the_twentieth_port_has_failed() -> None:
    screen = screen_of()
    assert fired(screen, scan(19, 10, answer=RST)) == []
    screen = screen_of()
    (event,) = fired(screen, scan(20, 10, answer=RST))
    assert event[3] == 39 and event[4] == name(MAC)
    assert event[5] == "20 ports of 192.0.2.2 in 0.2 s, 20 failed"
    assert fired(screen_of(), scan(30, 10, answer=SYN)) == []


def test_port_scan_without_answers_fires_in_silence() -> None:
    screen = screen_of()
    assert fired(screen, scan(20, 10)) == []
    assert screen.expire(11_199_000_000) == []
    (event,) = screen.expire(11_200_000_000)
    assert event[0] == "port_scan" and event[2] == 11_200_000_000


@pytest.mark.parametrize("flags", [0, FIN, 41, ACK])
def test_port_scan_by_bare_flags_and_udp(flags: int) -> None:
    frames = [segment((ADDRESS, OTHER), (4000, p), flags, 10 + p / 100) for p in range(1, 21)]
    screen = screen_of()
    assert fired(screen, frames) == []
    assert [e[0] for e in screen.expire(12 * S)] == ["port_scan"]
    screen = screen_of()
    for p in range(1, 21):
        ask = t.ip(ADDRESS, OTHER, 17, t.udp((4000, p)))
        refused = t.ip(OTHER, ADDRESS, 1, b"\x03\x03" + bytes(6) + ask)
        events, _, standings = run(
            screen, [sent(MAC, ask, 20 + p / 100), sent(OTHER_MAC, refused, 20 + p / 100)]
        )
        assert standings == [0, Standing.ANSWER] if p < 20 else True
    assert [e[0] for e in events] == ["port_scan"]


def test_mirai_counts_hosts_that_fail() -> None:
    frames = [
        segment((ADDRESS, bytes([198, 18, 0, h])), (4000 + h, 23), SYN, 10 + h / 100)
        for h in range(1, 21)
    ]
    screen = screen_of()
    assert fired(screen, frames) == []
    assert [(e[0], e[4]) for e in screen.expire(12 * S)] == [("mirai", name(MAC))]


def test_mirai_cues_and_discovery() -> None:
    echoes = [
        sent(MAC, t.ip(ADDRESS, bytes([198, 18, 0, h]), 1, t.echo(8, 1)), 10) for h in range(20)
    ]
    assert [e[3] for e in fired(screen_of(), echoes)] == [19]
    asks = [
        sent(MAC, t.arp(1, MAC, ADDRESS, bytes([192, 0, 2, 100 + h])), 10, 0x0806)
        for h in range(30)
    ]
    assert [e[3] for e in fired(screen_of(), asks)] == [29]
    groups = [
        sent(MAC, t.ip(ADDRESS, bytes([239, 0, 0, h]), 17, t.udp((5353, 5353))), 10)
        for h in range(100)
    ]
    screen = screen_of()
    assert fired(screen, groups) == [] and screen.expire(15 * S) == []


def test_a_responder_of_discovery_scans_nobody() -> None:
    # Thirty devices ask a group; one answers each of them, at their port, and hears no more.
    screen = screen_of()
    frames = []
    for h in range(30):
        asker = bytes([192, 0, 2, 100 + h])
        mac = bytes([2, 1, 0, 0, 0, h])
        query = t.ip(asker, t.GROUP4, 17, t.udp((5353, 5353)))
        frames.append(sent(mac, query, 10 + h / 100))
        frames.append(sent(MAC, t.ip(ADDRESS, asker, 17, t.udp((5353, 5353))), 10 + h / 100))
    assert fired(screen, frames) == [] and screen.expire(15 * S) == []


def test_twenty_brief_connections_need_a_filter_that_shows_them() -> None:
    for hidden, fires in ((False, True), (True, False)):
        screen = screen_of()
        screen.set_sampling(hidden)
        frames = []
        for h in range(1, 25):
            frames += handshake((ADDRESS, bytes([198, 18, 0, h])), 5000 + h, 11 + h / 100)
        events = fired(screen, frames) + screen.expire(14 * S)
        assert [e[0] for e in events] == ["mirai"] * fires


# --- ARP ------------------------------------------------------------------------------------------


def test_arp_weighs_nothing() -> None:
    # To a forest all ARP is one record; weighed, a sweep by ARP made its sender look ordinary.
    _, marks, standings = run(screen_of(), [claim(MAC, ADDRESS, 1, op=op) for op in (1, 2, 9)])
    assert marks == [6, 6, 6] and [bits & 1 for bits in standings] == [1, 1, 1]


def test_a_changed_mac_alone_is_never_decisive() -> None:
    screen = screen_of()
    frames = [claim(MAC, ADDRESS, 1, op=1)]
    frames += [claim(THIRD_MAC, ADDRESS, 10 + i, op=1) for i in range(100)]
    events = fired(screen, frames)
    assert [(e[0], e[4], e[6]) for e in events] == [("arp_spoof", name(THIRD_MAC), False)]


def test_decisive_once_the_old_mac_still_uses_its_address() -> None:
    screen = screen_of()
    packet_ = t.ip(ADDRESS, OTHER, 17, t.udp((1, 2)))
    frames = [claim(MAC, ADDRESS, 1, op=1), claim(THIRD_MAC, ADDRESS, 11)]
    frames.append(sent(MAC, packet_, 11.4))  # may have been under way when the card was changed
    assert [e[6] for e in fired(screen, frames)] == [False]
    (event,) = fired(screen, [sent(MAC, packet_, 11.6)])
    assert event[6] and event[4] == name(THIRD_MAC) and "still uses it" in event[5]
    assert screen.binding_of(ADDRESS)[1] == MAC


def test_who_lent_an_address_and_gives_it_back_is_not_accused() -> None:
    # A laptop's two network cards, or a pair of servers: minutes later the first one has it again.
    screen = screen_of()
    frames = [claim(MAC, ADDRESS, 1, op=1), claim(THIRD_MAC, ADDRESS, 11)]
    frames.append(sent(MAC, t.ip(ADDRESS, OTHER, 17, t.udp((1, 2))), 72))
    assert [e[6] for e in fired(screen, frames)] == [False]


def test_decisive_at_the_next_claim_where_the_old_mac_was_seen_in_between() -> None:
    screen = screen_of()
    old = sent(MAC, t.ip(ADDRESS, OTHER, 17, t.udp((1, 2))), 11.3)
    frames = [claim(MAC, ADDRESS, 1, op=1), claim(THIRD_MAC, ADDRESS, 11), old]
    assert [e[6] for e in fired(screen, frames)] == [False]
    (event,) = fired(screen, [claim(THIRD_MAC, ADDRESS, 11.4)])
    assert event[6] and event[4] == name(THIRD_MAC) and "still uses it" in event[5]
    assert screen.binding_of(ADDRESS)[1] == MAC


def test_who_was_here_first_by_unsolicited_replies_is_not_believed() -> None:
    # The forger poisons before the appliance starts; the owner answers when it is asked.
    screen = screen_of()
    frames = [claim(THIRD_MAC, ADDRESS, 1 + i) for i in range(3)]
    frames.append(sent(OTHER_MAC, t.arp(1, OTHER_MAC, OTHER, ADDRESS), 5, 0x0806))
    frames.append(claim(MAC, ADDRESS, 5.1))
    (event,) = fired(screen, frames)
    assert event[4] is None and not event[6] and "was claimed by" in event[5]
    assert screen.binding_of(ADDRESS)[1] == MAC
    events = []
    for i in range(20):
        packet_ = t.ip(ADDRESS, OTHER, 17, t.udp((1, 2)))
        events += fired(
            screen, [claim(THIRD_MAC, ADDRESS, 7 + 2 * i), sent(MAC, packet_, 8 + 2 * i)]
        )
    assert {(e[4], e[6]) for e in events} == {(name(THIRD_MAC), False)}


def test_a_forger_by_requests_is_named_but_not_decisively() -> None:
    screen = screen_of()
    run(screen, [claim(MAC, ADDRESS, 1, op=1)])
    events = []
    for i in range(10):
        events += fired(
            screen, [claim(THIRD_MAC, ADDRESS, 2 + i, op=1), claim(MAC, ADDRESS, 2.5 + i)]
        )
    assert {(e[4], e[6]) for e in events} >= {(name(THIRD_MAC), False)}
    assert not [e for e in events if e[6] or (e[4] == name(MAC) and "ARP replies" not in e[5])]


def test_the_owner_that_comes_back_is_not_the_culprit() -> None:
    # Idle for half an hour while another claimed its address: its own claims accuse nobody.
    screen = screen_of()
    run(screen, [claim(MAC, ADDRESS, 1, op=1)])
    run(screen, [claim(THIRD_MAC, ADDRESS, 100 + i, op=1) for i in range(1500)])
    events = fired(screen, [claim(MAC, ADDRESS, 1700 + i, op=1) for i in range(5)])
    assert [e for e in events if e[4] == name(MAC)] == []


def test_certain_bindings_are_decisive_at_once() -> None:
    screen = Screen(DEFAULTS, bindings=[(OTHER, OTHER_MAC)])
    (event,) = fired(screen, [claim(MAC, OTHER, 1, to=ADDRESS)])
    assert event[6] and "by the configuration" in event[5] and event[4] == name(MAC)
    (event,) = fired(screen, [claim(MAC, GATEWAY4, 2)])
    assert event[6] and "the gateway's own" in event[5] and event[4] == name(MAC)


def test_in_the_name_of_the_victim_nobody_is_named() -> None:
    screen = screen_of()
    run(screen, [claim(MAC, ADDRESS, 1, op=1)])
    forged = sent(MAC, t.arp(2, THIRD_MAC, ADDRESS, OTHER), 2, 0x0806)
    (event,) = fired(screen, [forged])
    assert event[4] is None and not event[6]
    screen = screen_of()
    run(screen, [claim(MAC, ADDRESS, 1, op=1)])
    forged = sent(OTHER_MAC, t.arp(2, THIRD_MAC, ADDRESS, OTHER), 2, 0x0806)
    (event,) = fired(screen, [forged])
    assert event[4] == name(OTHER_MAC) and event[6] and "third MAC" in event[5]


def test_without_a_mac_nobody_is_named_for_a_claim() -> None:
    screen = screen_of()
    run(screen, [claim(MAC, ADDRESS, 1, op=1)])
    forged = sent(bytes(6), t.arp(2, THIRD_MAC, ADDRESS, OTHER), 2, 0x0806)
    (event,) = fired(screen, [forged])
    assert event[4] is None and not event[6]


def test_unsolicited_replies() -> None:
    screen = screen_of()
    quiet = [claim(MAC, ADDRESS, 1 + i / 10) for i in range(9)]
    assert fired(screen, quiet) == []
    (event,) = fired(screen, [claim(MAC, ADDRESS, 2)])
    assert event[3] == 0 and "10 ARP replies" in event[5]


def lease(mac: bytes, address: bytes, at_s: float, seconds: int, server: bytes) -> Sent:
    source = GATEWAY4 if server == GATEWAY_MAC else THIRD
    body = t.dhcp_ack(address, mac, seconds)
    return sent(server, t.ip(source, address, 17, t.udp((67, 68), body)), at_s)


def test_leases() -> None:
    screen = screen_of()
    run(screen, [lease(MAC, ADDRESS, 1, 100, THIRD_MAC)])
    assert screen.binding_of(ADDRESS) == (ADDRESS, MAC, 3, 0, "dhcp")
    run(screen, [lease(OTHER_MAC, ADDRESS, 2, 100, THIRD_MAC)])  # anybody's: the holder keeps it
    assert screen.binding_of(ADDRESS)[1] == MAC
    run(screen, [lease(OTHER_MAC, ADDRESS, 3, 100, GATEWAY_MAC)])  # ours
    assert screen.binding_of(ADDRESS)[1] == OTHER_MAC
    screen.expire(104 * S)
    assert screen.binding_of(ADDRESS) is None and screen.bindings() == []


# --- marks, bounds, time --------------------------------------------------------------------------


def test_contained_senders_count_nowhere_but_their_answers_are_known() -> None:
    screen = screen_of()
    screen.contain(np.frombuffer(name(MAC), SENDER))
    frames = scan(40, 10, answer=RST)
    events, marks, standings = run(screen, frames)
    assert events == [] and marks == [Outcome.CONTAINED, Outcome.WAITING] * 40
    assert standings == [0, Standing.ANSWER] * 40
    assert screen.counters()["attempts_pending"] == 0


def test_suspects_until_the_window_closes() -> None:
    screen = screen_of()
    frames = scan(21, 10, answer=RST)
    _, _, standings = run(screen, frames)
    assert standings[40] == Standing.SUSPECT and standings[38] == 0
    screen.open_window()
    screen.name(name(OTHER_MAC))
    _, _, standings = run(screen, scan(1, 11, answer=RST))
    assert standings == [Standing.SUSPECT, Standing.SUSPECT | Standing.ANSWER]
    screen.close_window()
    assert run(screen, scan(1, 16, answer=RST))[2] == [0, Standing.ANSWER]


def test_full_tables_are_counted_and_told_once() -> None:
    screen = screen_of(max_flows=64, max_senders=16, max_keys=16, max_bindings=16)
    frames = []
    for i in range(400):
        mac, address = bytes([2, 9, 0, 0, i >> 8, i & 255]), bytes([10, 9, i >> 8, i & 255])
        now = 10 + i / 1000
        packet_ = t.ip(address, bytes([10, 8, 0, i & 255]), 6, t.tcp((1000, i), SYN))
        frames += [sent(mac, packet_, now), claim(mac, address, now, op=1)]
    events = fired(screen, frames) + screen.expire(12 * S)
    told = [e[1] for e in events if e[0] == "overflow"]
    assert sorted(told) == sorted(set(told))
    assert set(told) >= {"flows", "devices", "bindings", "dos", "port_scan", "mirai", "mirai_arp"}
    counters = screen.counters()
    assert counters["overflow_flows"] > 300 and counters["overflow_devices"] > 300
    assert counters["flows"] <= 64 and counters["devices"] == 16 and counters["bindings"] == 16


def test_a_flood_of_attempts_leaves_established_exchanges() -> None:
    screen = screen_of(max_flows=128)
    run(screen, handshake((ADDRESS, WAN), 5000, 1))
    run(screen, syns(2000, sources=500, at_s=10))
    answer = segment((WAN, ADDRESS), (443, 5000), ACK, 13, seq=71, ack=10)
    assert run(screen, [answer])[2][0] & Standing.ANSWER


def test_the_clock_may_jump() -> None:
    screen = screen_of()
    far = [claim(MAC, ADDRESS, when, op=1) for when in (0, 1, 1e9, 3.9e9, 4.1e9, 9e9, -5, 2e9, 1)]
    assert fired(screen, far) == []
    assert screen.counters()["clock_set_back"] == 2
    assert [e[3] for e in fired(screen, scan(20, 10, answer=RST))] == [39]
    late = scan(20, 6, answer=RST)  # a little out of order: no new window, no reset
    assert fired(screen, late) == []
    assert screen.counters()["clock_set_back"] == 2


def test_batches_of_any_size_and_expiry_at_any_time() -> None:
    frames = list(Story(random.Random(5).randrange).frames(600))
    frames.sort(key=lambda frame: frame.time_ns)
    whole = run(Screen(SMALL), frames)
    screen, events, marks, standings = Screen(SMALL), [], [], []
    rng, at = random.Random(6), 0
    while at < len(frames):
        size = rng.randint(1, 9)
        if rng.randrange(2):
            events += [(*e[:3], e[4:]) for e in screen.expire(frames[at].time_ns)]
        part = run(screen, frames[at : at + size])
        events += [(*e[:3], e[4:]) for e in part[0]]
        marks += part[1]
        standings += part[2]
        at += size
    assert events == [(*e[:3], e[4:]) for e in whole[0]]
    assert (marks, standings) == whole[1:]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scan_ports": 65},
        {"window_ns": 0},
        {"dos_handshake_ratio": 1.5},
        {"max_flows": 1},
        {"dos_syns": -1},
        {"no_such_setting": 1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Screen(DEFAULTS | wrong)


def test_a_source_that_lies_about_its_buffer_is_refused() -> None:
    data, table = batch([claim(MAC, ADDRESS, 1)])
    screen, marks = screen_of(), np.zeros(1, np.uint8)
    with pytest.raises(ValueError, match="outside"):
        screen.screen(data[:-1], table, IDENTITY, marks)
    with pytest.raises(ValueError, match="marks"):
        screen.screen(data, table, IDENTITY, marks[:0])
    with pytest.raises(ValueError, match="host"):
        screen.screen(data, table, IDENTITY[:-1], marks)
    for wrong in (table["number"].copy(), np.zeros(1, SENDER)):
        with pytest.raises(ValueError, match="FRAME"):
            screen.screen(data, wrong, IDENTITY, marks)
    with pytest.raises(ValueError, match="28 bytes"):
        screen.name(b"short")


# --- real captures --------------------------------------------------------------------------------

CAPTURES = (
    "chrissanders/nmap_syn_scan.pcap.gz",
    "pcaphunt/tcp_ack_scan.pcap.gz",
    "pcaphunt/udp_scan.pcap.gz",
    "pcaphunt/tcp_syn_ping_sweep.pcap.gz",
    "pcaphunt/arp_scan.pcap.gz",
    "padmavatisb/hping_syn_flood.pcap.gz",
    "sniperdz/arp_spoof_gateway.pcap.gz",
    "frowing33/arp_mitm.pcap.gz",
    "frowing33/dhcp_starvation.pcap.gz",
    "vincent4player/arp_mitm_docker.pcap.gz",
    "zeek_nmapvsn/nmap-vsn.pcap.gz",
    "allkahra_final/flood_01.pcap.gz",
    "suricata_ipv6/rsmurf6.pcap.gz",
    "ndpi_lab1/ethereum.pcap.gz",
)
FORGERS = {  # capture -> the MAC that forges, from the manifest
    "sniperdz/arp_spoof_gateway.pcap.gz": "b4:b6:86:fb:db:07",
    "frowing33/arp_spoof.pcap.gz": "08:00:27:9c:b3:fe",
    "frowing33/arp_mitm.pcap.gz": "08:00:27:9c:b3:fe",
    "vincent4player/arp_mitm_docker.pcap.gz": "02:42:ac:12:00:03",
}


def frames_of(path: Path) -> list[Sent]:
    found = []
    for read in CaptureFile(path).batches():
        if read is None:
            continue
        for f in read.frames:
            start = int(f["offset"])
            data = bytes(read.data[start : start + int(f["caplen"])])
            found.append(Sent(data, int(f["timestamp_ns"]), 255, int(f["linktype"]), 0))
    return found


@pytest.mark.data
@pytest.mark.parametrize("name_", CAPTURES)
def test_twin_agrees_on_captures(data_dir: Path, name_: str) -> None:
    path = data_dir / name_
    if not path.is_file():
        pytest.skip("not among the captures here")
    frames = frames_of(path)[:3000]
    foreign, nobody = HostIdentity().packed(), packet.Host()
    screen, slow, rng = Screen(DEFAULTS), twin.Screen(DEFAULTS), random.Random(name_)
    at = 0
    while at < len(frames):
        part = frames[at : at + rng.choice((1, 3, 17, 200))]
        at += len(part)
        data, table = batch(part)
        marks = np.zeros(len(part), np.uint8)
        events = screen.screen(data, table, foreign, marks)
        expected = []
        for i, f in enumerate(part):
            slow.index = i
            expected.append(slow.frame(f.data, f.linktype, 255, f.time_ns, 0, nobody))
        assert list(zip(marks.tolist(), table["standing"].tolist(), strict=True)) == expected
        assert events == slow.events
        slow.events = []
    screen.expire(frames[-1].time_ns + 10 * S)


@pytest.mark.data
@pytest.mark.parametrize("name_", FORGERS)
def test_the_forger_is_accused_and_not_the_owner(data_dir: Path, name_: str) -> None:
    path = data_dir / name_
    if not path.is_file():
        pytest.skip("not among the captures here")
    forger = twin.record((0, 0, 0, bytes.fromhex(FORGERS[name_].replace(":", "")), b""))
    frames = frames_of(path)
    data, table = batch(frames)
    marks = np.zeros(len(frames), np.uint8)
    events = Screen(DEFAULTS).screen(data, table, HostIdentity().packed(), marks)
    spoofs = [e for e in events if e[0] == "arp_spoof"]
    assert spoofs
    assert {e[4] for e in spoofs} <= {forger, None}


def forged_answers(*, target: int) -> list[Sent]:
    """Handshakes that a device has with itself, in the other end's name: 30 with ports from
    `target` on, or all with port 80 where that is 0."""
    frames = []
    for i in range(30):
        ports = (2000 + i, target + i if target else 80)
        for mine, flags, seq, ack in (
            (True, SYN, 100, 0), (False, SYN | ACK, 500, 101), (True, ACK, 101, 501)
        ):  # fmt: skip
            ends = (ADDRESS, OTHER) if mine else (OTHER, ADDRESS)
            body = t.tcp(ports if mine else ports[::-1], flags, seq=seq, ack=ack)
            frames.append(sent(MAC, t.ip(*ends, 6, body), 20 + i * 0.01))
    return frames


def test_who_answers_himself_was_not_answered() -> None:
    screen = screen_of()
    assert fired(screen, forged_answers(target=1)) == []
    assert [event[0] for event in screen.expire(22 * S)] == ["port_scan"]
    flood = fired(screen_of(dos_syns=30), forged_answers(target=0))
    assert [event[0] for event in flood] == ["dos"]


def test_no_packet_passes_for_an_answer_to_ones_own_question() -> None:
    asked = sent(MAC, t.ip(OTHER, ADDRESS, 17, t.udp((53, 4000))), 20.0)
    flood = [sent(MAC, t.ip(ADDRESS, OTHER, 17, t.udp((4000, 53))), 20.1 + i / 100) for i in (0, 1)]
    _, _, standings = run(screen_of(), [asked, *flood])
    assert standings == [0, 0, 0]
