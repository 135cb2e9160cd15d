"""What is measured is what happens: exact counts, nothing lost, and what is cut off is seen."""

import time

import pytest

from ids_appliance.lab.measure import (
    Datagrams,
    Download,
    NewConnections,
    PacketCounter,
    neighbour,
    reach,
    reach_forged,
)
from ids_appliance.lab.network import Lab
from ids_appliance.lab.tools import Flood, hping3, trafgen
from tests.net.namespaces import require, wait_for

pytestmark = pytest.mark.net

clock = time.monotonic_ns


def drop(lab: Lab, rule: str) -> None:
    """Let every captured port of the gateway drop what matches, as a quarantine does."""
    ports = [p for p in lab.gateway_interfaces if p != "br0"]
    devices = ", ".join(f'"{port}"' for port in ports)
    lab.run("gw", "nft", "add table netdev test")
    chain = f"type filter hook ingress devices = {{ {devices} }} priority 0;"
    lab.run("gw", "nft", f"add chain netdev test in {{ {chain} }}")
    lab.run("gw", "nft", f"add rule netdev test in {rule} drop")


@pytest.fixture
def let_through(lab: Lab):
    yield
    lab.run("gw", "nft", "delete table netdev test")


def test_reach_counts_both_ends(lab: Lab, let_through: None) -> None:
    require("hping3")
    count = reach(lab, ["dev07", "dev06"], "bot", clock=clock)
    begin = clock()
    hping3(lab, "bot", Flood(target="dev07", port=80, pps=1000), 0.3).process.wait()
    ended = clock()
    wait_for(lambda: count.samples[-1].time_ns > ended or time.sleep(0.02))
    cut = clock()
    drop(lab, f"ether saddr {lab.mac('bot').hex(':')}")
    hping3(lab, "bot", Flood(target="dev07", port=80, pps=1000), 0.3).process.wait()
    count.stop()
    sent, arrived = count.between(begin, cut)
    assert sent == arrived >= 50, "SYNs, and the RSTs of the sender's own kernel"
    sent, arrived = count.between(cut, clock())
    assert sent >= 50 and arrived == 0


def test_forged_packets_are_told_from_the_labs_own(lab: Lab) -> None:
    require("trafgen")
    count = reach_forged(lab, "dev08", "outsider", port=80, clock=clock)
    connections = NewConnections(
        lab, "server", (lab.address("dev08"), 80), pace_s=0.02, clock=clock
    )
    connections.patience_s = 30.0
    begin = clock()
    flood = Flood(target="dev08", port=80, pps=2000, spoof="random")
    trafgen(lab, "outsider", flood, 0.2).process.wait()
    wait_for(lambda: len(connections.attempts) >= 25 or time.sleep(0.02))
    connections.stop()
    count.stop()
    sent, arrived = count.between(begin, clock())
    assert sent == 400 and 400 * 0.8 < arrived <= 400
    good, tried = connections.succeeded(begin, clock())
    assert good == tried >= 20
    assert all(0 < a.latency_s < 30 for a in connections.attempts if a.latency_s is not None)


def test_connections_that_nobody_answers_fail(lab: Lab) -> None:
    target = (lab.address("dev08"), 81)
    connections = NewConnections(lab, "phone", target, pace_s=0.05, clock=clock)
    connections.patience_s = 0.2
    wait_for(lambda: len(connections.attempts) >= 4 or time.sleep(0.02))
    connections.stop()
    assert connections.succeeded(0, clock()) == (0, len(connections.attempts))


def test_lost_datagrams_are_counted(lab: Lab, let_through: None) -> None:
    pairs = [("dev01", "server"), ("server", "dev02"), ("phone", "dev03")]
    flows = Datagrams(lab, pairs, pace_s=0.01, clock=clock)

    def sent_until_now() -> int:
        return flows.lost(0, clock())[1]

    begin = clock()
    wait_for(lambda: sent_until_now() >= 120 or time.sleep(0.02))
    cut = clock()
    drop(lab, f"ip saddr {lab.address('dev01')} udp dport 5005")
    dropped, before = clock(), sent_until_now()
    wait_for(lambda: sent_until_now() >= before + 120 or time.sleep(0.02))
    flows.stop()
    lost, sent = flows.lost(begin, cut - 10**8)
    assert lost == 0 and sent >= 30
    lost, sent = flows.lost(dropped, clock())
    assert sent >= 30 and lost == pytest.approx(sent / 3, abs=1)


def test_goodput(lab: Lab) -> None:
    begin = clock()
    goodput = Download(lab, "dev09", mib=1, mbit=40).bytes_per_s()
    assert (1 << 20) / ((clock() - begin) / 1e9) < goodput


def test_counting_by_expression(lab: Lab) -> None:
    counter = PacketCounter(lab, "dev10", "icmp and src host " + lab.address("gw"))
    lab.run("gw", "ping", "-c", "7", "-i", "0.01", lab.address("dev10"))
    lab.run("dev10", "ping", "-c", "3", "-i", "0.01", lab.address("dev11"))
    assert counter.read() == 7
    counter.close()


def test_neighbours(lab: Lab) -> None:
    lab.run("hub", "ping", "-c", "1", lab.next_hop("home"))
    router = "gw" if lab.border == "gw" else "router"
    port = "lan0" if router == "router" else "guest0"
    assert neighbour(lab, "hub", lab.next_hop("home")) == lab.mac(router, port)
    assert neighbour(lab, "hub", "192.0.2.1") is None
