"""Community IDs are those that the specification's and Zeek's own examples give."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.telemetry.community_id import community_id

V6 = ("fe80:1:203:405:607:809:a0b:c0d", "fe80:1011:1213:1415:1617:1819:1a1b:1c1d")
PUBLISHED = [
    ("128.232.110.120", 34855, "66.35.250.204", 80, 6, 0, "LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("192.168.1.52", 54585, "8.8.8.8", 53, 17, 0, "d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("192.168.0.89", 8, "192.168.0.1", 0, 1, 0, "X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("192.168.170.8", 7, "192.168.170.56", 80, 132, 0, "jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
    ("1.2.3.4", 1122, "5.6.7.8", 3344, 6, 0, "wCb3OG7yAFWelaUydu0D+125CLM="),
    ("1.2.3.4", 1122, "5.6.7.8", 3344, 17, 0, "0Mu9InQx6z4ZiCZM/7HXi2WMhOg="),
    ("1.2.3.4", 8, "5.6.7.8", 0, 1, 0, "crodRHL2FEsHjbv3UkRrfbs4bZ0="),
    ("5.6.7.8", 0, "1.2.3.4", 0, 1, 0, "crodRHL2FEsHjbv3UkRrfbs4bZ0="),
    (V6[0], 128, V6[1], 0, 58, 0, "0bf7hyMJUwt3fMED7z8LIfRpBeo="),
    (V6[1], 129, V6[0], 0, 58, 0, "0bf7hyMJUwt3fMED7z8LIfRpBeo="),
    ("1.2.3.4", 0, "5.6.7.8", 0, 46, 0, "ikv3kmf89luf73WPz1jOs49S768="),
    ("1.2.3.4", 1122, "5.6.7.8", 3344, 6, 1, "HhA1B+6CoLbiKPEs5nhNYN4XWfk="),
    ("1.2.3.4", 1122, "5.6.7.8", 3344, 17, 1, "OShq+iKDAMVouh/4bMxB9Sz4amw="),
    ("1.2.3.4", 8, "5.6.7.8", 0, 1, 1, "9pr4ZGTICiuZoIh90RRYE2RyXpU="),
    (V6[0], 128, V6[1], 0, 58, 1, "IO27GQzPuCtNnwFvjWALMHu5tJE="),
]


@pytest.mark.parametrize(
    ("src", "sport", "dst", "dport", "protocol", "seed", "expected"), PUBLISHED
)
def test_published_examples(src, sport, dst, dport, protocol, seed, expected) -> None:
    ends = (ip_address(src).packed, sport), (ip_address(dst).packed, dport)
    assert community_id(*ends, protocol=protocol, seed=seed) == f"1:{expected}"


def test_ipv6_over_tcp_is_the_hash_of_what_the_specification_lists() -> None:
    # Computed by hand: printf of seed, addresses, 06 00, ports | openssl sha1 -binary | base64.
    one, other = (ip_address(a).packed for a in ("2001:db8::1", "2001:db8::2"))
    expected = "1:q7rP3/mmBcQR2sWKjCG9IQ4gJVI="
    assert community_id((one, 1000), (other, 443), protocol=6) == expected
    assert community_id((other, 443), (one, 1000), protocol=6) == expected


ends = st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 65535))


@given(ends, ends, st.sampled_from([6, 17, 132]))
def test_both_directions_are_one_flow(one, other, protocol) -> None:
    assert community_id(one, other, protocol=protocol) == community_id(
        other, one, protocol=protocol
    )


def test_an_icmp_message_without_answer_has_a_direction() -> None:
    one, other = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    unreachable = community_id((one, 3), (other, 1), protocol=1)
    assert unreachable != community_id((other, 3), (one, 1), protocol=1)


@pytest.mark.parametrize(
    ("source", "destination", "protocol"),
    [
        ((b"\x01" * 4, 1), (b"\x01" * 16, 1), 6),
        ((b"", 1), (b"", 1), 6),
        ((b"\x01" * 4, 65536), (b"\x01" * 4, 1), 6),
        ((b"\x01" * 4, 1), (b"\x01" * 4, -1), 6),
        ((b"\x01" * 4, 1), (b"\x01" * 4, 1), 256),
    ],
)
def test_what_is_no_flow_is_refused(source, destination, protocol) -> None:
    with pytest.raises(ValueError, match="expected"):
        community_id(source, destination, protocol=protocol)
