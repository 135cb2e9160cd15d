"""Interfaces as netlink describes them: names, bridges, identities; without a kernel to ask."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance._features import HostIdentity
from ids_appliance.capture import interfaces, ring
from ids_appliance.capture.netlink import Link, attributes, links, messages
from ids_appliance.errors import InterfaceError


def link(index: int, name: str, *, master: int = 0, kind: str = "", lower: int = 0) -> Link:
    return Link(index, name, 1, True, bytes([2, 0, 0, 0, 0, index]), master, kind, lower)


TABLE = {
    entry.index: entry
    for entry in (
        link(2, "eth0"),
        link(3, "br0", kind="bridge"),
        link(4, "lan1", master=3),
        link(5, "lan2", master=3),
        link(6, "br0.7", kind="vlan", lower=3),
        link(7, "br1", kind="bridge"),
        link(8, "lan3", master=7),
        link(9, "eth0.5", kind="vlan", lower=2),
    )
}


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes, int]]:
    local = [
        (9, bytes([192, 0, 2, 9]), 25),
        (3, bytes([192, 0, 2, 1]), 24),
        (3, bytes(15) + b"\1", 128),
        (3, bytes.fromhex("fe80" + 13 * "00" + "01"), 64),
    ]
    monkeypatch.setattr(interfaces, "links", lambda: TABLE)
    monkeypatch.setattr(interfaces, "addresses", lambda: local)
    return local


def indices(own: interfaces.GatewayIdentity) -> list[int]:
    return [mac[5] for mac in own.macs]


def test_identity_has_what_stands_on_the_captured_interfaces() -> None:
    assert indices(interfaces.identity(["eth0"])) == [2, 9]
    assert indices(interfaces.identity(["lan1"])) == [4, 3, 6]
    assert indices(interfaces.identity(["eth0.5"])) == [9]


def test_all_ports_means_of_every_bridge_concerned() -> None:
    for names, whole in {
        ("lan1", "lan2"): True,
        ("lan1",): False,
        ("lan1", "lan2", "lan3"): True,
        ("lan1", "lan3"): False,
        ("eth0",): False,
        ("eth0", "lan3"): True,
    }.items():
        assert interfaces.identity(names).all_ports == whole, names


def test_addresses_of_the_captured_interfaces_come_first(kernel) -> None:
    own = interfaces.identity(["lan1"])
    assert own.addresses[:2] == (bytes([192, 0, 2, 1]), bytes(15) + b"\1")
    assert own.addresses[-1] == bytes([192, 0, 2, 9]) and len(own.addresses) == 4
    HostIdentity(own.macs, own.addresses, all_ports=own.all_ports)


def test_networks_are_those_on_the_link_of_what_is_captured() -> None:
    # Neither another interface's, nor a host's own address, nor link-local, which is everywhere.
    assert interfaces.identity(["lan1"]).networks == ((3, bytes([192, 0, 2, 1]), 24),)
    assert interfaces.identity(["eth0"]).networks == ((9, bytes([192, 0, 2, 9]), 25),)
    HostIdentity(networks=interfaces.identity(["lan1"]).networks)


def test_more_than_an_identity_holds_is_left_out(kernel) -> None:
    kernel += [(1, struct.pack("!I", number), 32) for number in range(600)]
    own = interfaces.identity(["lan1"])
    assert len(own.addresses) == 512 and own.left_out == 92
    assert bytes([192, 0, 2, 1]) in own.addresses
    HostIdentity(own.macs, own.addresses)


def test_capture_points() -> None:
    assert interfaces.capture_points(["br0", "lan2", "eth0", "eth0"]) == ("lan1", "lan2", "eth0")
    assert interfaces.capture_points(["eth0.5", "br0.7"]) == ("eth0.5", "br0.7")
    assert interfaces.capture_points(["eth0.5", "eth0"]) == ("eth0",), "seen on eth0 as well"
    assert interfaces.capture_points(["br0", "br0.7"]) == ("lan1", "lan2")
    with pytest.raises(InterfaceError, match="did you mean lan"):
        interfaces.capture_points(["lan9"])
    with pytest.raises(InterfaceError, match="there are br0"):
        interfaces.capture_points(["wlx00"])


def test_a_kind_of_interface_that_cannot_be_read_is_named() -> None:
    strange = Link(5, "ib0", 32, True, b"", 0, "", 0)
    with pytest.raises(InterfaceError, match="ib0 .*ARPHRD 32"):
        ring.linktype_of(strange)


def test_a_vlan_is_looked_at_with_the_links_below_it() -> None:
    names = {1: ("lan0", 0), 2: ("lan0.7", 1), 3: ("lan0.7.9", 2), 4: ("odd", 4), 5: ("gone", 9)}
    table = {
        at: Link(at, name, 1, True, bytes(6), 0, "vlan", lower)
        for at, (name, lower) in names.items()
    }
    assert interfaces.with_lower("lan0.7.9", table) == ["lan0.7.9", "lan0.7", "lan0"]
    for alone in ("lan0", "odd", "gone", "nobody"):
        assert interfaces.with_lower(alone, table) == [alone]


def test_the_kernels_own_answer() -> None:
    loopback = [entry for entry in links().values() if entry.name == "lo"]
    assert [entry.hardware_type for entry in loopback] == [ring.ARPHRD_LOOPBACK]
    assert isinstance(interfaces.offloads_on("lo"), tuple)


@given(st.binary(max_size=200))
def test_netlink_noise_is_survived(data: bytes) -> None:
    for value in attributes(data).values():
        assert len(value) <= len(data)
    for _, _, body in messages(data):
        assert len(body) <= len(data)


def test_offloads_of_a_name_that_is_no_text() -> None:
    """The kernel takes any bytes for a name."""
    with pytest.raises(InterfaceError):
        interfaces.offloads_on("no\udcff")
