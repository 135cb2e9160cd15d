"""Every edge case by name on both twins, then both twins against each other on anything at all."""

import ipaddress
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ids_appliance import _features
from ids_appliance.schema import COLUMNS, FEATURE_NAMES, FEATURES, N_COLUMNS, N_FEATURES
from ids_appliance.types import SENDER, Direction, Outcome
from tests.examples import examples
from tests.ext import frames as f
from tests.reference import packet as twin

NOBODY = _features.HostIdentity()
GUARDED = f.Guarded()
COUNTERS = len(_features.COUNTER_NAMES)
RAW_LINKS = tuple(twin.RAW_LINKS)
ARP_ROW = {"header_length": 28, "length": 28, "is_arp": 1}

Seen = tuple[list[int] | None, set[str]]
Parse = Callable[..., Seen]


def extract(
    frames: list[bytes],
    linktype: int = f.ETHERNET,
    *,
    direction: int = Direction.UNKNOWN,
    host: _features.HostIdentity = NOBODY,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """Return rows, senders, outcomes and counters of frames that lie end to end."""
    data, table = f.records(frames, linktype, direction=direction)
    n = len(frames)
    rows = np.full((n, N_COLUMNS), 7, np.uint16)  # what was there before must not shine through
    senders, outcomes = np.zeros(n, SENDER), np.full(n, 99, np.uint8)
    counters = np.zeros(COUNTERS, np.uint64)
    _features.extract(data, table, host, rows, senders, outcomes, counters)
    named = dict(zip(_features.COUNTER_NAMES, counters.tolist(), strict=True))
    return rows, senders, outcomes, named


def compiled(frame: bytes, linktype: int = f.ETHERNET) -> Seen:
    """One frame, with other bytes right behind it, as the twin would answer."""
    rows, _, outcomes, counters = extract([frame, b"\xff" * 80], linktype)
    _, _, _, behind = extract([b"\xff" * 80], linktype)
    raised = {name for name in twin.COUNTERS if counters[name] > behind[name]}
    return (rows[0].tolist() if outcomes[0] == Outcome.JUDGED else None), raised


@pytest.fixture(params=[compiled, twin.parse], ids=["compiled", "twin"])
def parse(request: pytest.FixtureRequest) -> Parse:
    return request.param


def shows(seen: Seen, *raised: str, **fields: int) -> None:
    """Assert the named columns and, exactly, the counters that went up."""
    row, counters = seen
    assert row is not None
    values = dict(zip((c.name for c in COLUMNS), row, strict=True))
    assert {name: values[name] for name in fields} == fields
    assert values["payload_len"] == max(0, values["length"] - values["header_length"])
    assert counters == set(raised)


def payload_of(seen: Seen) -> bytes:
    assert seen[0] is not None
    return bytes(seen[0][8:40])


def no_layer4(seen: Seen) -> None:
    row = seen[0]
    assert row is not None
    assert row[0:2] == [0, 0] and row[6] == 0 and not any(row[40:48]) and not any(row[52:60])


# --- one whole packet of each kind -----------------------------------------------------------


def test_schema_has_the_sixty_columns_in_order() -> None:
    assert N_FEATURES == 60
    assert [FEATURES[i].name for i in (0, 7, 8, 39, 40, 47, 48, 51, 52, 59)] == [
        "src_port",
        "payload_len",
        "payload_0",
        "payload_31",
        "syn_flag",
        "cwr_flag",
        "is_tcp",
        "is_arp",
        "is_dns",
        "is_telnet",
    ]


def test_addresses_are_octets_in_order_behind_the_sixty(parse: Parse) -> None:
    assert [c.name for c in COLUMNS[60:]] == [
        f"{end}_octet_{i}" for end in ("src", "dst") for i in range(4)
    ]
    packet = f.ipv4(f.tcp())
    both = list(packet[12:20])
    assert both[:4] != both[4:] and both[3] and both[7]
    # Wholly captured, each address by itself, even of a header that is cut or contradicts itself.
    for cut, known in ((len(packet), 8), (20, 8), (19, 4), (16, 4), (15, 0)):
        row, _ = parse(f.ethernet(packet[:cut]))
        assert row is not None and row[60:] == both[:known] + [0] * (8 - known)
    row, _ = parse(f.ethernet(f.ipv4(f.tcp(), ihl=4)))
    assert row is not None and row[60:] == both
    for other in (f.ethernet(f.ipv6(f.udp(b"abc"), 17), f.IPV6), f.ethernet(f.arp(), f.ARP)):
        row, _ = parse(other)
        assert row is not None and row[60:] == [0] * 8


def test_rows_of_sixty_are_the_first_sixty_columns() -> None:
    data, table = f.records([f.ethernet(f.ipv4(f.tcp())), b"", f.ethernet(f.arp(), f.ARP)])
    wide, narrow = arrays(3), arrays(3)
    narrow[0] = np.full((3, N_FEATURES), 7, np.uint16)
    for out in (wide, narrow):
        _features.extract(data, table, NOBODY, *out)
    assert (narrow[0] == wide[0][:, :N_FEATURES]).all() and wide[0][0, N_FEATURES:].any()


def test_compiled_counters_carry_the_twins_names() -> None:
    assert set(_features.COUNTER_NAMES) == {"frames", *twin.COUNTERS}


def test_tcp_over_ipv4(parse: Parse) -> None:
    data = bytes(range(1, 41))
    seen = parse(f.ethernet(f.ipv4(f.tcp(data, offset=8, ports=(443, 50000)), ttl=57)))
    shows(
        seen,
        src_port=443,
        dst_port=50000,
        proto=6,
        header_length=52,
        length=92,
        ttl=57,
        tcp_flags=2,
        payload_len=40,
        syn_flag=1,
        ack_flag=0,
        is_tcp=1,
        is_https=1,
        is_http=0,
    )
    assert payload_of(seen) == data[:32]


def test_udp_over_ipv6(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv6(f.udp(b"abc"), 17, hops=3), f.IPV6))
    shows(seen, proto=17, header_length=48, length=51, ttl=3, payload_len=3, is_udp=1, is_dns=1)
    assert payload_of(seen) == b"abc" + bytes(29)


@pytest.mark.parametrize("proto", [1, 58])
@pytest.mark.parametrize("version", [4, 6])
def test_icmp_is_icmp_whichever_the_ip_version(parse: Parse, proto: int, version: int) -> None:
    packet = (f.ipv4 if version == 4 else f.ipv6)(f.icmp(b"ping"), proto)
    seen = parse(f.ethernet(packet, f.IPV4 if version == 4 else f.IPV6))
    shows(seen, proto=proto, is_icmp=1, payload_len=4, header_length=28 if version == 4 else 48)
    assert payload_of(seen)[:4] == b"ping"


def test_other_protocol_has_its_payload_after_layer_3(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(b"igmp-ish", 2)))
    shows(seen, proto=2, header_length=20, payload_len=8, is_tcp=0, is_udp=0, is_icmp=0)
    assert payload_of(seen)[:8] == b"igmp-ish"


@pytest.mark.parametrize("bit", range(8))
def test_each_flag_has_its_own_column(parse: Parse, bit: int) -> None:
    names = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
    columns = {f"{name}_flag": int(i == bit) for i, name in enumerate(names)}
    shows(parse(f.ethernet(f.ipv4(f.tcp(flags=1 << bit)))), tcp_flags=1 << bit, **columns)


SERVICES = {
    "is_dns": ({"tcp", "udp"}, [53, 5353]),
    "is_dhcp": ({"udp"}, [67, 68, 546, 547]),
    "is_http": ({"tcp"}, [80, 8080]),
    "is_https": ({"tcp"}, [443, 8443]),
    "is_ssh": ({"tcp"}, [22]),
    "is_smtp": ({"tcp"}, [25, 465, 587]),
    "is_irc": ({"tcp"}, [*range(6660, 6670), 6697]),
    "is_telnet": ({"tcp"}, [23, 2323]),
}


def test_services_by_either_port_and_by_nothing_else() -> None:
    named = sorted({p for _, ports in SERVICES.values() for p in ports})
    near = sorted({p + d for p in named for d in (-1, 0, 1)} | {0, 65535})
    for protocol, segment in (("tcp", f.tcp), ("udp", f.udp)):
        proto = {"tcp": 6, "udp": 17}[protocol]
        for ports in [(p, 40000) for p in near] + [(40000, p) for p in near]:
            frame = f.ethernet(f.ipv4(segment(ports=ports), proto))
            expected = {
                name: int(protocol in protocols and not set(ports).isdisjoint(listed))
                for name, (protocols, listed) in SERVICES.items()
            }
            shows(compiled(frame), **expected)
            shows(twin.parse(frame, 1), **expected)


# --- link types ------------------------------------------------------------------------------

PACKET4 = f.ipv4(f.tcp(b"same"))
PACKET6 = f.ipv6(f.tcp(b"same"))
LINKS = {
    "ethernet": (1, f.ethernet(PACKET4), f.ethernet(PACKET6, f.IPV6)),
    "cooked v1": (113, f.cooked_v1(PACKET4), f.cooked_v1(PACKET6, f.IPV6)),
    "cooked v2": (276, f.cooked_v2(PACKET4), f.cooked_v2(PACKET6, f.IPV6)),
    "raw 101": (101, PACKET4, PACKET6),
    "raw 12": (12, PACKET4, PACKET6),
    "null little": (0, f.loopback(PACKET4), f.loopback(PACKET6, 10)),
    "null big": (0, f.loopback(PACKET4, order=">"), f.loopback(PACKET6, 24, order=">")),
    "null freebsd": (0, f.loopback(PACKET4), f.loopback(PACKET6, 28)),
    "null macos": (0, f.loopback(PACKET4), f.loopback(PACKET6, 30)),
    "loop": (108, f.loopback(PACKET4, order=">"), f.loopback(PACKET6, 24, order=">")),
}


@pytest.mark.parametrize("name", LINKS)
def test_link_header_never_counts(parse: Parse, name: str) -> None:
    linktype, four, six = LINKS[name]
    assert parse(four, linktype) == parse(PACKET4, 101)
    assert parse(six, linktype) == parse(PACKET6, 101)


def test_raw_ipv4_and_raw_ipv6_hold_what_they_say(parse: Parse) -> None:
    assert parse(PACKET4, 228) == parse(PACKET4, 101)
    assert parse(PACKET6, 229) == parse(PACKET6, 101)
    assert parse(PACKET6, 228) == (None, {"bad_version"})
    assert parse(PACKET4, 229) == (None, {"bad_version"})


@pytest.mark.parametrize("tags", [(f.VLAN,), (f.QINQ,), (f.QINQ, f.VLAN), (f.VLAN, f.VLAN)])
def test_up_to_two_vlan_tags_are_skipped(parse: Parse, tags: tuple[int, ...]) -> None:
    assert parse(f.ethernet(PACKET4, tags=tags)) == parse(PACKET4, 101)


def test_three_vlan_tags_are_other_l2(parse: Parse) -> None:
    assert parse(f.ethernet(PACKET4, tags=(f.QINQ, f.VLAN, f.VLAN))) == (None, {"other_l2"})


@pytest.mark.parametrize("tags", [(f.VLAN,), (f.QINQ, f.VLAN)])
def test_cut_vlan_tag_is_truncated_l2(parse: Parse, tags: tuple[int, ...]) -> None:
    whole = f.ethernet(b"", tags=tags)
    for cut in (1, 2, 3, 4):
        assert parse(whole[:-cut]) == (None, {"truncated_l2"})


def test_cooked_vlan_tags_are_skipped(parse: Parse) -> None:
    tag = bytes([0, 5]) + f.IPV4.to_bytes(2, "big")
    assert parse(f.cooked_v1(tag + PACKET4, f.VLAN), 113) == parse(PACKET4, 101)
    assert parse(f.cooked_v2(tag + PACKET4, f.QINQ), 276) == parse(PACKET4, 101)


@pytest.mark.parametrize(("linktype", "size"), [(1, 14), (113, 16), (276, 20), (0, 4), (108, 4)])
def test_cut_link_header_is_truncated_l2(parse: Parse, linktype: int, size: int) -> None:
    for length in range(size):
        assert parse(bytes(length), linktype) == (None, {"truncated_l2"})


@pytest.mark.parametrize("ethertype", [0, 0x0600, 0x888E, 0x8864, 46, 0xFFFF])
def test_other_ethertypes_are_other_l2(parse: Parse, ethertype: int) -> None:
    for frame, linktype in (
        (f.ethernet(PACKET4, ethertype), 1),
        (f.cooked_v1(PACKET4, ethertype), 113),
        (f.cooked_v2(PACKET4, ethertype), 276),
    ):
        assert parse(frame, linktype) == (None, {"other_l2"})


def test_other_families_are_other_l2(parse: Parse) -> None:
    assert parse(f.loopback(PACKET4, 16), 0) == (None, {"other_l2"})
    assert parse(f.loopback(PACKET4, 0), 0) == (None, {"other_l2"})
    assert parse(f.loopback(PACKET4, 2, order="<"), 108) == (None, {"other_l2"})


@pytest.mark.parametrize("linktype", [2, 105, 127, 147, 65535])
def test_unknown_link_types_are_other_l2(parse: Parse, linktype: int) -> None:
    assert parse(PACKET4, linktype) == (None, {"other_l2"})


@pytest.mark.parametrize("linktype", RAW_LINKS)
def test_empty_raw_frame_is_truncated_l2(parse: Parse, linktype: int) -> None:
    assert parse(b"", linktype) == (None, {"truncated_l2"})


def test_link_header_without_packet_is_truncated_l2(parse: Parse) -> None:
    for frame, linktype in (
        (f.ethernet(b""), 1),
        (f.ethernet(b"", f.IPV6), 1),
        (f.cooked_v1(b""), 113),
        (f.cooked_v2(b"", f.IPV6), 276),
        (f.loopback(b""), 0),
    ):
        assert parse(frame, linktype) == (None, {"truncated_l2"})


def test_padding_never_counts(parse: Parse) -> None:
    short = f.ipv4(f.udp(b"x"), 17)
    assert parse(f.ethernet(short + b"\xee" * 40)) == parse(f.ethernet(short))
    short = f.ipv6(f.udp(b"x"), 17)
    assert parse(f.ethernet(short + b"\xee" * 40, f.IPV6)) == parse(f.ethernet(short, f.IPV6))


# --- version, ARP ----------------------------------------------------------------------------


def test_version_against_the_ethertype_is_bad_version(parse: Parse) -> None:
    assert parse(f.ethernet(PACKET6, f.IPV4)) == (None, {"bad_version"})
    assert parse(f.ethernet(PACKET4, f.IPV6)) == (None, {"bad_version"})
    assert parse(f.loopback(PACKET6, 2), 0) == (None, {"bad_version"})


@pytest.mark.parametrize("version", [0, 1, 5, 7, 15])
def test_neither_four_nor_six_is_bad_version(parse: Parse, version: int) -> None:
    packet = bytes([version << 4 | 5]) + PACKET4[1:]
    assert parse(packet, 101) == (None, {"bad_version"})
    assert parse(f.ethernet(packet)) == (None, {"bad_version"})


def test_all_arp_is_one_row(parse: Parse) -> None:
    seen = parse(f.ethernet(f.arp() + bytes(18), f.ARP))
    shows(seen, **ARP_ROW, payload_len=0, proto=0, ttl=0)
    assert sum(seen[0] or []) == 57
    other = f.arp(source=f.DST4, mac=f.DST_MAC)
    assert parse(f.ethernet(other, f.ARP)) == seen


@pytest.mark.parametrize("size", [0, 1, 8, 17, 27])
def test_cut_arp_is_truncated_l3_and_the_same_row(parse: Parse, size: int) -> None:
    shows(parse(f.ethernet(f.arp()[:size], f.ARP)), "truncated_l3", **ARP_ROW)


# --- IPv4 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ihl", range(5))
def test_ihl_below_5_is_bad_ihl(parse: Parse, ihl: int) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data"), ihl=ihl, ttl=9)))
    shows(seen, "bad_ihl", header_length=0, length=44, ttl=9, proto=6, is_tcp=1, payload_len=44)
    no_layer4(seen)
    assert payload_of(seen) == bytes(32)


def test_ip_options_are_header(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data"), ihl=15)))
    shows(seen, header_length=80, payload_len=4, src_port=40000)


def test_total_length_0_is_the_captured_length(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(bytes(3000)), total=0)))
    shows(seen, length=3040, payload_len=3000)


def test_total_length_0_of_a_giant_saturates(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(bytes(70000)), total=0)))
    shows(seen, length=65535, payload_len=65495)


def test_length_is_the_headers_not_the_captures(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"cut"), total=1500)))
    shows(seen, length=1500, payload_len=1460)
    assert payload_of(seen) == b"cut" + bytes(29)


@pytest.mark.parametrize("total", [1, 19])
def test_total_length_below_the_header_is_truncated_l3(parse: Parse, total: int) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data"), total=total)))
    shows(seen, "truncated_l3", header_length=20, length=total, payload_len=0, proto=6, is_tcp=1)
    no_layer4(seen)
    assert payload_of(seen) == bytes(32)


def test_total_length_ends_layer_4(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data"), total=32)))
    shows(seen, "truncated_l4", length=32, header_length=20, src_port=40000, tcp_flags=0)


@pytest.mark.parametrize("captured", range(1, 20))
def test_cut_ipv4_header_shows_what_it_has(parse: Parse, captured: int) -> None:
    packet = f.ipv4(f.tcp(), ttl=77)[:captured]
    seen = parse(f.ethernet(packet))
    shows(
        seen,
        "truncated_l3",
        header_length=20,
        length=40 if captured >= 4 else 0,
        ttl=77 if captured >= 9 else 0,
        proto=6 if captured >= 10 else 0,
        is_tcp=int(captured >= 10),
    )
    no_layer4(seen)


def test_cut_options_are_truncated_l3(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(), ihl=15)[:59]))
    shows(seen, "truncated_l3", header_length=60, length=80)
    no_layer4(seen)


@pytest.mark.parametrize("field", [1, 0x1FFF, 0x2001])
@pytest.mark.parametrize("proto", [6, 17, 1])
def test_later_ipv4_fragment_has_no_layer_4(parse: Parse, field: int, proto: int) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data"), proto, fragment=field)))
    shows(seen, header_length=20, payload_len=24, proto=proto)
    no_layer4(seen)
    assert payload_of(seen)[:24] == f.tcp(b"data")
    assert (seen[0] or [])[48:51] == [int(proto == p) for p in (6, 17, 1)]


@pytest.mark.parametrize("field", [0x2000, 0x4000, 0x8000])
def test_first_ipv4_fragment_is_parsed(parse: Parse, field: int) -> None:
    shows(parse(f.ethernet(f.ipv4(f.tcp(), fragment=field))), src_port=40000, header_length=40)


# --- layer 4 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(20))
def test_cut_tcp_header_shows_what_it_has(parse: Parse, size: int) -> None:
    packet = f.ipv4(f.tcp(b"data", flags=0xFF))[: 20 + size]
    seen = parse(f.ethernet(packet))
    ports = size >= 4
    shows(
        seen,
        "truncated_l4",
        src_port=40000 * ports,
        dst_port=80 * ports,
        is_http=int(ports),
        header_length=20 + 20 * (size >= 13),
        tcp_flags=255 * (size >= 14),
        cwr_flag=int(size >= 14),
        length=44,
        is_tcp=1,
    )
    assert payload_of(seen) == bytes(32)


def test_data_offset_past_the_capture_still_counts(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data", offset=8))[:40]))
    shows(seen, "truncated_l4", header_length=52, payload_len=4)
    assert payload_of(seen) == bytes(32)


@pytest.mark.parametrize("offset", range(5))
def test_data_offset_below_5_is_bad_data_offset(parse: Parse, offset: int) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(b"data", offset=offset))))
    shows(seen, "bad_data_offset", header_length=20, payload_len=24, syn_flag=1, dst_port=80)
    assert payload_of(seen) == bytes(32)


def test_cut_and_bad_data_offset_raise_both(parse: Parse) -> None:
    seen = parse(f.ethernet(f.ipv4(f.tcp(offset=4))[: 20 + 15]))
    shows(seen, "truncated_l4", "bad_data_offset", header_length=20, tcp_flags=2)


@pytest.mark.parametrize("proto", [17, 1, 58])
@pytest.mark.parametrize("size", [0, 3, 4, 7])
def test_cut_udp_or_icmp_counts_8_bytes(parse: Parse, proto: int, size: int) -> None:
    seen = parse(f.ethernet(f.ipv4(f.udp(b"data"), proto)[: 20 + size]))
    shows(
        seen,
        "truncated_l4",
        header_length=28,
        payload_len=4,
        src_port=40000 * (proto == 17 and size >= 4),
        is_dns=int(proto == 17 and size >= 4),
    )
    assert payload_of(seen) == bytes(32)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33])
def test_payload_is_32_bytes_and_zeros(parse: Parse, size: int) -> None:
    data = b"\xaa" * size
    seen = parse(f.ethernet(f.ipv4(f.udp(data), 17)))
    assert payload_of(seen) == data[:32].ljust(32, b"\0")


# --- IPv6 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("captured", range(1, 40))
def test_cut_ipv6_header_shows_what_it_has(parse: Parse, captured: int) -> None:
    seen = parse(f.ipv6(f.udp(), 17, hops=9)[:captured], 101)
    shows(
        seen,
        "truncated_l3",
        header_length=40,
        length=48 if captured >= 6 else 0,
        proto=17 if captured >= 7 else 0,
        is_udp=int(captured >= 7),
        ttl=9 if captured >= 8 else 0,
    )
    no_layer4(seen)


@pytest.mark.parametrize("kind", [43, 44, 51, 60])
def test_cut_ipv6_header_before_an_extension_has_no_protocol(parse: Parse, kind: int) -> None:
    shows(parse(f.ipv6(b"", kind)[:39], 101), "truncated_l3", proto=0)


def test_ipv6_length_saturates(parse: Parse) -> None:
    seen = parse(f.ipv6(f.udp(b"x"), 17, length=65535), 101)
    shows(seen, length=65535, header_length=48, payload_len=65487)


def test_ipv6_payload_length_0_is_no_payload(parse: Parse) -> None:
    seen = parse(f.ipv6(f.tcp(b"data"), length=0), 101)
    shows(seen, "truncated_l4", length=40, header_length=40, src_port=0)


CHAIN = [
    (f.HOP, f.extension(f.ROUTING)),
    (f.ROUTING, f.extension(f.OPTIONS, units=2)),
    (f.OPTIONS, f.extension(f.AH)),
    (f.AH, f.authentication(f.FRAGMENT)),
    (f.FRAGMENT, f.fragment(f.TCP)),
]


def test_every_extension_is_walked(parse: Parse) -> None:
    seen = parse(f.extended(*CHAIN, payload=f.tcp(b"data")), 101)
    shows(seen, proto=6, header_length=40 + 8 + 24 + 8 + 24 + 8 + 20, payload_len=4, dst_port=80)
    assert payload_of(seen)[:4] == b"data"


def test_cut_extension_is_truncated_l3(parse: Parse) -> None:
    packet = f.extended(*CHAIN, payload=f.tcp(b"data"))
    ends = np.cumsum([40] + [len(header) for _, header in CHAIN]).tolist()
    for captured in range(40, ends[-1]):
        whole = max(end for end in ends if end <= captured)
        seen = parse(packet[:captured], 101)
        shows(seen, "truncated_l3", proto=0, header_length=whole, length=len(packet), is_tcp=0)
        no_layer4(seen)
        assert payload_of(seen) == bytes(32)


def test_extension_past_the_payload_length_is_truncated_l3(parse: Parse) -> None:
    seen = parse(f.ipv6(f.extension(f.TCP, units=1) + f.tcp(), f.HOP, length=15), 101)
    shows(seen, "truncated_l3", proto=0, header_length=40, length=55, payload_len=15)


def chain_of(count: int) -> bytes:
    """An IPv6 TCP packet behind `count` destination options headers."""
    chain = [(f.OPTIONS, f.extension(f.OPTIONS))] * (count - 1) + [(f.OPTIONS, f.extension(f.TCP))]
    return f.extended(*chain, payload=f.tcp(b"data"))


def test_eight_extensions_are_walked(parse: Parse) -> None:
    shows(parse(chain_of(8), 101), proto=6, header_length=40 + 64 + 20, payload_len=4)


@pytest.mark.parametrize("count", [9, 20])
def test_nine_extensions_are_too_many(parse: Parse, count: int) -> None:
    seen = parse(chain_of(count), 101)
    shows(seen, "too_many_extensions", proto=0, header_length=104, length=40 + 8 * count + 24)
    no_layer4(seen)
    assert payload_of(seen) == bytes(32)


def test_a_cut_ninth_extension_is_too_many(parse: Parse) -> None:
    shows(parse(chain_of(9)[:105], 101), "too_many_extensions", header_length=104)


@pytest.mark.parametrize(("kind", "name"), [(50, "ESP"), (59, "none"), (41, "IPv6"), (135, "MH")])
def test_esp_and_others_end_the_walk(parse: Parse, kind: int, name: str) -> None:
    seen = parse(f.extended((f.HOP, f.extension(kind)), payload=b"opaque"), 101)
    shows(seen, proto=kind, header_length=48, payload_len=6)
    no_layer4(seen)
    assert payload_of(seen)[:6] == b"opaque"


@pytest.mark.parametrize("more", [False, True])
def test_atomic_and_first_ipv6_fragments_are_parsed(parse: Parse, more: bool) -> None:
    header = f.fragment(f.UDP, more=more)
    seen = parse(f.extended((f.FRAGMENT, header), payload=f.udp(b"x")), 101)
    shows(seen, proto=17, header_length=56, dst_port=53, is_dns=1)


def test_later_ipv6_fragment_has_no_layer_4(parse: Parse) -> None:
    header = f.fragment(f.UDP, offset=1)
    seen = parse(f.extended((f.FRAGMENT, header), payload=f.udp(b"x")), 101)
    shows(seen, proto=17, is_udp=1, header_length=48, payload_len=9)
    no_layer4(seen)
    assert payload_of(seen)[:9] == f.udp(b"x")


@pytest.mark.parametrize("kind", [0, 43, 44, 51, 60])
def test_extension_behind_a_later_fragment_is_data(parse: Parse, kind: int) -> None:
    header = f.fragment(kind, offset=9)
    seen = parse(f.extended((f.FRAGMENT, header), payload=b"rest"), 101)
    shows(seen, proto=0, header_length=48, payload_len=4)
    assert payload_of(seen)[:4] == b"rest"


def test_extension_behind_a_first_fragment_is_walked(parse: Parse) -> None:
    chain = [(f.FRAGMENT, f.fragment(f.OPTIONS, more=True)), (f.OPTIONS, f.extension(f.TCP))]
    shows(parse(f.extended(*chain, payload=f.tcp()), 101), proto=6, header_length=76)


# --- who sent it -----------------------------------------------------------------------------

OWN_MAC, OWN4, OWN6 = bytes.fromhex("02aa00000001"), bytes([10, 0, 0, 1]), f.DST6
GATEWAY = {"macs": [OWN_MAC], "addresses": [OWN4, OWN6]}
TWIN_GATEWAY = twin.Host(frozenset([OWN_MAC]), frozenset([OWN4, OWN6]))


def from_us(payload: bytes, ethertype: int = f.IPV4) -> bytes:
    return f.DST_MAC + OWN_MAC + ethertype.to_bytes(2, "big") + payload


def judged(
    frame: bytes,
    direction: int,
    *,
    linktype: int = f.ETHERNET,
    all_ports: bool = False,
    host: Any = GATEWAY,
) -> tuple[int, list[int], np.void]:
    """Judge with the compiled module, assert that the twin agrees, return outcome, row, sender."""
    identity = _features.HostIdentity(**host, all_ports=all_ports)
    rows, senders, outcomes, counters = extract(
        [frame], linktype, direction=direction, host=identity
    )
    own = twin.Host(frozenset(host["macs"]), frozenset(host["addresses"]), all_ports)
    agree(twin.judge(frame, linktype, direction, own), rows[0], senders[0], outcomes[0], counters)
    return int(outcomes[0]), rows[0].tolist(), senders[0]


def agree(
    expected: twin.Judged,
    row: np.ndarray,
    sender: np.void,
    outcome: int,
    counters: dict[str, int],
) -> None:
    """Assert that one compiled answer is the twin's."""
    assert outcome == expected.outcome
    assert row.tolist() == (expected.row or [0] * N_COLUMNS)
    assert bytes(sender["mac"]) == (expected.mac or bytes(6))
    assert sender["side"] == expected.side
    assert sender["family"] == {0: 0, 4: 4, 16: 6}[len(expected.address)]
    assert bytes(sender["address"]) == expected.address.ljust(16, b"\0")
    assert counters == {
        "frames": 1,
        **{name: int(name in expected.raised) for name in twin.COUNTERS},
    }


TTL = FEATURE_NAMES.index("ttl")


def test_our_own_packet_is_own() -> None:
    for packet, kind in (
        (f.ipv4(f.tcp(), source=OWN4), f.IPV4),
        (f.ipv6(f.tcp(), source=OWN6), f.IPV6),
        (f.arp(), f.ARP),
    ):
        outcome, row, _ = judged(from_us(packet, kind), Direction.OUTGOING)
        assert outcome == Outcome.OWN
        assert not any(row)


@pytest.mark.parametrize("direction", [Direction.OUTGOING, Direction.UNKNOWN])
def test_forwarded_packet_gets_its_ttl_back(direction: Direction) -> None:
    outcome, row, sender = judged(from_us(f.ipv4(f.tcp(), ttl=63)), direction)
    assert (outcome, row[TTL], sender["side"]) == (Outcome.JUDGED, 64, 1)
    outcome, row, sender = judged(from_us(f.ipv6(f.tcp(), hops=63), f.IPV6), direction)
    assert (outcome, row[TTL], sender["side"]) == (Outcome.JUDGED, 64, 1)


def placed(
    frame: bytes, direction: Direction, *, ifindex: int, **identity: Any
) -> tuple[int, int, int]:
    """Return outcome, side and TTL of a frame on an interface, which the twin sees alike."""
    data, table = f.records([frame], direction=direction)
    table["ifindex"] = ifindex
    rows, senders = np.zeros((1, N_COLUMNS), np.uint16), np.zeros(1, SENDER)
    outcomes, counters = np.zeros(1, np.uint8), np.zeros(COUNTERS, np.uint64)
    host = _features.HostIdentity(**identity)
    _features.extract(data, table, host, rows, senders, outcomes, counters)
    nets = tuple(
        (index, ipaddress.ip_network((address, prefix), strict=False))
        for index, address, prefix in identity.get("networks", ())
    )
    own = twin.Host(
        frozenset(identity.get("macs", ())),
        frozenset(identity.get("addresses", ())),
        identity.get("all_ports", False),
        frozenset(identity.get("routers", ())),
        nets,
    )
    expected = twin.judge(frame, f.ETHERNET, direction, own, ifindex=ifindex)
    assert (outcomes[0], senders[0]["side"]) == (expected.outcome, expected.side)
    return int(outcomes[0]), int(senders[0]["side"]), int(rows[0][TTL])


def test_what_was_routed_between_captured_interfaces_counts_where_it_came_in() -> None:
    own = {"macs": [OWN_MAC], "addresses": [OWN4], "networks": [(7, f.SRC4, 24)]}
    frame = from_us(f.ipv4(f.tcp(), ttl=63))
    assert placed(frame, Direction.OUTGOING, ifindex=8, **own) == (Outcome.ECHO, 0, 0)
    # Out of the very interface that its network is on: nobody else can have shown it.
    assert placed(frame, Direction.OUTGOING, ifindex=7, **own) == (Outcome.JUDGED, 1, 64)
    elsewhere = own | {"networks": [(7, bytes([198, 18, 0, 1]), 15)]}
    assert placed(frame, Direction.OUTGOING, ifindex=8, **elsewhere) == (Outcome.JUDGED, 1, 64)


def test_a_routers_mac_names_nobody() -> None:
    known = {"routers": [f.SRC_MAC], "macs": [OWN_MAC]}
    assert placed(f.ethernet(f.ipv4(f.tcp())), Direction.HOST, ifindex=7, **known)[1] == 1
    assert placed(f.ethernet(f.ipv4(f.tcp())), Direction.HOST, ifindex=7, macs=[OWN_MAC])[1] == 0
    assert placed(f.ethernet(f.arp(), f.ARP), Direction.HOST, ifindex=7, **known)[1] == 0
    local = f.ipv6(f.tcp(), source=bytes.fromhex("fe80" + 13 * "00" + "01"))
    assert placed(f.ethernet(local, f.IPV6), Direction.HOST, ifindex=7, **known)[1] == 0


def test_forwarded_ttl_saturates_and_a_cut_one_stays_0() -> None:
    assert judged(from_us(f.ipv4(f.tcp(), ttl=255)), Direction.OUTGOING)[1][TTL] == 255
    assert judged(from_us(f.ipv4(f.tcp(), ttl=0)), Direction.OUTGOING)[1][TTL] == 1
    assert judged(from_us(f.ipv4(f.tcp())[:8]), Direction.OUTGOING)[1][TTL] == 0
    assert judged(from_us(f.ipv6(f.tcp())[:7], f.IPV6), Direction.OUTGOING)[1][TTL] == 0


@pytest.mark.parametrize("source", ["::", "fe80::1", "febf::1", "0.0.0.0"])
def test_what_no_router_forwards_is_our_own(source: str) -> None:
    """Probes for duplicates and leases leave before we have the address."""
    packed = ipaddress.ip_address(source).packed
    packet = (f.ipv4 if len(packed) == 4 else f.ipv6)(f.udp(), source=packed)
    frame = from_us(packet, f.IPV4 if len(packed) == 4 else f.IPV6)
    assert judged(frame, Direction.OUTGOING)[0] == Outcome.OWN
    assert judged(frame, Direction.HOST)[0] == Outcome.JUDGED


def test_ipv4_link_local_is_forwarded_by_linux() -> None:
    frame = from_us(f.ipv4(f.udp(), source=bytes([169, 254, 0, 1])))
    assert judged(frame, Direction.OUTGOING)[0] == Outcome.JUDGED


INCOMING = [Direction.HOST, Direction.BROADCAST, Direction.MULTICAST, Direction.OTHERHOST]


@pytest.mark.parametrize("direction", INCOMING)
def test_forged_own_mac_coming_in_is_not_own(direction: Direction) -> None:
    for packet, kind in ((f.ipv4(f.tcp(), source=OWN4), f.IPV4), (f.arp(), f.ARP)):
        outcome, row, sender = judged(from_us(packet, kind), direction)
        assert (outcome, sender["side"]) == (Outcome.JUDGED, 0)
        assert row == twin.parse(from_us(packet, kind), f.ETHERNET)[0]


def test_own_address_of_a_foreign_mac_is_not_own() -> None:
    frame = f.ethernet(f.ipv4(f.tcp(), source=OWN4))
    for direction in Direction:
        assert judged(frame, direction)[0] == Outcome.JUDGED


def test_bridged_frame_going_out_is_an_echo_where_every_port_is_captured() -> None:
    frame = f.ethernet(f.ipv4(f.tcp()))
    assert judged(frame, Direction.OUTGOING, all_ports=True)[0] == Outcome.ECHO
    assert judged(frame, Direction.OUTGOING)[0] == Outcome.JUDGED
    assert judged(frame, Direction.OTHERHOST, all_ports=True)[0] == Outcome.JUDGED
    # A capture file that does not say which way a frame went has no echoes.
    assert judged(frame, Direction.UNKNOWN, all_ports=True)[0] == Outcome.JUDGED


def test_an_echo_is_still_counted_when_damaged() -> None:
    frame = f.ethernet(f.ipv4(f.tcp())[:30])
    assert judged(frame, Direction.OUTGOING, all_ports=True)[0] == Outcome.ECHO


def test_unparsable_comes_before_own_and_echo() -> None:
    frame = from_us(b"", 0x888E)
    assert judged(frame, Direction.OUTGOING, all_ports=True)[0] == Outcome.UNPARSABLE


def test_cooked_header_tells_the_direction() -> None:
    packet = f.ipv4(f.tcp(), source=OWN4)
    for build, linktype in ((f.cooked_v1, 113), (f.cooked_v2, 276)):
        out = build(packet, kind=4, mac=OWN_MAC)
        assert judged(out, Direction.UNKNOWN, linktype=linktype)[0] == Outcome.OWN
        came = build(packet, kind=0, mac=OWN_MAC)
        assert judged(came, Direction.UNKNOWN, linktype=linktype)[0] == Outcome.JUDGED
        # A direction that packet(7) does not know leaves what the capture says.
        odd = build(packet, kind=9, mac=OWN_MAC)
        assert judged(odd, Direction.OUTGOING, linktype=linktype)[0] == Outcome.OWN


def test_where_the_link_has_no_mac_going_out_is_ours() -> None:
    packet = f.ipv4(f.tcp(), source=OWN4, ttl=9)
    assert judged(packet, Direction.OUTGOING, linktype=101)[0] == Outcome.OWN
    assert judged(packet, Direction.UNKNOWN, linktype=101)[0] == Outcome.JUDGED
    outcome, row, sender = judged(f.ipv4(f.tcp(), ttl=9), Direction.OUTGOING, linktype=101)
    assert (outcome, row[TTL], sender["side"]) == (Outcome.JUDGED, 10, 1)


def test_sender_is_who_the_frame_says() -> None:
    _, _, sender = judged(f.ethernet(PACKET4), Direction.HOST)
    assert (bytes(sender["mac"]), sender["family"]) == (f.SRC_MAC, 4)
    assert bytes(sender["address"]) == f.SRC4 + bytes(12)
    _, _, sender = judged(f.ethernet(PACKET6, f.IPV6), Direction.HOST)
    assert (sender["family"], bytes(sender["address"])) == (6, f.SRC6)
    _, _, sender = judged(f.ethernet(f.arp(source=OWN4), f.ARP), Direction.HOST)
    assert (sender["family"], bytes(sender["address"])[:4]) == (4, OWN4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"macs": [bytes(5)]},
        {"macs": [bytes(6)] * 65},
        {"addresses": [bytes(5)]},
        {"addresses": [bytes(4)] * 513},
    ],
)
def test_host_identity_refuses_what_does_not_fit(wrong: dict[str, list[bytes]]) -> None:
    with pytest.raises(ValueError, match="gateway at most"):
        _features.HostIdentity(**wrong)


def test_a_full_host_identity_knows_its_last_entries() -> None:
    macs = [i.to_bytes(6, "big") for i in range(63)] + [OWN_MAC]
    addresses = [i.to_bytes(4, "big") for i in range(511)] + [OWN4]
    host = {"macs": macs, "addresses": addresses}
    frame = from_us(f.ipv4(f.tcp(), source=OWN4))
    assert judged(frame, Direction.OUTGOING, host=host)[0] == Outcome.OWN


# --- the arrays ------------------------------------------------------------------------------


def arrays(n: int) -> list[np.ndarray]:
    return [
        np.zeros((n, N_COLUMNS), np.uint16),
        np.zeros(n, SENDER),
        np.zeros(n, np.uint8),
        np.zeros(COUNTERS, np.uint64),
    ]


@pytest.mark.parametrize(
    ("offset", "caplen"),
    [(0, 101), (1, 100), (100, 1), (101, 0), (2**64 - 1, 2), (2**64 - 50, 100), (0, 2**32 - 1)],
)
def test_frame_outside_the_buffer_is_refused_before_anything_is_written(
    offset: int, caplen: int
) -> None:
    data, table = f.records([f.ethernet(PACKET4), bytes(5)])
    table["offset"][1], table["caplen"][1] = offset, caplen
    out = arrays(2)
    data = data[:100] if data.size > 100 else np.resize(data, 100)
    with pytest.raises(ValueError, match="frame 1 lies outside"):
        _features.extract(data, table, NOBODY, *out)
    assert not any(a.any() for a in out if a.dtype != SENDER)


def test_empty_frame_at_the_buffers_end_is_inside() -> None:
    data, table = f.records([f.ethernet(PACKET4), b""])
    out = arrays(2)
    _features.extract(data, table, NOBODY, *out)
    assert out[2].tolist() == [Outcome.JUDGED, Outcome.UNPARSABLE]


def test_no_frames_and_no_buffer_are_fine() -> None:
    data, table = f.records([])
    _features.extract(data, table, NOBODY, *arrays(0))
    data, table = f.records([b""], 101)
    out = arrays(1)
    _features.extract(data, table, NOBODY, *out)
    assert out[2].tolist() == [Outcome.UNPARSABLE]


@pytest.mark.parametrize("short", range(4))
def test_short_output_array_is_refused(short: int) -> None:
    data, table = f.records([PACKET4, PACKET4], 101)
    out = arrays(2)
    out[short] = out[short][:-1]
    with pytest.raises(ValueError, match="smaller|places"):
        _features.extract(data, table, NOBODY, *out)


def test_rows_of_another_width_are_refused() -> None:
    data, table = f.records([PACKET4], 101)
    out = arrays(1)
    out[0] = np.zeros((1, 59), np.uint16)
    with pytest.raises(ValueError, match="smaller"):
        _features.extract(data, table, NOBODY, *out)


def test_layer_3_path_refuses_short_arrays() -> None:
    packet = np.frombuffer(PACKET4, np.uint8)
    with pytest.raises(ValueError, match="60 or 68 places"):
        _features.extract_l3(packet, 0, np.zeros(59, np.uint16), np.zeros(COUNTERS, np.uint64))
    with pytest.raises(ValueError, match="60 or 68 places"):
        _features.extract_l3(packet, 0, np.zeros(60, np.uint16), np.zeros(8, np.uint64))


# --- anything at all -------------------------------------------------------------------------

small = st.integers(0, 80).flatmap(lambda n: st.binary(min_size=n, max_size=n))
port = st.sampled_from([0, 22, 23, 25, 53, 67, 80, 443, 547, 6667, 6670, 8443]) | st.integers(
    0, 65535
)
ports = st.tuples(port, port)
segment = st.one_of(
    st.builds(f.tcp, small, ports=ports, flags=st.integers(0, 255), offset=st.integers(0, 15)).map(
        lambda s: (6, s)
    ),
    st.builds(f.udp, small, ports=ports).map(lambda s: (17, s)),
    st.tuples(st.sampled_from([1, 58]), st.builds(f.icmp, small)),
    st.tuples(st.integers(0, 255), small),
)
length = st.none() | st.integers(0, 200) | st.sampled_from([65495, 65535])


@st.composite
def ipv4_packet(draw: st.DrawFn) -> bytes:
    proto, body = draw(segment)
    return f.ipv4(
        body,
        proto,
        ihl=draw(st.sampled_from([5, 5, 5, 15]) | st.integers(0, 15)),
        total=draw(length),
        ttl=draw(st.integers(0, 255)),
        fragment=draw(st.sampled_from([0, 0, 0x4000, 0x2000, 1]) | st.integers(0, 65535)),
        source=draw(st.sampled_from([f.SRC4, OWN4])),
    )


@st.composite
def ipv6_packet(draw: st.DrawFn) -> bytes:
    proto, body = draw(segment)
    first = proto
    for kind in draw(st.lists(st.sampled_from([0, 43, 44, 51, 60]), max_size=10)):
        if kind == f.FRAGMENT:
            offset = draw(st.sampled_from([0, 0, 0, 5]))
            body = f.fragment(first, offset=offset, more=draw(st.booleans())) + body
        elif kind == f.AH:
            body = f.authentication(first, words=draw(st.integers(0, 4))) + body
        else:
            body = f.extension(first, units=draw(st.integers(0, 2))) + body
        first = kind
    return f.ipv6(
        body,
        first,
        length=draw(length),
        hops=draw(st.integers(0, 255)),
        source=draw(st.sampled_from([f.SRC6, OWN6])),
    )


@st.composite
def any_frame(draw: st.DrawFn) -> tuple[bytes, int]:
    """A frame and its link type: built right, then perhaps cut, flipped or of another link."""
    kind = draw(st.sampled_from([f.IPV4, f.IPV4, f.IPV6, f.IPV6, f.ARP, 0]))
    payload = draw(
        {
            f.IPV4: ipv4_packet(),
            f.IPV6: ipv6_packet(),
            f.ARP: st.sampled_from([f.arp(), f.arp(source=OWN4, mac=OWN_MAC)]),
            0: small,
        }[kind]
    )
    linktype = draw(st.sampled_from(twin.LINK_TYPES))
    mac = draw(st.sampled_from([f.SRC_MAC, OWN_MAC]))
    if linktype == f.ETHERNET:
        tags = draw(st.lists(st.sampled_from([f.VLAN, f.QINQ]), max_size=3))
        frame = f.ethernet(payload, kind, tags=tuple(tags))
        frame = frame[:6] + mac + frame[12:]
    elif linktype in (113, 276):
        way = draw(st.integers(0, 6))
        frame = (f.cooked_v1 if linktype == 113 else f.cooked_v2)(payload, kind, kind=way, mac=mac)
    elif linktype in (0, 108):
        family = draw(st.sampled_from([2, 10, 24, 28, 30, 7]))
        frame = f.loopback(payload, family, order=draw(st.sampled_from("<>")))
    else:
        frame = payload
    if draw(st.booleans()):
        frame = frame[: draw(st.integers(0, len(frame)))]
    for at in draw(st.lists(st.integers(0, 120), max_size=3)):
        if at < len(frame):
            frame = frame[:at] + bytes([draw(st.integers(0, 255))]) + frame[at + 1 :]
    if draw(st.integers(0, 9)) == 0:
        linktype = draw(st.sampled_from(twin.LINK_TYPES) | st.integers(0, 65535))
    return frame, linktype


HOSTS = [
    (_features.HostIdentity(), twin.Host()),
    (_features.HostIdentity(**GATEWAY), TWIN_GATEWAY),
    (
        _features.HostIdentity(**GATEWAY, all_ports=True),
        twin.Host(TWIN_GATEWAY.macs, TWIN_GATEWAY.addresses, True),
    ),
]
directions = st.sampled_from(list(Direction)) | st.integers(0, 255)


@examples(2000)
@given(any_frame(), directions, st.integers(0, 2))
@example((b"", 101), 255, 0)
@example((f.ethernet(b""), 1), 4, 2)
def test_compiled_is_the_twin(link_frame: tuple[bytes, int], direction: int, host: int) -> None:
    frame, linktype = link_frame
    identity, own = HOSTS[host]
    expected = twin.judge(frame, linktype, direction, own)
    for place in (GUARDED.at_end(frame), GUARDED.at_start(frame)):
        _, table = f.records([frame], linktype, direction=direction)
        rows, senders, outcomes, counters = arrays(1)
        _features.extract(place, table, identity, rows, senders, outcomes, counters)
        named = dict(zip(_features.COUNTER_NAMES, counters.tolist(), strict=True))
        agree(expected, rows[0], senders[0], outcomes[0], named)


@examples(500)
@given(st.binary(max_size=200), st.sampled_from(twin.LINK_TYPES))
def test_compiled_is_the_twin_on_noise(frame: bytes, linktype: int) -> None:
    identity, own = HOSTS[0]
    _, table = f.records([frame], linktype)
    rows, senders, outcomes, counters = arrays(1)
    _features.extract(GUARDED.at_end(frame), table, identity, rows, senders, outcomes, counters)
    named = dict(zip(_features.COUNTER_NAMES, counters.tolist(), strict=True))
    expected = twin.judge(frame, linktype, Direction.UNKNOWN, own)
    agree(expected, rows[0], senders[0], outcomes[0], named)


@examples(1000)
@given(ipv4_packet() | ipv6_packet() | small, st.integers(0, 120), st.booleans())
def test_layer_3_path_is_the_frame_path(packet: bytes, cut: int, forwarded: bool) -> None:
    packet = packet[:cut] if cut % 3 == 0 else packet
    for ethertype in (0, f.IPV4, f.IPV6, f.ARP, 0x888E):
        row, counters = np.full(N_COLUMNS, 7, np.uint16), np.zeros(COUNTERS, np.uint64)
        place = GUARDED.at_end(packet)
        can = _features.extract_l3(place, ethertype, row, counters, forwarded=forwarded)
        frame, linktype = (
            (f.ethernet(packet, ethertype), f.ETHERNET) if ethertype else (packet, f.RAW)
        )
        expected, raised = twin.parse(frame, linktype, forwarded)
        assert can == (expected is not None)
        assert row.tolist() == (expected or [0] * N_COLUMNS)
        named = dict(zip(_features.COUNTER_NAMES, counters.tolist(), strict=True))
        assert named == {"frames": 1, **{name: int(name in raised) for name in twin.COUNTERS}}


@examples(200)
@given(st.lists(any_frame(), max_size=12))
def test_a_batch_is_its_frames(link_frames: list[tuple[bytes, int]]) -> None:
    data, table = f.records([frame for frame, _ in link_frames])
    table["linktype"] = [linktype for _, linktype in link_frames]
    n = len(link_frames)
    rows, senders, outcomes, counters = arrays(n)
    _features.extract(data, table, NOBODY, rows, senders, outcomes, counters)
    seen = [twin.parse(frame, linktype) for frame, linktype in link_frames]
    assert rows.tolist() == [row or [0] * N_COLUMNS for row, _ in seen]
    assert outcomes.tolist() == [int(row is None) for row, _ in seen]
    assert counters.tolist() == [n] + [
        sum(name in raised for _, raised in seen) for name in _features.COUNTER_NAMES[1:]
    ]
