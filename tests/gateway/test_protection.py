"""Who is the router: what its address is pinned to, not what an ARP forger says today."""

from dataclasses import replace

from ids_appliance.config import Protect
from ids_appliance.enforce.openflow_entries import fixed
from ids_appliance.gateway.protection import protected_sets, router_macs
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.protect import Place, Protection, SystemFound
from ids_appliance.types import Kind, Subject

ROUTER, FORGER = bytes([2, 0, 0, 0, 0, 1]), bytes([2, 0, 0, 0, 0, 0x66])
ADDRESS = bytes([192, 0, 2, 1])
TRUE = SystemFound(
    captured=("port0", "port1"),
    above=(("port0", "br0"), ("port1", "br0")),
    routers=(Place(ADDRESS, "br0", ROUTER),),
)
FOOLED = replace(TRUE, routers=(Place(ADDRESS, "br0", FORGER),))


def forger_is_somebody(settings: Protect) -> None:
    protection = Protection(settings, TRUE)
    protection.update(FOOLED, KnownHosts())
    assert router_macs(protection) == [ROUTER]
    sets = protected_sets(Guard(protection), FOOLED)
    for port in ("port0", "port1"):
        assert sets.refuses(Subject(Kind.MAC, FORGER, port)) is None
        assert sets.refuses(Subject(Kind.MAC, ROUTER, port)) == "protected MAC"


def test_who_fools_our_own_neighbour_table_does_not_become_the_router() -> None:
    forger_is_somebody(Protect())


def test_nor_where_nobody_is_protected_automatically() -> None:
    forger_is_somebody(Protect(automatic=False))


def test_a_router_that_was_not_seen_yet_is_learned() -> None:
    unseen = replace(TRUE, routers=(Place(ADDRESS, "br0"),))
    protection = Protection(Protect(), unseen)
    assert router_macs(protection) == []
    protection.update(TRUE, KnownHosts())
    assert router_macs(protection) == [ROUTER]


def test_a_reload_learns_the_router_anew() -> None:
    protection = Protection(Protect(), TRUE)
    protection.update(FOOLED, KnownHosts())
    protection.relearn()
    assert router_macs(protection) == [FORGER]


def test_nobody_else_answers_for_our_own_address_whatever_stands_on_a_switch() -> None:
    """Entries of a switch let hosts answer for protected addresses; who forges ours is cut off."""
    dns = bytes([203, 0, 113, 53])
    found = replace(TRUE, addresses=(bytes([192, 0, 2, 254]),), dns=(Place(dns),))
    sets = protected_sets(Guard(Protection(Protect(), found)), found)
    keys = [place.key for place in fixed(sets, discovery=1, leases=2)]
    assert [key for key in keys if "arp_spa=203.0.113.53" in key]
    assert [key for key in keys if "nw_src=192.0.2.254" in key]
    assert not [key for key in keys if "arp_spa=192.0.2.254" in key]
