"""The allow list: who is let off by somebody's word, and who only says so."""

import pytest

from ids_appliance.config import Enforce
from ids_appliance.errors import ConfigError, SubjectError
from ids_appliance.policy.allow import MAX_ENTRIES, Allowed, AllowList
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.guard import Ceilings, Guard
from ids_appliance.policy.protect import Protection
from ids_appliance.policy.subjects import parse
from ids_appliance.types import Kind, Response, Subject
from tests.policy.ledgers import FOUND, HOSTS, SETTINGS, device, ip, mac


@pytest.fixture
def protection() -> Protection:
    return Protection(SETTINGS, FOUND, hosts=HOSTS)


def add(rows: AllowList, protection: Protection, text: str, interface: str = "") -> Allowed:
    return rows.add(text, interface, comment="by test", now_ns=7, guard=protection)


def test_an_address_of_the_lan_is_bound_to_the_mac_that_has_it(protection: Protection) -> None:
    rows = AllowList()
    entry = add(rows, protection, "192.0.2.5")
    assert (entry.interface, entry.mac) == ("lan0", mac(5))
    view = protection.view
    assert rows.allows(device(5), ip("192.0.2.99"), view)
    assert not rows.allows(device(66), ip("192.0.2.5"), view)
    assert not rows.doubts(device(66), ip("192.0.2.5"), view)
    beyond = Subject(Kind.IPV4, ip("192.0.2.5"))
    assert not rows.allows(beyond, b"", view)


def test_an_address_that_nobody_was_seen_with_is_doubted_until_somebody_is(
    protection: Protection,
) -> None:
    rows = AllowList()
    assert add(rows, protection, "192.0.2.30") == Allowed("192.0.2.30", "lan0", b"", "by test", 7)
    assert not rows.allows(device(66), ip("192.0.2.30"), protection.view)
    assert rows.doubts(device(66), ip("192.0.2.30"), protection.view)
    protection.update(FOUND, KnownHosts({ip("192.0.2.30"): ("lan0", mac(30))}))
    assert not rows.doubts(device(66), ip("192.0.2.30"), protection.view)
    assert rows.allows(device(30), ip("192.0.2.30"), protection.view)


def test_addresses_and_networks_beyond_us(protection: Protection) -> None:
    rows = AllowList()
    add(rows, protection, "198.51.100.7")
    add(rows, protection, "203.0.113.0/24")
    for text, allowed in (("198.51.100.7", True), ("203.0.113.9", True), ("198.51.100.8", False)):
        subject = Subject(Kind.IPV4, ip(text))
        assert bool(rows.allows(subject, b"", protection.view)) is allowed
        assert not rows.allows(device(66), ip(text), protection.view)  # forged on the LAN


def test_a_mac_on_one_port_or_on_all(protection: Protection) -> None:
    rows = AllowList()
    add(rows, protection, "02:00:00:00:00:05@lan0")
    add(rows, protection, "02-00-00-00-00-06")
    assert rows.allows(device(5), b"", protection.view)
    assert not rows.allows(device(5, "lan1"), b"", protection.view)
    assert rows.allows(device(6, "lan1"), b"", protection.view)


def test_removed_as_it_was_added(protection: Protection) -> None:
    rows = AllowList()
    add(rows, protection, "02:00:00:00:00:05@lan0")
    add(rows, protection, "02:00:00:00:00:05@lan1")
    assert [e.interface for e in rows.remove("02-00-00-00-00-05@lan1")] == ["lan1"]
    assert len(rows.remove("02:00:00:00:00:05")) == 1
    with pytest.raises(SubjectError, match="allow list"):
        rows.remove("02:00:00:00:00:05")


def test_the_same_again_is_one_entry(protection: Protection) -> None:
    rows = AllowList()
    add(rows, protection, "192.0.2.5")
    rows.add("192.0.2.5", comment="\x1b[31mnew\n" + "x" * 999, now_ns=8, guard=protection)
    (entry,) = rows.entries()
    assert entry.comment.startswith("[31mnewxxx") and len(entry.comment) <= 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.0.0.0/0", "nearly everybody"),
        ("10.0.0.0/7", "nearly everybody"),
        ("2000::/3", "nearly everybody"),
        ("192.0.2.9:80", "flood"),
        ("everybody", "write an ADDRESS"),
    ],
)
def test_what_is_not_taken(protection: Protection, text: str, says: str) -> None:
    rows = AllowList()
    with pytest.raises(SubjectError, match=says):
        add(rows, protection, text)
    assert rows.entries() == []


def test_full(protection: Protection) -> None:
    rows = AllowList(Allowed(f"198.51.{n >> 8}.{n & 255}", comment="") for n in range(MAX_ENTRIES))
    with pytest.raises(SubjectError, match="full"):
        add(rows, protection, "203.0.113.9")
    add(rows, protection, "198.51.0.1")  # there already


def test_elements_for_the_kernel_bind_the_mac(protection: Protection) -> None:
    rows = AllowList()
    add(rows, protection, "192.0.2.5")
    add(rows, protection, "192.0.2.30")
    add(rows, protection, "198.51.100.7")
    assert set(rows.elements(protection.view)) == {
        ("lan0", mac(5), "192.0.2.5/32"),
        ("", None, "198.51.100.7/32"),
    }


# Orders: whom a text means -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("192.0.2.5", device(5)),
        ("02:00:00:00:00:05", device(5)),
        ("02:00:00:00:00:42@lan1", device(0x42, "lan1")),
        ("02:00:00:00:00:42@br0", device(0x42, "lan1")),
        ("198.51.100.7", Subject(Kind.IPV4, ip("198.51.100.7"))),
        ("2001:db8::9", Subject(Kind.IPV6, b"\x20\x01\x0d\xb8" + bytes(4))),
        ("2001:db8::/64", Subject(Kind.IPV6, b"\x20\x01\x0d\xb8" + bytes(4))),
    ],
)
def test_located(protection: Protection, text: str, subject: Subject) -> None:
    assert Guard(protection).locate(parse(text), text) == subject


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("02:00:00:00:00:42", r"write MAC@INTERFACE \(lan0, lan1\)"),
        ("02:00:00:00:00:42@wan0", "is not captured: write one of lan0, lan1"),
        ("192.0.2.77", "write its MAC"),
        ("198.51.100.0/24", "is a network: write one ADDRESS"),
        ("192.0.2.9:80", "is a victim"),
    ],
)
def test_not_located(protection: Protection, text: str, says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        Guard(protection).locate(parse(text), text)


# Ceilings ----------------------------------------------------------------------------------------


def test_ceilings_per_device(protection: Protection) -> None:
    enforce = Enforce(
        ceilings={
            "02:00:00:00:00:05": "rate_limit",
            "192.0.2.6": "observe",
            "198.51.100.0/24": "rate_limit",
        }
    )
    ceilings, guard = Ceilings(enforce), Guard(protection)

    def of(subject: Subject, address: bytes = b"") -> Response:
        return ceilings.of(subject, address, guard)[0]

    assert of(device(5)) is Response.RATE_LIMIT
    assert of(device(6), ip("192.0.2.6")) is Response.OBSERVE
    assert of(device(66), ip("192.0.2.6")) is Response.QUARANTINE  # it is known whose that is
    assert of(Subject(Kind.IPV4, ip("198.51.100.7"))) is Response.RATE_LIMIT
    assert of(device(7)) is Response.QUARANTINE


def test_a_bad_ceiling_is_named() -> None:
    with pytest.raises(ConfigError, match="enforce.ceilings: 'fridge'"):
        Ceilings(Enforce(ceilings={"fridge": "observe"}))
