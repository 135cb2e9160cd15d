"""Who is never cut off, and that nobody becomes one of them by what they write into a packet."""

import ipaddress
from dataclasses import replace

import pytest

from ids_appliance.config import Protect
from ids_appliance.errors import ConfigError
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.protect import Place, Protection, SystemFound
from ids_appliance.types import Kind, Subject
from tests.policy.ledgers import ADMIN, FOUND, HOSTS, ROUTER, SETTINGS, device, ip, mac


def address(text: str, *, interface: str = "") -> Subject:
    return Subject(Kind.IPV4, ip(text), interface=interface)


def sixty_four(text: str) -> Subject:
    return Subject(Kind.IPV6, ipaddress.ip_address(text).packed[:8])


@pytest.fixture
def protection() -> Protection:
    return Protection(SETTINGS, FOUND, hosts=HOSTS)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (address("127.0.0.1"), "loopback"),
        (address("0.0.0.0"), "unspecified"),
        (address("224.0.0.251"), "multicast"),
        (address("255.255.255.255"), "broadcast"),
        (address("240.0.0.1"), "reserved"),
        (address("255.255.255.254"), "reserved"),
        (sixty_four("::1"), "loopback"),
        (sixty_four("fe80::1"), "link-local"),
        (sixty_four("ff02::1"), "multicast"),
        (Subject(Kind.MAC, b"\xff" * 6, interface="lan0"), "group address"),
        (Subject(Kind.MAC, b"\1\0\x5e\0\0\1", interface="lan0"), "group address"),
        (Subject(Kind.MAC, bytes(6), interface="lan0"), "group address"),
        (device(254), "our own MAC"),
        (address("203.0.113.254"), "our own address"),
        (device(1), "default router"),
        (address("203.0.113.1"), "default router"),
        (address("198.51.100.53"), "DNS server"),
        (address("203.0.113.40"), "node"),
        (address("198.51.100.130"), "administrator"),
    ],
)
def test_refused(protection: Protection, subject: Subject, why: str) -> None:
    assert why in (protection.refuses(subject) or "")


def test_others_are_not(protection: Protection) -> None:
    for subject in (device(5), address("198.51.100.7"), sixty_four("2001:db8::")):
        assert protection.refuses(subject) is None
    assert protection.refuses(Subject(Kind.FLOOD, ip("192.0.2.1"), port=80)) is None


@pytest.mark.parametrize(
    "claimed", ["192.0.2.1", "192.0.2.254", "198.51.100.53", "203.0.113.40", "198.51.100.130"]
)
def test_a_device_that_forges_a_protected_address_is_not_protected(
    protection: Protection, claimed: str
) -> None:
    assert protection.refuses(device(66), ip(claimed)) is None
    assert protection.doubts(device(66), ip(claimed)) is None


def test_an_administrator_on_the_lan_is_known_by_the_mac_that_has_the_address(
    protection: Protection,
) -> None:
    assert "administrator" in (protection.refuses(device(9), ip("192.0.2.9")) or "")
    # Also where its latest packets were of another family, or nobody looked at them.
    assert "administrator" in (protection.refuses(device(9), bytes(16)) or "")
    assert "administrator" in (protection.refuses(device(9)) or "")
    assert protection.refuses(device(66), ip("192.0.2.9")) is None
    # Nobody is known to have .10: whoever says so is limited at most, and not let off.
    assert protection.refuses(device(66), ip("192.0.2.10")) is None
    assert "administrator" in (protection.doubts(device(66), ip("192.0.2.10")) or "")
    # The network is one of lan0 only.
    assert protection.doubts(device(66, "lan1"), ip("192.0.2.10")) is None


def test_the_routers_mac_on_another_port_is_somebody_elses(protection: Protection) -> None:
    assert protection.refuses(device(1, "lan1")) is None


def test_an_address_of_the_protected_side_seen_from_beyond_is_never_cut_off(
    protection: Protection,
) -> None:
    assert "from beyond" in (protection.refuses(address("192.0.2.77")) or "")


def test_who_forges_a_devices_address_from_beyond_may_be_limited_in_new_flows(
    protection: Protection,
) -> None:
    forger = replace(address("192.0.2.77"), proven=False)
    assert protection.refuses(forger) is None
    assert protection.refuses(replace(forger, value=ip("192.0.2.254"))) == "our own address"


def test_a_64_that_holds_somebody_protected_is_refused() -> None:
    node = ipaddress.ip_address("2001:db8:7::40").packed
    protection = Protection(Protect(), replace(FOUND, nodes=(Place(node),)))
    assert protection.refuses(sixty_four("2001:db8:7::")) == "node"


def test_who_becomes_the_router_in_the_neighbour_table_is_not_protected(
    protection: Protection,
) -> None:
    spoofed = replace(FOUND, routers=(Place(ip("192.0.2.1"), "lan0", mac(66)),))
    told = protection.update(spoofed, HOSTS)
    assert len(told) == 1 and mac(66).hex(":") in told[0] and "reload" in told[0]
    assert protection.update(spoofed, HOSTS) == []  # once
    assert protection.refuses(device(66), ip("192.0.2.1")) is None
    assert protection.refuses(device(1), ip("192.0.2.1")) == "default router"


def test_a_contradiction_stands_until_it_is_gone_and_beyond_us_there_is_none(
    protection: Protection,
) -> None:
    near, far = FOUND.routers
    swapped = replace(FOUND, routers=(replace(near, mac=mac(66)), replace(far, mac=mac(78))))
    protection.update(swapped, HOSTS)
    protection.update(swapped, HOSTS)
    (line,) = protection.contradicted  # of the other the address alone protects
    assert "192.0.2.1 now answers" in line
    assert protection.refuses(address("203.0.113.1")) == "default router"
    protection.update(FOUND, HOSTS)
    assert protection.contradicted == ()


def test_a_replaced_router_is_taken_on_when_somebody_says_so(protection: Protection) -> None:
    replaced = replace(FOUND, routers=(Place(ip("192.0.2.1"), "lan0", mac(66)),))
    protection.update(replaced, HOSTS)
    protection.relearn()
    assert protection.update(replaced, HOSTS) == []
    assert protection.refuses(device(66)) == "default router"


def test_pins_of_an_earlier_run_hold_at_a_start_under_attack() -> None:
    spoofed = replace(FOUND, routers=(Place(ip("192.0.2.1"), "lan0", mac(66)),))
    earlier = Protection(Protect(), FOUND).pins
    started = Protection(Protect(), spoofed, pins=earlier)
    assert started.refuses(device(66)) is None
    assert started.refuses(device(1)) == "default router"


def test_a_router_whose_mac_nobody_knows_is_doubted_not_let_off() -> None:
    unknown = replace(FOUND, routers=(Place(ip("192.0.2.1"), "lan0"),))
    protection = Protection(Protect(), unknown)
    assert protection.refuses(device(66), ip("192.0.2.1")) is None
    assert protection.doubts(device(66), ip("192.0.2.1")) == "default router"
    known = KnownHosts({ip("192.0.2.1"): ("lan0", ROUTER)})
    protection.update(unknown, known)
    assert protection.doubts(device(66), ip("192.0.2.1")) is None
    assert protection.refuses(device(1), ip("192.0.2.1")) == "default router"


def test_a_bridge_means_its_ports() -> None:
    found = replace(FOUND, routers=(Place(ip("192.0.2.1"), "br0", ROUTER),))
    protection = Protection(Protect(), found)
    assert protection.refuses(device(1, "lan1")) == "default router"
    assert protection.refuses(device(1, "lan0")) is None


def test_sessions_protect_their_peers() -> None:
    peers = (Place(ip("198.51.100.200")), Place(ip("192.0.2.7"), "lan0", mac(7)))
    found = replace(FOUND, sessions=peers)
    anybody = Protection(Protect(), found)
    assert anybody.refuses(address("198.51.100.200")) == "logged in here"
    assert anybody.refuses(device(7)) == "logged in here"
    only = Protection(Protect(administrators=("198.51.100.192/26",)), found)
    assert only.refuses(address("198.51.100.200")) == "logged in here"
    assert only.refuses(device(7)) is None


def test_what_is_not_looked_for_is_not_protected_but_ourselves_always() -> None:
    protection = Protection(Protect(automatic=False), FOUND)
    assert protection.refuses(device(1)) is None
    assert protection.refuses(device(254)) == "our own MAC"


def test_configured_addresses_and_macs() -> None:
    settings = Protect(
        addresses=("198.51.100.9", "192.0.2.6", "203.0.113.9@wan0"),
        macs=("02:00:00:00:00:33@lan0",),
    )
    protection = Protection(settings, FOUND, hosts=HOSTS)
    assert protection.refuses(address("198.51.100.9"))
    assert protection.refuses(address("203.0.113.9"))
    assert protection.refuses(device(6))
    assert protection.refuses(device(0x33)) and not protection.refuses(device(0x33, "lan1"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Protect(administrators=("here",)), "protect.administrators"),
        (Protect(addresses=("02:00:00:00:00:01",)), "write an address"),
        (Protect(addresses=("192.0.2.1:80",)), "write an address"),
        (Protect(macs=("192.0.2.1",)), "write MAC@INTERFACE"),
    ],
)
def test_bad_settings_are_named(settings: Protect, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Protection(settings, FOUND)


def test_the_kernel_gets_no_address_of_the_lan_without_its_mac(protection: Protection) -> None:
    elements = protection.elements()
    assert all(e.mac is not None for e in elements if e.interface)
    assert ("lan0", ROUTER, "192.0.2.1/32") in elements
    assert ("lan0", ADMIN, "192.0.2.9") in elements
    assert ("", None, "198.51.100.53/32") in elements
    assert ("", None, "198.51.100.128/25") in elements
    lan_side = ipaddress.ip_network("192.0.2.0/24")
    for element in elements:
        if not element.interface and element.network != "192.0.2.254/32":
            assert not lan_side.overlaps(ipaddress.ip_network(element.network or "::/0"))


def test_nothing_found_protects_nobody_but_what_never_can_be_a_sender() -> None:
    protection = Protection(Protect(), SystemFound())
    assert protection.refuses(device(1)) is None
    assert protection.refuses(address("127.0.0.1"))
    assert protection.elements() == ()
