"""The drill's namespaces: joined to the bridge, gone again, and no real device hears of them."""

import os
from collections.abc import Iterator

import pytest

from ids_appliance.drill.frames import KINDS, frames
from ids_appliance.drill.place import MAC_A, MAC_V, Place
from ids_appliance.drill.run import _packets
from ids_appliance.errors import DrillError
from ids_appliance.lab.namespaces import inside, present, run
from tests.net.namespaces import Network, require, wait_for

pytestmark = pytest.mark.net

PLACE = Place(f"ids-drill{os.getpid() % 1000}")
BROADCAST = bytes([0xFF] * 6)


@pytest.fixture
def net() -> Iterator[Network]:
    require("bridge", "nft")
    with Network("dr", "gw", "real") as made:
        made.veth(("real", "eth0"), ("gw", "port1"))
        made.ip("gw", "link add br0 type bridge", "link set port1 master br0", "link set br0 up")
        try:
            yield made
        finally:
            with made.inside("gw"):
                PLACE.remove()


def got(socket_) -> list[bytes]:
    """What has come to a socket of the kinds that a test sends."""
    found = []
    while True:
        try:
            found.append(socket_.recv(58))  # padding may be gone
        except BlockingIOError:
            return [frame for frame in found if frame[6:12] == MAC_A]


def test_a_drill_reaches_its_victim_and_no_real_device(net: Network) -> None:
    real_mac = net.mac("real", "eth0")
    with net.inside("gw"):
        PLACE.prepare("br0")
        line = PLACE.line()
    assert line.next_hop == MAC_V
    real = net.packet_socket("real", "eth0")
    with real, _packets(PLACE.attacker) as out, _packets(PLACE.victim) as victim:
        seen: list[bytes] = []
        good = next(frames(KINDS["scan"], line))
        to_a_real_address = good[:30] + bytes([192, 0, 2, 9]) + good[34:]
        for mac in (
            real_mac,
            BROADCAST,
            bytes.fromhex("01005e000001"),
            bytes.fromhex("02ee00000001"),
        ):
            out.send(mac + good[6:])
            out.send(mac + to_a_real_address[6:])
        out.send(to_a_real_address)
        out.send(good[:6] + real_mac + good[12:])  # in another's name
        out.send(good)  # comes last, so the others have had their chance

        def arrived() -> bool:
            seen.extend(got(victim))
            return bool(seen)

        wait_for(arrived)
        assert seen == [good[:58]]
        # The bridge forwards in order: what is sent to the real device now comes after all that.
        with net.packet_socket("gw", "br0") as bridge:
            bridge.send(real_mac + MAC_A + good[12:])
        heard: list[bytes] = []
        wait_for(lambda: heard.extend(got(real)) or heard)
        assert heard == [real_mac + MAC_A + good[12:58]]


def test_it_is_made_anew_and_goes_without_a_trace(net: Network) -> None:
    with net.inside("gw"):
        before = run("nft", "list", "ruleset"), run("ip", "-br", "link", "show", "type", "veth")
        PLACE.prepare("br0")
        PLACE.prepare("br0")
        assert PLACE.attacker in run("bridge", "link")
        assert PLACE.remove()
        assert not PLACE.remove()
        assert (
            run("nft", "list", "ruleset"),
            run("ip", "-br", "link", "show", "type", "veth"),
        ) == (before)
        with pytest.raises(DrillError, match="drill prepare"):
            PLACE.line()
    assert not {PLACE.attacker, PLACE.victim} & present()


def test_a_gateway_that_routes_gives_it_networks_of_its_own(net: Network) -> None:
    with net.inside("gw"):
        PLACE.prepare()
        line = PLACE.line()
        assert line.next_hop not in (MAC_A, MAC_V) and line.claimed == bytes([198, 18, 213, 1])
        assert "198.18.213.1/30" in run("ip", "addr", "show", "dev", PLACE.attacker)
    with inside(PLACE.attacker):
        assert "default via 198.18.213.1" in run("ip", "route")


@pytest.mark.parametrize("name", ["eth0", "ids-drill" + "x" * 10, "ids-drill;a"])
def test_a_name_is_always_a_drills(name: str) -> None:
    with pytest.raises(DrillError, match="begins with"):
        Place(name).prepare("br0")


def test_what_cannot_be_made_leaves_nothing(net: Network) -> None:
    with net.inside("gw"), pytest.raises(DrillError, match="cannot be made"):
        PLACE.prepare("no-such-br")
    assert not {PLACE.attacker, PLACE.victim} & present()
