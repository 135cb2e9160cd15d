"""Subjects: from records, from what people write, and back to text."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.errors import SubjectError
from ids_appliance.policy.subjects import (
    Named,
    identity,
    network_of,
    parse,
    subject_of,
    subject_text,
    told,
)
from ids_appliance.types import Kind, Standing, Subject
from tests.policy.ledgers import NAMES, device, flood, ip, lan, mac, wan, wan6


def names(index: int) -> str:
    return NAMES.get(index, "")


def test_a_device_is_its_mac_at_its_port() -> None:
    assert subject_of(lan(5), names) == device(5)


def test_an_address_beyond_us_is_proven_only_by_its_standing() -> None:
    unproven = subject_of(wan("198.51.100.7"), names)
    assert unproven == Subject(Kind.IPV4, ip("198.51.100.7"), proven=False)
    proven = subject_of(wan("198.51.100.7"), names, standing=Standing.PROVEN)
    assert proven == identity(unproven) != unproven


def test_ipv6_beyond_us_is_its_64() -> None:
    address = ipaddress.ip_address("2001:db8:1:2:3:4:5:6").packed
    subject = subject_of(wan6(address), names, standing=Standing.PROVEN)
    assert subject is not None and subject_text(subject) == "2001:db8:1:2::/64"


def test_a_flood_is_its_victim_and_port() -> None:
    subject = subject_of(flood("192.0.2.9", 443), names)
    assert subject is not None and subject_text(subject) == "192.0.2.9:443"
    assert told(subject) == "the flood of 192.0.2.9:443"


@pytest.mark.parametrize("record", [b"", bytes(27), bytes(28), lan(0)[:6] + bytes(22)])
def test_who_cannot_be_named_is_nobody(record: bytes) -> None:
    assert subject_of(record, names) is None


@given(st.binary(min_size=28, max_size=28), st.integers(0, 255))
def test_any_record_is_a_whole_subject_or_nobody(record: bytes, standing: int) -> None:
    subject = subject_of(record, names, standing=standing)
    if subject is not None:
        sizes = {Kind.MAC: {6}, Kind.IPV4: {4}, Kind.IPV6: {8}, Kind.FLOOD: {4, 16}}
        assert len(subject.value) in sizes[subject.kind]
        assert (subject.kind is Kind.FLOOD) == (subject.port > 0)


macs = st.binary(min_size=6, max_size=6)
subjects = st.one_of(
    st.builds(lambda v: Subject(Kind.MAC, v, interface="lan0"), macs),
    st.builds(lambda v: Subject(Kind.IPV4, v), st.binary(min_size=4, max_size=4)),
    st.builds(lambda v: Subject(Kind.IPV6, v), st.binary(min_size=8, max_size=8)),
    st.builds(
        lambda v, p: Subject(Kind.FLOOD, v, port=p),
        st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
        st.integers(1, 65535),
    ),
)


@given(subjects, subjects)
def test_what_is_shown_names_the_subject_again_and_no_other(one: Subject, other: Subject) -> None:
    named = parse(subject_text(one))
    assert named.means(one)
    if subject_text(one) != subject_text(other) and one.kind is other.kind is not Kind.IPV6:
        assert not named.means(other)


def test_a_mac_is_meant_by_its_latest_address() -> None:
    assert parse("192.0.2.5").means(device(5), ip("192.0.2.5"))
    assert not parse("192.0.2.5").means(device(5), ip("192.0.2.6"))
    assert not parse("192.0.2.5@lan1").means(device(5), ip("192.0.2.5"))


def test_forms_that_people_write() -> None:
    assert parse("02-00-00-00-00-05@lan0") == Named(mac=mac(5), interface="lan0")
    assert parse(" 02:00:00:00:00:05 ", "lan1") == Named(mac=mac(5), interface="lan1")
    assert parse("192.0.2.9").address == ip("192.0.2.9")
    assert parse("192.0.2.0/24").address == b""
    assert parse("[2001:db8::9]:80").port == 80


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write an ADDRESS"),
        ("toaster", "write an ADDRESS"),
        ("192.0.2.300", "write an ADDRESS"),
        ("192.0.2.9/24", "did you mean 192.0.2.0/24?"),
        ("192.0.2.9@", "is not an interface"),
        ("192.0.2.9@an interface", "is not an interface"),
        ("192.0.2.9:0", "1 .. 65535"),
        ("192.0.2.9:99999", "1 .. 65535"),
        ("02:00:00:00:00", "write an ADDRESS"),
        ("9" * 500, "too long"),
        ("192.0.2.9\n192.0.2.1", "write an ADDRESS"),
    ],
)
def test_what_names_nobody_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(SubjectError) as told_:
        parse(text)
    assert says in str(told_.value) and "\n" not in str(told_.value)


@given(st.text(max_size=60))
def test_any_text_names_somebody_or_is_refused(text: str) -> None:
    try:
        named = parse(text)
    except SubjectError:
        return
    assert bool(named.mac) != (named.network is not None)


def test_network_of_a_64() -> None:
    assert str(network_of(Subject(Kind.IPV6, bytes(8)))) == "::/64"
    assert network_of(device(5)) is None
