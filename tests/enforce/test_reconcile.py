"""Kernel against intention: whatever is done behind our back is seen, said and put right."""

import os
import signal
import subprocess
import sys
import time
from itertools import count

import pytest

from ids_appliance.config import Enforce
from ids_appliance.enforce.elements import TABLES, Place
from ids_appliance.enforce.generation import generation
from ids_appliance.enforce.intention import Standing
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.reconcile import Moment, difference, repairs
from ids_appliance.enforce.remove import remove_all
from ids_appliance.errors import EnforceError
from ids_appliance.types import Kind, Subject
from tests.enforce.conftest import Scene, decide
from tests.enforce.traffic import answered, pings

HARMS = (
    ("delete table netdev ids_ports", True),
    ("delete table inet ids_hosts", True),
    ("flush ruleset", True),
    ("flush table netdev ids_ports", True),
    ("flush chain inet ids_hosts beyond4", True),
    ("delete chain netdev ids_ports on_lan1", True),
    ("add rule netdev ids_ports screen accept", True),
    ("insert rule inet ids_hosts arriving accept", True),
    ("flush set netdev ids_ports protected_hosts4", True),
    ("flush set netdev ids_ports lan_quarantine", False),
    ("flush set inet ids_hosts wan_quarantine4", False),
    ('add element netdev ids_ports lan_quarantine { "lan1" . 02:00:00:00:00:99 }', False),
    ("add element inet ids_hosts wan_limited4 { 10.9.9.9 timeout 1h }", False),
)
"""What another's hand can do -> whether the tables have to be made anew."""


def mac(number: int, interface: str = "lan1") -> Subject:
    return Subject(Kind.MAC, b"\2\0\1" + number.to_bytes(3, "big"), interface)


def wan(number: int) -> Subject:
    return Subject(Kind.IPV4, bytes([10, *number.to_bytes(3, "big")]))


def test_difference_and_repair() -> None:
    at = [Place(TABLES[0], "lan_quarantine", f"k{i}") for i in range(6)]
    standing = [Standing(decide(mac(i)), 100.0 + i, (at[i],), i) for i in range(4)]
    listed = {at[0]: 90.0, at[1]: 50.0, at[4]: 90.0, at[5]: 1.0}
    found = difference(standing, listed, at=Moment(10.0), inherited={})
    assert (found.intended, found.found) == (4, 1)
    assert found.missing == {at[1]: 91.0, at[2]: 92.0, at[3]: 93.0}
    assert (found.stale, found.foreign) == ([at[1]], [at[4]])  # at[5] is about to end by itself
    away, back = repairs(found)
    assert all(key in away for key in ("k1", "k4")) and "k0" not in away + back
    assert "k2 timeout 0d92s0ms" in back
    kept = difference(standing, listed, at=Moment(10.0), inherited={at[4]: 90.0})
    assert kept.foreign == []


def test_what_took_its_time_is_not_wrong() -> None:
    quick, slow = Moment(10.0), Moment(10.0, took_s=5.0, late_s=20.0)
    for has, fits_quick, fits_slow in (
        (100.0, True, True),
        (94.0, False, True),  # listed five seconds later
        (92.0, False, False),
        (121.0, False, True),  # the kernel had it twenty seconds late
        (123.0, False, False),
    ):
        assert (quick.fits(100.0, has), slow.fits(100.0, has)) == (fits_quick, fits_slow), has
    assert not quick.fits(4.0, None) and slow.fits(4.0, None), "ended while it was listed"
    assert not slow.fits(6.0, None)


@pytest.mark.net
class TestTheKernel:
    """Each thing that another's hand can do."""

    def test_harm_is_seen_and_repaired(self, routed: Scene) -> None:
        known = (("lan0", routed.mac("dev"), "192.0.2.2"),)
        enforcer = routed.enforcer(protected=routed.protected(*known))
        bad = Subject(Kind.MAC, routed.mac("bad"), "lan1")
        routed.apply(enforcer, decide(bad), decide(wan(1)))
        for harm, rebuilt in HARMS:
            with routed.net.inside("gw"):
                enforcer.reconcile()
                assert enforcer.reconcile().repaired == 0, harm
            routed.notes.clear()
            routed.nft(enforcer, harm)
            with routed.net.inside("gw"):
                seen = enforcer.reconcile()
                again = enforcer.reconcile()
            assert seen.rebuilt is rebuilt, harm
            assert rebuilt or seen.repaired == 1, harm
            assert (again.intended, again.found, again.foreign, again.rebuilt) == (2, 2, 0, False)
            assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0, harm
            assert rebuilt is any(kind == "rebuilt" for kind, _ in routed.notes), harm

    def test_a_slow_machine_is_no_harm(self, routed: Scene) -> None:
        ticks = count()
        enforcer = routed.enforcer(protected=ProtectedSets(), clock=lambda: next(ticks) * 0.05)
        decisions = [decide(mac(number), for_s=60.0) for number in range(200)]
        assert all(answer.done for answer in routed.apply(enforcer, *decisions))
        assert next(ticks) > 200, "some ten seconds have passed, by that clock"
        with routed.net.inside("gw"):
            enforcer.settle()
            seen = enforcer.reconcile()
        assert (seen.intended, seen.found, seen.repaired) == (200, 200, 0)

    def test_others_tables_are_left_alone(self, routed: Scene) -> None:
        enforcer = routed.enforcer()
        theirs = "table inet theirs { \nchain c { type filter hook input priority 0; accept; }\n}"
        routed.nft(enforcer, theirs)
        with routed.net.inside("gw"):
            enforcer.reconcile()
            enforcer.clear()
            assert remove_all() == []
        assert routed.nft(enforcer, "list ruleset").count("table") == 1

    def test_an_interface_that_is_made_again_is_enforced_again(self, routed: Scene) -> None:
        enforcer = routed.enforcer()
        bad = Subject(Kind.MAC, routed.mac("bad"), "lan1")
        routed.apply(enforcer, decide(bad))
        assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0
        hardware = routed.mac("bad").hex(":")
        routed.net.ip("gw", "link del lan1")
        with routed.net.inside("gw"):
            gone = enforcer.reconcile()
            assert (gone.intended, gone.rebuilt) == (1, True)
        routed.net.veth(("bad", "eth0"), ("gw", "lan1"))
        routed.net.ip("bad", f"link set eth0 address {hardware}", "addr add 192.0.3.66/24 dev eth0")
        routed.net.ip("bad", "route add default via 192.0.3.1")
        routed.net.ip("gw", "addr add 192.0.3.1/24 dev lan1")
        with routed.net.inside("gw"):
            back = enforcer.reconcile()
            assert back.rebuilt and enforcer.reconcile().found == 1
        assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0
        with routed.net.inside("gw"):
            enforcer.release([bad])
        assert answered(routed.net, "bad", "192.0.2.2")

    def test_the_same_ports_again_change_nothing(self, routed: Scene) -> None:
        enforcer = routed.enforcer()
        with routed.net.inside("gw"):
            before = generation()
            enforcer.set_interfaces(["lan0", "lan1"])
            assert generation() == before
            enforcer.set_interfaces(["lan0"])
            assert generation() != before

    def test_a_bad_element_costs_itself_only(self, routed: Scene) -> None:
        enforcer = routed.enforcer()
        # The set of another type than ours makes one of three elements impossible.
        routed.nft(enforcer, "flush chain netdev ids_ports ipv4")
        routed.nft(enforcer, "delete set netdev ids_ports lan_quarantine4")
        answers = routed.apply(
            enforcer,
            decide(mac(1)),
            decide(Subject(Kind.IPV4, bytes([10, 0, 0, 9]), "lan1")),
            decide(wan(1)),
        )
        assert all(a.done for a in answers)  # the tables are made anew first
        with routed.net.inside("gw"):
            assert enforcer.reconcile().found == 3

    def test_a_set_filled_by_others_loses_the_weakest(self, routed: Scene) -> None:
        enforcer = routed.enforcer(Enforce(flood_set=1))  # 65 elements fit into the kernel's
        keys = ", ".join(f"10.0.0.{i} . 80 timeout 1h" for i in range(1, 65))
        routed.nft(enforcer, f"add element inet ids_hosts flood4 {{ {keys} }}")
        flood = Subject(Kind.FLOOD, bytes([192, 0, 2, 2]), port=80)
        answers = routed.apply(enforcer, decide(flood), decide(mac(1)), decide(wan(1)))
        assert [a.done for a in answers] == [True, True, True]
        more = ", ".join(f"10.0.1.{i} . 80 timeout 1h" for i in range(1, 2))
        with pytest.raises(EnforceError):
            routed.nft(enforcer, f"add element inet ids_hosts flood4 {{ {more} }}")
        other = Subject(Kind.FLOOD, bytes([192, 0, 2, 3]), port=80)
        answers = routed.apply(enforcer, decide(mac(2)), decide(other, score=9.0), decide(wan(2)))
        assert [a.done for a in answers] == [True, True, True]
        with routed.net.inside("gw"):
            enforcer.reconcile()
            assert enforcer.reconcile().found == 5


@pytest.mark.net
class TestOwners:
    """Whose tables they are."""

    RUN = (
        "import sys,time;from ids_appliance.config import Enforce\n"
        "from ids_appliance.enforce.nftables import NftEnforcer\n"
        "from ids_appliance.enforce.protected import ProtectedSets\n"
        "from ids_appliance.types import *\n"
        "e=NftEnforcer(Enforce(),interfaces=['lan0','lan1'],protected=ProtectedSets(),"
        "clock=time.monotonic)\n"
        "e.open()\n"
        "m=bytes.fromhex(sys.argv[1])\n"
        "e.apply([Decision(1,Subject(Kind.MAC,m,'lan1'),Response.QUARANTINE,3600.0,'x')])\n"
        "print('up',flush=True);time.sleep(3600)\n"
    )

    def other(self, scene: Scene) -> subprocess.Popen[bytes]:
        words = scene.net.command("gw", sys.executable, "-c", self.RUN, scene.mac("bad").hex())
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        return process

    def test_a_second_gateway_is_refused_and_a_dead_ones_bans_are_kept(self, routed: Scene) -> None:
        process = self.other(routed)
        try:
            with pytest.raises(EnforceError, match=r"another gateway \(pid \d+, on lan0, lan1\)"):
                routed.enforcer()
            assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0  # nobody runs, the ban holds
        enforcer = routed.enforcer()
        assert any(kind == "taken_over" for kind, _ in routed.notes)
        with routed.net.inside("gw"):
            enforcer.reconcile()
            assert enforcer.counters()["inherited"] == 1
        assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0  # no gap while the ledger loads
        bad = Subject(Kind.MAC, routed.mac("bad"), "lan1")
        routed.apply(enforcer, decide(bad), decide(mac(1)))
        with routed.net.inside("gw"):
            enforcer.settle()
            state = enforcer.reconcile()
        assert (state.intended, state.found, state.foreign) == (2, 2, 0)

    def test_what_the_ledger_does_not_name_goes_once_it_has_spoken(self, routed: Scene) -> None:
        process = self.other(routed)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        enforcer = routed.enforcer()
        assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0
        with routed.net.inside("gw"):
            enforcer.settle()
            assert enforcer.reconcile().foreign == 1
        assert answered(routed.net, "bad", "192.0.2.2")

    def test_a_table_of_our_name_that_is_not_ours_is_in_the_way(self, routed: Scene) -> None:
        run = ["nft", "add table inet ids_hosts"]
        subprocess.run(routed.net.command("gw", *run), check=True)
        with pytest.raises(EnforceError, match="not ours"):
            routed.enforcer()
        with routed.net.inside("gw"):
            assert remove_all() == []
        listed = subprocess.run(
            routed.net.command("gw", "nft", "list", "tables"), capture_output=True, check=True
        )
        assert listed.stdout.split() == [b"table", b"inet", b"ids_hosts"]

    def test_an_older_schema_is_made_anew_with_its_bans(self, routed: Scene) -> None:
        old = (
            'table netdev ids_ports { \nset owner { type ifname; comment "ids-appliance schema 0 '
            'pid 1 start 1 boot 0"; }\nset lan_quarantine { type ifname . ether_addr; '
            f'flags timeout; elements = {{ "lan1" . {routed.mac("bad").hex(":")} timeout 1h }}; }}'
            "\n}"
        )
        subprocess.run(routed.net.command("gw", "nft", old), check=True)
        enforcer = routed.enforcer()
        assert pings(routed.net, "bad", "192.0.2.2", count=1) == 0
        assert "schema 2" in routed.nft(enforcer, "list set netdev ids_ports owner")

    def test_panic_works_with_the_gateway_dead(self, routed: Scene) -> None:
        process = self.other(routed)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with routed.net.inside("gw"):
            assert remove_all() == list(TABLES)
            assert remove_all() == []
        assert answered(routed.net, "bad", "192.0.2.2")


@pytest.mark.net
@pytest.mark.nightly
def test_ten_thousand_decisions_half_deleted(routed: Scene) -> None:
    enforcer = routed.enforcer(Enforce(lan_set=16_384), protected=ProtectedSets())
    decisions = [decide(mac(i)) for i in range(5000)] + [decide(wan(i)) for i in range(5000)]
    start = time.monotonic()
    assert all(a.done for a in routed.apply(enforcer, *decisions))
    print(f"applied in {time.monotonic() - start:.2f} s")

    def recovered(what: str) -> float:
        with routed.net.inside("gw"):
            start = time.monotonic()
            seen = enforcer.reconcile()
            took = time.monotonic() - start
            again = enforcer.reconcile()
        print(f"{what}: {seen.found} of {seen.intended} found, repaired in {took:.2f} s")
        assert (again.intended, again.found, again.foreign) == (10_000, 10_000, 0)
        return took

    recovered("first look")
    half = ", ".join(f'"lan1" . {mac(i).value.hex(":")}' for i in range(2500))
    routed.nft(enforcer, f"delete element netdev ids_ports lan_quarantine {{ {half} }}")
    half = ", ".join(f"10.0.{i >> 8}.{i & 255}" for i in range(2500))
    routed.nft(enforcer, f"delete element inet ids_hosts wan_quarantine4 {{ {half} }}")
    times = [recovered("half deleted")]
    routed.nft(enforcer, "flush table netdev ids_ports")
    times.append(recovered("table flushed"))
    routed.nft(enforcer, "delete table inet ids_hosts")
    times.append(recovered("table deleted"))
    routed.net.ip("gw", "link del lan1")
    routed.net.veth(("bad", "eth0"), ("gw", "lan1"))
    times.append(recovered("interface made again"))
    assert max(times) < 5.0
