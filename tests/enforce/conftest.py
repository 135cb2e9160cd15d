"""The networks that the tests in this directory run on; lan0, lan1, port1 ... are captured.

routed:    dev   192.0.2.2      -- lan0  gw  wan0 --  out  198.51.100.2, further 203.0.113.1 ... 9
           bad   192.0.3.66     -- lan1      .1             2001:db8:9::2
           2001:db8:2::2, 2001:db8:3::66

bridged:   dev   192.0.2.2      -- port1  gw  port3 --  router  192.0.2.254; beyond it
           bad   192.0.2.66     -- port2      br0 192.0.2.1     203.0.113.1 ... 9
           2001:db8:2::2, ::66, ::1, ::fe                       2001:db8:9::2
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ids_appliance.config import Enforce
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.types import Applied, Decision, Response, Subject
from tests.net.namespaces import Network, require

BEYOND = [f"203.0.113.{i}" for i in range(1, 10)]


def decide(
    subject: Subject,
    response: Response = Response.QUARANTINE,
    *,
    for_s: float = 600.0,
    number: int = 1,
    score: float = 5.0,
) -> Decision:
    return Decision(number, subject, response, for_s, "test", score=score)


@dataclass
class Scene:
    """A network with an enforcer at its gateway."""

    net: Network
    ports: tuple[str, ...]
    notes: list[tuple[str, str]] = field(default_factory=list)

    def enforcer(
        self,
        enforce: Enforce | None = None,
        *,
        protected: ProtectedSets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> NftEnforcer:
        with self.net.inside("gw"):
            made = NftEnforcer(
                enforce or Enforce(),
                interfaces=self.ports,
                protected=protected or self.protected(),
                clock=clock,
                on_note=lambda kind, line: self.notes.append((kind, line)),
                above=("br0",) if "port1" in self.ports else (),
            )
            made.open()
        return made

    def protected(
        self, *more: tuple[str, bytes | None, str | None], routers: bool = True
    ) -> ProtectedSets:
        own = tuple(self.net.mac("gw", port) for port in self.ports)
        if "port1" not in self.ports:
            return ProtectedSets(more, (), own)
        known = (("port3", self.net.mac("router", "eth0")),) if routers else ()
        return ProtectedSets(more, known, (*own, self.net.mac("gw", "br0")))

    def apply(self, enforcer: NftEnforcer, *decisions: Decision) -> Sequence[Applied]:
        with self.net.inside("gw"):
            return enforcer.apply(decisions)

    def nft(self, enforcer: NftEnforcer, text: str) -> str:
        """Change rules behind the enforcer's back, or look at them."""
        with self.net.inside("gw"):
            return enforcer._there._nft.run(text)

    def mac(self, name: str) -> bytes:
        return self.net.mac(name, "eth0")


def _addresses(net: Network, name: str, port: str, *addresses: str) -> None:
    for address in addresses:
        net.ip(name, f"addr add {address} dev {port}" + (" nodad" if ":" in address else ""))


@pytest.fixture
def routed() -> Iterator[Scene]:
    require("hping3", "ping")
    with Network("er", "dev", "bad", "gw", "out") as net:
        for host, port in (("dev", "lan0"), ("bad", "lan1"), ("out", "wan0")):
            net.veth((host, "eth0"), ("gw", port))
        _addresses(net, "gw", "lan0", "192.0.2.1/24", "2001:db8:2::1/64")
        _addresses(net, "gw", "lan1", "192.0.3.1/24", "2001:db8:3::1/64")
        _addresses(net, "gw", "wan0", "198.51.100.1/24", "2001:db8:9::1/64")
        _addresses(net, "dev", "eth0", "192.0.2.2/24", "2001:db8:2::2/64")
        _addresses(net, "bad", "eth0", "192.0.3.66/24", "2001:db8:3::66/64")
        beyond = [f"{address}/32" for address in BEYOND]
        _addresses(net, "out", "eth0", "198.51.100.2/24", "2001:db8:9::2/64", *beyond)
        net.ip("gw", "route add 203.0.113.0/24 via 198.51.100.2")
        for host, v4, v6 in (
            ("dev", "192.0.2.1", "2001:db8:2::1"),
            ("bad", "192.0.3.1", "2001:db8:3::1"),
            ("out", "198.51.100.1", "2001:db8:9::1"),
        ):
            net.ip(host, f"route add default via {v4}", f"route add ::/0 via {v6}")
        net.write("gw", "net/ipv4/ip_forward", "1")
        net.write("gw", "net/ipv6/conf/all/forwarding", "1")
        yield Scene(net, ("lan0", "lan1"))


@pytest.fixture
def bridged() -> Iterator[Scene]:
    require("hping3", "ping")
    with Network("eb", "dev", "bad", "gw", "router") as net:
        net.ip("gw", "link add br0 type bridge")
        # As on a machine where br_netfilter is not loaded: no inet chain sees bridged frames.
        for kind in ("ip", "ip6", "arp"):
            if Path(f"/proc/sys/net/bridge/bridge-nf-call-{kind}tables").exists():
                net.write("gw", f"net/bridge/bridge-nf-call-{kind}tables", "0")
        for number, host in enumerate(("dev", "bad", "router"), 1):
            net.veth((host, "eth0"), ("gw", f"port{number}"))
            net.ip("gw", f"link set port{number} master br0")
        net.ip("gw", "link set br0 up")
        _addresses(net, "gw", "br0", "192.0.2.1/24", "2001:db8:2::1/64")
        _addresses(net, "dev", "eth0", "192.0.2.2/24", "2001:db8:2::2/64")
        _addresses(net, "bad", "eth0", "192.0.2.66/24", "2001:db8:2::66/64")
        beyond = [f"{address}/32" for address in BEYOND]
        _addresses(net, "router", "eth0", "192.0.2.254/24", "2001:db8:2::fe/64", *beyond)
        _addresses(net, "router", "lo", "2001:db8:9::2/128")
        for host in ("dev", "bad", "gw"):
            net.ip(host, "route add default via 192.0.2.254")
            net.ip(host, "route add ::/0 via 2001:db8:2::fe")
        yield Scene(net, ("port1", "port2", "port3"))
