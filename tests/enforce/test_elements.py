"""Subjects to set elements and back; who is protected, as sets and in code."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.config import Enforce
from ids_appliance.enforce.chains import Layout, chain_of
from ids_appliance.enforce.elements import (
    HOSTS,
    MAX_TIMEOUT_S,
    PORTS,
    SETS,
    Place,
    listed,
    places,
    quoted,
    seconds,
    subject_text,
    timed,
)
from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.owner import Owner, owner_of, this_process
from ids_appliance.enforce.protected import MAX_MACS, ProtectedSets
from ids_appliance.enforce.ruleset import table
from ids_appliance.errors import EnforceError
from ids_appliance.types import Kind, Response, Subject
from tests.net.namespaces import Network, require

NAMES = st.text("abcdefgh0123456789_.-@:+=#%~", min_size=1, max_size=15)
SUBJECTS = st.one_of(
    st.builds(Subject, st.just(Kind.MAC), st.binary(min_size=6, max_size=6), NAMES),
    st.builds(
        Subject,
        st.just(Kind.IPV4),
        st.binary(min_size=4, max_size=4),
        st.one_of(st.just(""), NAMES),
        proven=st.booleans(),
    ),
    st.builds(
        Subject,
        st.just(Kind.IPV6),
        st.binary(min_size=8, max_size=8),
        st.one_of(st.just(""), NAMES),
        proven=st.booleans(),
    ),
    st.builds(
        Subject,
        st.just(Kind.FLOOD),
        st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
        port=st.integers(0, 65535),
    ),
)


@given(SUBJECTS, st.sampled_from([Response.RATE_LIMIT, Response.QUARANTINE]), st.booleans())
def test_every_subject_has_its_places(subject: Subject, response: Response, routed: bool) -> None:
    found = places(subject, response, routed_ports=routed)
    assert found and len({place.table for place in found}) == len(found)
    for place in found:
        assert place.set in SETS[place.table]
        text = f"set x {{\n elements = {{ {place.key} timeout 10m expires 9m59s964ms }}\n}}"
        assert list(listed(text)) == [(place.key, 599.964)]
    beyond = not subject.interface and subject.kind is not Kind.FLOOD
    tables = {place.table for place in found}
    assert tables == ({PORTS, HOSTS} if subject.kind is Kind.FLOOD or (beyond and routed) else
                      {HOSTS} if beyond else {PORTS})  # fmt: skip
    assert not places(subject, Response.OBSERVE, routed_ports=routed)


@pytest.mark.net
@pytest.mark.parametrize(
    "left_s", [0.0, 0.5, 599.964, 100_000.5, 7 * 86_400.0, MAX_TIMEOUT_S, 1e12]
)
def test_the_kernel_takes_every_time(left_s: float) -> None:
    require()
    with Network("elt", "gw") as net, net.inside("gw"):
        nft = Nft()
        nft.run("add table ip t; add set ip t s { type ipv4_addr; flags timeout; }")
        nft.run(f"add element ip t s {{ {timed('192.0.2.1', max(left_s, 60.0))} }}")
        ((key, found_s),) = listed(nft.run("list set ip t s"))
    assert key == "192.0.2.1"
    assert found_s == pytest.approx(min(max(left_s, 60.0), MAX_TIMEOUT_S), abs=30)


@given(NAMES, NAMES)
def test_chains_of_two_ports_differ(one: str, other: str) -> None:
    assert (chain_of(one) == chain_of(other)) == (one == other)
    assert quoted(one) == f'"{one}"'


@given(st.text(max_size=20))
def test_no_name_breaks_out_of_its_quotes(name: str) -> None:
    try:
        text = quoted(name)
    except EnforceError:
        return
    assert text[1:-1] == name and not set(name) & set('"*\\;{}\n $/')


def test_what_the_kernel_lists() -> None:
    text = """table netdev t {
        set s {
            type ifname . ether_addr
            size 99
            flags timeout
            limit rate over 20/second
            elements = { "lan0" . 02:00:00:00:00:05 limit rate over 20/second timeout 10s expires 9s992ms,
                         "lan0" . 02:00:00:00:00:06 limit rate over 20/second burst 7 packets timeout 7d expires 6d23h59m1s,
                         "lan1" . 02:00:00:00:00:07 limit rate over 20/second }
        }
    }"""  # noqa: E501
    assert list(listed(text)) == [
        ('"lan0" . 02:00:00:00:00:05', 9.992),
        ('"lan0" . 02:00:00:00:00:06', 7 * 86400 - 59),
        ('"lan1" . 02:00:00:00:00:07', float("inf")),
    ]
    assert list(listed("table netdev t {\n set s {\n type ifname\n }\n}")) == []


@given(st.floats(0.001, 1e10))
def test_a_timeout_is_whole_milliseconds_and_never_none(left: float) -> None:
    _, _, text = timed("k", left).rpartition(" ")
    most = max(0.001, min(left, MAX_TIMEOUT_S))
    assert 0.001 <= seconds(text) <= most * (1 + 1e-12)  # as sums of floats go
    assert seconds(text) == pytest.approx(min(left, MAX_TIMEOUT_S), abs=0.002)
    # nft reads no number of more than eight digits.
    assert max(map(len, re.findall(r"\d+", text))) <= 8


def test_subjects_for_people() -> None:
    v6 = Subject(Kind.IPV6, bytes.fromhex("20010db800010002"))
    assert subject_text(v6) == "2001:db8:1:2::/64"
    assert subject_text(Subject(Kind.MAC, bytes(6), "lan0")) == "00:00:00:00:00:00@lan0"
    flood = Subject(Kind.FLOOD, bytes([192, 0, 2, 1]), port=80)
    assert subject_text(flood) == "192.0.2.1 port 80"


def test_a_place_is_told_by_all_three() -> None:
    assert Place("a", "b", "c") != Place("a", "b", "d")


def test_protected_networks_do_not_overlap_in_the_kernel() -> None:
    mac = bytes.fromhex("020000000001")
    protected = ProtectedSets(
        (
            ("lan0", None, "192.0.2.0/24"),
            ("lan0", None, "192.0.2.9"),
            ("lan0", None, "192.0.2.77/25"),
            ("lan1", None, "192.0.2.9"),
            ("lan0", mac, "192.0.2.9"),
            ("", None, "2001:db8::/32"),
            ("", None, "2001:db8:1::5"),
            ("lan0", mac, None),
        ),
        (("lan0", mac),),
        (mac,),
    )
    ports = protected.elements(PORTS)
    assert ports["protected4"] == ['"lan0" . 192.0.2.0/24', '"lan1" . 192.0.2.9']
    assert ports["protected_hosts4"] == ['"lan0" . 02:00:00:00:00:01 . 192.0.2.9']
    assert ports["protected_anywhere6"] == ["2001:db8::/32"]
    assert ports["protected_macs"] == ports["routers"] == ['"lan0" . 02:00:00:00:00:01']
    assert set(protected.elements(HOSTS)) < set(ports)


def test_of_too_many_macs_the_kernel_gets_the_first() -> None:
    many = [("lan0", b"\2\0\2" + n.to_bytes(3, "big"), None) for n in range(MAX_MACS)]
    router = bytes.fromhex("020000000001")
    macs = tuple(bytes([2, 9, 9, 9, n >> 8, n & 255]) for n in range(300))
    protected = ProtectedSets((("lan0", router, "192.0.2.1"), *many), (), macs)
    ports = protected.elements(PORTS)
    assert len(ports["protected_macs"]) == MAX_MACS and protected.left_out() == 1
    assert ports["protected_macs"][0] == '"lan0" . 02:00:00:00:00:01'
    layout = Layout(Enforce(), (), (), protected, synproxy=False, resets=False, owner="")
    text = table(layout, PORTS, {})
    for name, held in (("protected_macs", MAX_MACS), ("own_macs", len(macs))):
        size = re.search(rf"set {name} {{[^;]*; size (\d+)", text)
        assert size is not None and int(size[1]) >= held


@pytest.mark.parametrize(
    ("text", "subject", "refused"),
    [
        ("192.0.2.0/24", Subject(Kind.IPV4, bytes([192, 0, 2, 7])), True),
        ("192.0.2.0/24", Subject(Kind.IPV4, bytes([192, 0, 3, 7])), False),
        ("2001:db8:0:1::5", Subject(Kind.IPV6, bytes.fromhex("20010db800000001")), True),
        ("2001:db8:0:1::5", Subject(Kind.IPV6, bytes.fromhex("20010db800000002")), False),
        ("192.0.2.7", Subject(Kind.IPV4, bytes([192, 0, 2, 7]), "lan1"), False),
        ("192.0.2.7", Subject(Kind.IPV4, bytes([192, 0, 2, 7]), "lan0"), True),
        ("192.0.2.7", Subject(Kind.FLOOD, bytes([192, 0, 2, 7]), port=80), False),
    ],
)
def test_refused_in_code(text: str, subject: Subject, refused: bool) -> None:
    protected = ProtectedSets((("lan0", None, text),))
    assert bool(protected.refuses(subject)) is refused


@given(st.integers(0, 9), st.integers(1, 1 << 22), st.integers(0, 1 << 40))
def test_an_owner_is_read_back(schema: int, pid: int, start: int) -> None:
    owner = Owner(schema, pid, start, "01234567-89ab-cdef-0123-456789abcdef")
    listing = f'set owner {{\n comment "{owner.text()}"\n elements = {{ "lan0",\n "br0" }} }}'
    read = owner_of(listing)
    assert read == Owner(schema, pid, start, owner.boot, ("lan0", "br0"))
    assert len(owner.text()) < 128 and not owner.alive()


def test_we_are_alive_and_strangers_are_not_ours() -> None:
    mine = this_process(1)
    assert mine.alive() and not Owner(1, mine.pid, mine.start + 1, mine.boot).alive()
    assert owner_of('set owner { comment "somebody else" }') is None


def test_addresses_of_a_64_are_its_first() -> None:
    subject = Subject(Kind.IPV6, ipaddress.IPv6Address("2001:db8:1:2::").packed[:8])
    place = places(subject, Response.QUARANTINE, routed_ports=False)[0]
    assert place.key == "2001:db8:1:2::"
