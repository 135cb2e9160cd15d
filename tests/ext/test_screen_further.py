"""Each further rule of the prescreener at the count from which it convicts, and just below it."""

from typing import Any

import numpy as np
import pytest

from ids_appliance._screen import Screen
from ids_appliance.config import Trigger
from ids_appliance.trigger import embedded
from ids_appliance.types import SENDER
from tests.ext import traffic as t
from tests.ext.screening import Event, S, run
from tests.ext.test_screen import (
    ACK,
    ADDRESS,
    FIN,
    MAC,
    OTHER,
    PSH,
    RST,
    SYN,
    THIRD,
    THIRD_MAC,
    URG,
    claim,
    fired,
    name,
    scan,
    segment,
    sent,
    syns,
)
from tests.ext.traffic import Sent

SHIPPED = embedded.settings(Trigger())


def convicted(screen: Screen, frames: list[Sent]) -> list[Event]:
    return [event for event in fired(screen, frames) if event[6]]


def connections(count: int, at_s: float, *, every_s: float, answer: int = SYN) -> list[Sent]:
    """So many connections to one port, each with its answer."""
    frames = []
    for i in range(count):
        now, ports = at_s + i * every_s, (2000 + i, 80)
        frames.append(segment((ADDRESS, OTHER), ports, SYN, now, seq=5))
        frames.append(segment((OTHER, ADDRESS), ports[::-1], answer | ACK, now, seq=1, ack=6))
    return frames


def repeated(frames: list[Sent]) -> list[Event]:
    return [e for e in fired(Screen(SHIPPED), frames) if e[0] == "repeated_connections"]


def test_connections_to_one_port_are_looked_at_from_twenty_in_a_window_on() -> None:
    assert repeated(connections(19, 10, every_s=0.1)) == []
    (event,) = repeated(connections(20, 10, every_s=0.1))
    assert (event[3], event[4], event[6]) == (39, name(MAC), False)
    assert event[5].startswith("20 in 1.9 s: ") and event[5].endswith("-> 192.0.2.2:80/tcp")


def test_and_from_fifty_in_a_minute_on() -> None:
    assert repeated(connections(49, 60, every_s=1)) == []
    (event,) = repeated(connections(50, 60, every_s=1))
    assert event[2] == 109 * S and not event[6]


def test_a_hundred_in_a_minute_convict() -> None:
    # Whoever asks once a second, without keeping a connection, stays far below.
    assert convicted(Screen(SHIPPED), connections(99, 60, every_s=0.5)) == []
    (event,) = convicted(Screen(SHIPPED), connections(100, 60, every_s=0.5))
    assert event[0] == "repeated_connections" and event[2] == round(109.5 * S)
    (event,) = convicted(Screen(SHIPPED), connections(100, 60, every_s=0.01))
    assert event[2] == round(60.99 * S)


def test_what_is_refused_repeats_nothing() -> None:
    # A device without back-off whose service is gone is no flood, however fast it is.
    assert convicted(Screen(SHIPPED), connections(2000, 10, every_s=0.002, answer=RST)) == []


def test_a_flood_of_connections_that_nobody_answers_convicts() -> None:
    screen = Screen(SHIPPED)
    run(screen, syns(149))
    assert [e for e in screen.expire(14 * S) if e[6]] == []
    screen = Screen(SHIPPED)
    run(screen, syns(150))
    (event,) = [e for e in screen.expire(14 * S) if e[6]]
    assert event[0] == "failed_connections" and event[4] == name(MAC)


def test_what_convicts_is_not_held_down_by_what_only_opened_the_window() -> None:
    screen = Screen(SHIPPED)
    frames = [sent(MAC, t.ip(ADDRESS, OTHER, 1, t.echo(8, i)), 10 + i * 0.001) for i in range(500)]
    assert [(e[0], e[3], e[6]) for e in fired(screen, frames)] == [
        ("icmp_rate", 249, False),
        ("icmp_rate", 499, True),
    ]


def test_errors_are_answers_and_flood_nobody() -> None:
    asked = t.ip(OTHER, ADDRESS, 17, t.udp((4000, 9)))
    error = b"\x03\x03" + bytes(6) + asked
    frames = [sent(MAC, t.ip(ADDRESS, OTHER, 1, error), 10 + i * 0.001) for i in range(900)]
    assert fired(Screen(SHIPPED), frames) == []


def test_answers_to_nothing_convict_who_sends_most_of_them() -> None:
    frames = [segment((ADDRESS, OTHER), (80, 1000 + i), SYN | ACK, 10) for i in range(500)]
    assert [(e[0], e[3], e[6]) for e in fired(Screen(SHIPPED), frames)] == [
        ("unsolicited_answers", 49, False),
        ("unsolicited_answers", 499, True),
    ]


@pytest.mark.parametrize("flags", [0, ACK])
def test_the_victim_of_a_scan_goes_on_answering_when_the_scanner_is_contained(flags: int) -> None:
    screen = Screen(SHIPPED)
    screen.contain(np.frombuffer(name(MAC), SENDER))
    frames = []
    for i in range(600):
        frames.append(segment((ADDRESS, OTHER), (4000, 1 + i), flags, 10, seq=5))
        frames.append(segment((OTHER, ADDRESS), (1 + i, 4000), RST | ACK, 10))
    assert fired(screen, frames) == []


@pytest.mark.parametrize("flags", [0, FIN, FIN | PSH | URG, SYN | FIN, SYN | FIN | ACK, PSH])
def test_flags_that_nobody_sends_are_looked_at(flags: int) -> None:
    frames = [segment((ADDRESS, OTHER), (4000, 1 + i), flags, 10) for i in range(3)]
    assert "impossible_flags" not in {e[0] for e in fired(Screen(SHIPPED), frames[:2])}
    (event,) = [e for e in fired(Screen(SHIPPED), frames) if e[0] == "impossible_flags"]
    assert (event[3], event[4], event[6]) == (2, name(MAC), False)
    assert event[5].startswith("3 in 0.0 s: ")


def test_flags_of_every_ordinary_connection_are_not_looked_at() -> None:
    ordinary = (
        SYN,
        SYN | ACK,
        ACK,
        PSH | ACK,
        FIN | ACK,
        FIN | PSH | ACK,
        RST,
        RST | ACK,
        URG | ACK,
    )
    frames = [
        segment((ADDRESS, OTHER), (4000, 1 + i), flags, 10) for i, flags in enumerate(ordinary * 3)
    ]
    assert "impossible_flags" not in {e[0] for e in fired(Screen(SHIPPED), frames)}


def answers(count: int, at_s: float) -> list[Sent]:
    return [segment((ADDRESS, OTHER), (80, 1000 + i), SYN | ACK, at_s) for i in range(count)]


def test_frames_that_were_lost_are_no_reason_to_accuse_whose_answers_came() -> None:
    screen = Screen(SHIPPED)
    assert fired(screen, answers(49, 10)) == []
    screen.doubt()
    # Attempts that nobody answered, connections of which only the end is seen.
    ends = [segment((ADDRESS, THIRD), (80, 1000 + i), FIN | ACK, 40) for i in range(30)]
    silent = syns(150, at_s=20) + scan(19, 30) + ends
    assert fired(screen, silent + answers(1000, 70)) == []
    assert screen.expire(73 * S) == []
    # What is refused is certain.
    assert {e[0] for e in fired(screen, scan(10, 73, answer=RST))} == {"slow_scan"}
    assert [e[0] for e in fired(screen, answers(50, 74.1))] == ["unsolicited_answers"]


def test_exchanges_that_were_forgotten_accuse_nobody_either() -> None:
    """A flood fills the table; what a device still sends of what it had begun before is unknown."""
    numbers = SHIPPED | {"max_flows": 100, "dos_syns": 0, "mirai_hosts": 0, "slow_hosts": 0}
    screen = Screen(numbers | {"scan_ports": 0, "overflow": 0})
    held = [segment((ADDRESS, OTHER), (80, 1000 + i), FIN | ACK, 70 + i) for i in range(20)]
    assert "slow_scan" in {e[0] for e in fired(screen, held)}
    screen = Screen(numbers | {"scan_ports": 0, "overflow": 0})
    flood = [segment((OTHER, ADDRESS), (1 + i, 80), SYN, 65, seq=1) for i in range(200)]
    fired(screen, flood)
    assert fired(screen, [*held, *answers(900, 100)]) == []


def test_udp_to_everywhere_convicts() -> None:
    frames = [
        sent(MAC, t.ip(ADDRESS, OTHER, 17, t.udp((161, 1000 + i))), 10 + i * 0.001)
        for i in range(500)
    ]
    assert convicted(Screen(SHIPPED), frames[:499]) == []
    (event,) = convicted(Screen(SHIPPED), frames)
    assert event[0] == "udp_exchanges" and event[4] == name(MAC)


def test_a_sweep_by_arp_convicts() -> None:
    frames = [
        claim(MAC, ADDRESS, 10 + i * 0.01, op=1, to=bytes([192, 0, 2, 10 + i])) for i in range(64)
    ]
    assert convicted(Screen(SHIPPED), frames[:63]) == []
    (event,) = convicted(Screen(SHIPPED), frames)
    assert (event[0], event[4]) == ("arp_sweep", name(MAC)) and "64 addresses" in event[5]


def insisting(count: int, every_s: float, *, two: bool = True) -> list[Sent]:
    """Replies that nobody asked for, about one address or two."""
    held = [OTHER, THIRD if two else OTHER]
    return [
        claim(MAC, held[i % 2], 61 + i * every_s, to=bytes([192, 0, 2, 9])) for i in range(count)
    ]


def test_who_goes_on_claiming_two_addresses_is_cut_off() -> None:
    assert convicted(Screen(SHIPPED), insisting(9, 2)) == []
    (event,) = convicted(Screen(SHIPPED), insisting(10, 2))
    assert (event[0], event[4]) == ("arp_insistence", name(MAC)) and "2 addresses" in event[5]


def test_announcements_are_over_soon() -> None:
    # A standby router takes two addresses over, and says so ten times in eight seconds.
    assert convicted(Screen(SHIPPED), insisting(10, 0.8)) == []


def test_who_keeps_saying_where_it_is_may() -> None:
    assert convicted(Screen(SHIPPED), insisting(29, 2, two=False)) == []


def test_one_address_is_enough_where_another_held_it() -> None:
    screen = Screen(SHIPPED)
    fired(screen, [claim(THIRD_MAC, OTHER, 60, op=1)])
    assert [e[0] for e in convicted(screen, insisting(20, 2, two=False))] == ["arp_insistence"] * 4


def ports(count: int, at_s: float, *, every_s: float = 0.0, **more: Any) -> list[Sent]:
    """A device tries so many ports of another, and each answers with the flags of `answer`."""
    frames = []
    answer, flags = more.get("answer", RST | ACK), more.get("flags", SYN)
    for i in range(count):
        now, ends = at_s + i * every_s, (4000 + i, 1 + i)
        frames.append(segment((ADDRESS, OTHER), ends, flags, now, seq=5))
        if answer:
            frames.append(segment((OTHER, ADDRESS), ends[::-1], answer, now, seq=1, ack=6))
    return frames


def hosts(count: int, at_s: float, *, every_s: float = 0.0, **more: Any) -> list[Sent]:
    """A device tries one port of so many hosts, and each answers with the flags of `answer`."""
    frames = []
    answer, flags, port = more.get("answer", 0), more.get("flags", SYN), more.get("port", 23)
    for i in range(count):
        now, ends, host = at_s + i * every_s, (4000 + i, port), bytes([198, 51, 100, 1 + i])
        frames.append(segment((ADDRESS, host), ends, flags, now, seq=5))
        if answer:
            frames.append(segment((host, ADDRESS), ends[::-1], answer, now, seq=1, ack=6))
    return frames


def alone(frames: list[Sent], *, screen: Screen | None = None) -> list[tuple[str, str]]:
    """Who convicts once every attempt's fate is known: (rule, detail)."""
    screen = screen or Screen(SHIPPED)
    events = convicted(screen, frames)
    events += [e for e in screen.expire(frames[-1].time_ns + 2 * S) if e[6]]
    assert {e[4] for e in events} <= {name(MAC)}
    return [(e[0], e[5]) for e in events]


@pytest.mark.parametrize("answer", [RST | ACK, 0])
def test_a_hundred_and_twenty_eight_failed_ports_convict(answer: int) -> None:
    assert alone(ports(127, 10, answer=answer)) == []
    (first, second) = alone(ports(128, 10, answer=answer))
    assert first == ("port_scan", "128 of 128 ports of 192.0.2.2 failed in 0.0 s")
    assert second[0] == "slow_scan"


def test_and_in_a_minute_as_well() -> None:
    assert alone(ports(127, 60, every_s=0.4)) == []
    assert [rule for rule, _ in alone(ports(128, 60, every_s=0.4))] == ["slow_scan"]


def test_a_telephone_that_looks_what_a_new_device_can_do_does_not() -> None:
    # As the lab's does: 61 ports in three seconds, nearly all refused, and the same once more.
    once = ports(61, 60, every_s=0.05)
    assert alone([*once, *ports(61, 64, every_s=0.05), *ports(61, 70, every_s=0.05)]) == []


def test_ports_that_answered_once_have_not_failed() -> None:
    assert alone([*ports(20, 10, answer=SYN | ACK), *ports(147, 11)]) == []
    assert alone([*ports(20, 10, answer=SYN | ACK), *ports(148, 11)]) != []


def test_forty_hosts_that_fail_convict() -> None:
    assert alone(hosts(39, 10)) == []
    assert alone(hosts(40, 10)) == [("mirai", "connections to 40 of 40 hosts failed in 0.0 s")]
    assert alone(hosts(40, 10, answer=RST | ACK)) != []


def test_and_sixty_four_in_a_minute() -> None:
    assert alone(hosts(63, 60, every_s=0.5)) == []
    assert [rule for rule, _ in alone(hosts(64, 60, every_s=0.5))] == ["slow_scan"]


def test_hosts_that_answered_among_them_let_nobody_off() -> None:
    # Sixty-four are told apart; of what comes then, each that fails counts.
    answered = hosts(8, 60, answer=SYN | ACK)
    later = hosts(72, 60, every_s=0.5)[8:]
    assert alone([*answered, *later[:63]]) == []
    assert [rule for rule, _ in alone([*answered, *later])] == ["slow_scan"]


def test_a_hub_that_polls_many_devices_briefly_does_not() -> None:
    frames = []
    for i, frame in enumerate(hosts(60, 10, answer=SYN | ACK, port=80)):
        frames.append(frame)
        if i % 2:
            host = bytes([198, 51, 100, 1 + i // 2])
            ends = (4000 + i // 2, 80)
            frames.append(segment((ADDRESS, host), ends, RST | ACK, 10, seq=6, ack=2))
    assert alone(frames) == []


def test_what_may_have_begun_before_us_convicts_nobody() -> None:
    # A server that ends what it had open when the appliance was started.
    for flags in (ACK, FIN | ACK):
        assert alone(ports(200, 10, answer=0, flags=flags)) == []
        assert alone(hosts(64, 10, flags=flags)) == []


def test_what_was_perhaps_answered_convicts_nobody() -> None:
    for frames in (ports(200, 10, answer=0), hosts(64, 10)):
        screen = Screen(SHIPPED)
        fired(screen, ports(1, 9))
        screen.doubt()
        assert alone(frames, screen=screen) == []
    screen = Screen(SHIPPED)
    fired(screen, ports(1, 9))
    screen.doubt()
    assert alone(ports(200, 10), screen=screen) != []


def test_udp_of_which_answers_stayed_in_the_kernel_convicts_nobody() -> None:
    frames = [
        sent(MAC, t.ip(ADDRESS, OTHER, 17, t.udp((5353, 1 + i))), 10 + i * 0.01) for i in range(200)
    ]
    assert alone(frames) == []


def test_numbers_of_nought_convict_nobody() -> None:
    never = {name: 0 for name in SHIPPED if name.endswith("_alone")}
    for frames in (ports(300, 10), hosts(64, 10), ports(50, 10, flags=FIN, answer=0)):
        assert alone(frames, screen=Screen(SHIPPED | never)) == []


@pytest.mark.parametrize("flags", [0, FIN, FIN | PSH | URG, SYN | FIN])
def test_six_of_the_flags_that_nobody_sends_convict(flags: int) -> None:
    frames = [segment((ADDRESS, OTHER), (4000, 1 + i), flags, 10) for i in range(6)]
    assert convicted(Screen(SHIPPED), frames[:5]) == []
    (event,) = convicted(Screen(SHIPPED), frames)
    assert (event[0], event[3], event[4]) == ("impossible_flags", 5, name(MAC))
