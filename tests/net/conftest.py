"""The networks that the tests in this directory run on.

routed:    lan host            gateway                  wan host
           namespace lan       namespace gw             namespace wan
           eth0 -------------- lan0      wan0 --------- eth0
           192.0.2.2           192.0.2.1 198.51.100.1   198.51.100.2
           2001:db8:1::2       2001:db8:1::1            2001:db8:2::2
                                         2001:db8:2::1
           Senders and receivers of test packets are 192.0.2.77, 198.51.100.77, 2001:db8:1::77
           and 2001:db8:2::77: the gateway knows their MAC, nobody has the address, so nobody
           answers and what is seen is what was sent.

bridged:   host a              switch                   host b
           namespace a         namespace gw             namespace b
           eth0 -------------- port1 \\        / port2 -- eth0
           192.0.2.2                  br0               192.0.2.3
                                      192.0.2.1
"""

from collections.abc import Iterator

import pytest

from tests.net.namespaces import Network, require


@pytest.fixture(scope="session")
def privileged() -> None:
    require()


def connect(net: Network) -> None:
    """Wire up lan, gw and wan of a network as `routed` says."""
    net.veth(("lan", "eth0"), ("gw", "lan0"))
    net.veth(("wan", "eth0"), ("gw", "wan0"))
    for name, port, v4, v6 in (
        ("lan", "eth0", "192.0.2.2", "2001:db8:1::2"),
        ("gw", "lan0", "192.0.2.1", "2001:db8:1::1"),
        ("gw", "wan0", "198.51.100.1", "2001:db8:2::1"),
        ("wan", "eth0", "198.51.100.2", "2001:db8:2::2"),
    ):
        net.ip(name, f"addr add {v4}/24 dev {port}")
        net.ip(name, f"addr add {v6}/64 dev {port} nodad")
    net.ip("lan", "route add default via 192.0.2.1")
    net.ip("wan", "route add default via 198.51.100.1")
    net.write("gw", "net/ipv4/ip_forward", "1")
    net.write("gw", "net/ipv6/conf/all/forwarding", "1")
    for host, port, v4, v6 in (
        ("lan", "lan0", "192.0.2.77", "2001:db8:1::77"),
        ("wan", "wan0", "198.51.100.77", "2001:db8:2::77"),
    ):
        mac = net.mac(host, "eth0").hex(":")
        net.ip("gw", f"neigh replace {v4} lladdr {mac} dev {port} nud permanent")
        net.ip("gw", f"neigh replace {v6} lladdr {mac} dev {port} nud permanent")


@pytest.fixture
def routed(privileged: None) -> Iterator[Network]:
    with Network("r", "lan", "gw", "wan") as net:
        connect(net)
        yield net


@pytest.fixture
def bridged(privileged: None) -> Iterator[Network]:
    with Network("b", "a", "gw", "b") as net:
        net.ip("gw", "link add br0 type bridge")
        for host, port, address in (("a", "port1", "192.0.2.2"), ("b", "port2", "192.0.2.3")):
            net.veth((host, "eth0"), ("gw", port))
            net.ip("gw", f"link set {port} master br0")
            net.ip(host, f"addr add {address}/24 dev eth0")
        net.ip("gw", "addr add 192.0.2.1/24 dev br0")
        net.ip("gw", "link set br0 up")
        yield net
