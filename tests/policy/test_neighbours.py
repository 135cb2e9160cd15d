"""The kernel's neighbour table where an order names an address that nobody was seen to use."""

from collections.abc import Sequence

import pytest

from ids_appliance.config import Enforce, Protect
from ids_appliance.errors import Refused, SubjectError
from ids_appliance.policy.book import Clock
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.ledger import Ledger
from ids_appliance.policy.neighbours import Neighbour
from ids_appliance.policy.protect import Protection
from ids_appliance.types import Response, Subject
from tests.policy.ledgers import FOUND, HOSTS, NAMES, SETTINGS, S, World, device, ip, mac

UNSEEN = "192.0.2.77"
HEARD = Neighbour("lan0", ip(UNSEEN), mac(0x77))


def ledger(
    neighbours: Sequence[Neighbour] = (HEARD,),
    *,
    hosts: KnownHosts = HOSTS,
    protect: Protect = SETTINGS,
    enforce: Enforce | None = None,
) -> Ledger:
    return Ledger(
        World().policy,
        enforce or Enforce(enabled=True),
        guard=Guard(Protection(protect, FOUND, hosts=hosts), neighbours=lambda: neighbours),
        names=lambda index: NAMES.get(index, ""),
        clock=Clock(now=lambda: 1000 * S, wall=lambda: 10**18),
    )


def cut(made: Ledger, text: str = UNSEEN) -> Subject:
    (decision,) = made.quarantine(text, 600.0).apply
    return decision.subject


def test_an_address_that_was_not_seen_is_whose_the_kernel_says() -> None:
    made = ledger()
    effect = made.quarantine(UNSEEN, 600.0)
    (decision,) = effect.apply
    assert decision.subject == device(0x77) and decision.response is Response.QUARANTINE
    assert effect.message == (
        "02:00:00:00:00:77@lan0, 192.0.2.77 by the kernel's neighbour table, is cut off for 10 min"
    )
    assert made.why(UNSEEN).active is not None
    assert [one.subject for one in made.release(UNSEEN).ended] == [device(0x77)]


def test_what_was_seen_comes_before_what_the_kernel_was_told() -> None:
    forged = [HEARD, Neighbour("lan0", ip("192.0.2.5"), mac(0x66))]
    made = ledger(forged)
    effect = made.quarantine("192.0.2.5", 600.0)
    assert [one.subject for one in effect.apply] == [device(5)]
    assert "neighbour" not in effect.message


@pytest.mark.parametrize(
    ("neighbours", "says"),
    [
        ((), "write its MAC or MAC@INTERFACE"),
        ([HEARD._replace(interface="wan0")], "write its MAC or MAC@INTERFACE"),
        ([HEARD._replace(interface="")], "write its MAC or MAC@INTERFACE"),
        ([HEARD._replace(mac=bytes(6))], "write its MAC or MAC@INTERFACE"),
        ([HEARD._replace(mac=b"\x01" + bytes(5))], "write its MAC or MAC@INTERFACE"),
        # A forger has put a victim's MAC beside an address of his own.
        (
            [HEARD, Neighbour("lan0", ip("192.0.2.80"), mac(0x77))],
            "02:00:00:00:00:77, but for 192.0.2.80 as well: write its MAC@INTERFACE",
        ),
        (
            [HEARD, HEARD._replace(interface="lan1", mac=mac(0x78))],
            "02:00:00:00:00:77, 02:00:00:00:00:78, at one of lan0, lan1: write MAC@INTERFACE",
        ),
        ([HEARD, HEARD._replace(interface="lan1")], "at one of lan0, lan1: write MAC@INTERFACE"),
    ],
)
def test_what_the_kernel_cannot_say(neighbours: Sequence[Neighbour], says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        ledger(neighbours).quarantine(UNSEEN, 600.0)


def test_each_device_has_a_link_local_address_as_well() -> None:
    one, own = bytes.fromhex("20010db8") + bytes(11) + b"\7", bytes.fromhex("fe80") + bytes(14)
    table = [HEARD, *(Neighbour("lan0", a, mac(0x77)) for a in (one, own, ip("169.254.1.1")))]
    assert cut(ledger(table)) == device(0x77)
    assert cut(ledger(table), "2001:db8::7@lan0") == device(0x77)


def test_an_interface_that_is_written_counts() -> None:
    on_bridge = HEARD._replace(interface="br0")
    assert cut(ledger([on_bridge]), f"{UNSEEN}@lan1") == device(0x77, "lan1")
    both = [HEARD, on_bridge._replace(mac=mac(0x78))]
    assert cut(ledger(both), f"{UNSEEN}@br0") == device(0x78, "lan1")
    with pytest.raises(SubjectError, match="was not seen"):
        ledger([on_bridge]).quarantine(f"{UNSEEN}@lan0", 600.0)


@pytest.mark.parametrize(
    ("address", "n", "why"),
    [
        # Configured, and never seen: whoever answers for the address may be the administrator.
        ("192.0.2.10", 0x10, "administrator"),
        # The router's and our own MAC beside an address that is nobody's.
        (UNSEEN, 1, "default router"),
        (UNSEEN, 254, "our own MAC"),
        (UNSEEN, 9, "administrator"),
    ],
)
def test_who_is_protected_stays_so_whatever_the_table_says(address: str, n: int, why: str) -> None:
    with pytest.raises(Refused, match=why):
        ledger([Neighbour("lan0", ip(address), mac(n))]).quarantine(address, 600.0)


def test_who_is_allowed_but_was_not_seen_is_not_cut_off() -> None:
    made = ledger()
    made.allow_add(UNSEEN)
    with pytest.raises(Refused, match="may be somebody's who is let off"):
        made.quarantine(UNSEEN, 600.0)


def test_a_ceiling_of_an_address_binds() -> None:
    enforce = Enforce(enabled=True, ceilings={UNSEEN: "rate_limit"})
    with pytest.raises(Refused, match="ceiling"):
        ledger(enforce=enforce).quarantine(UNSEEN, 600.0)


def test_beyond_us_the_table_is_not_asked() -> None:
    def asked() -> Sequence[Neighbour]:
        raise AssertionError("nobody's neighbour")

    guard = Guard(Protection(SETTINGS, FOUND, hosts=HOSTS), neighbours=asked)
    made = ledger()
    made.guard = guard
    assert cut(made, "198.51.100.7").value == ip("198.51.100.7")
    assert cut(made, "02:00:00:00:00:42@lan0") == device(0x42)
