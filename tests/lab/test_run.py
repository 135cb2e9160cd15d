"""Every step yields what it promises, counted in the capture; its labels say so."""

import ipaddress
import json

import numpy as np
import pytest

from ids_appliance.lab.network import Lab
from ids_appliance.train.fields import address_text
from ids_appliance.train.labels import Label
from tests.lab.conftest import Recorded

pytestmark = pytest.mark.net


class Frames:
    """Counts of a recording's frames by fields and label."""

    def __init__(self, lab: Lab, recorded: Recorded) -> None:
        self.lab, self.recorded = lab, recorded

    def which(self, label: Label | None = None, **wanted: object) -> np.ndarray:
        found = np.ones(len(self.recorded.labels), bool)
        for name, value in wanted.items():
            values, present = self.recorded.fields[name]
            if name in ("ip_src", "ip_dst", "arp_spa"):
                value = np.void(address_text(ipaddress.ip_address(self.at(str(value))).packed))
            elif name == "eth_src":
                value = np.void(value)
            found &= present & (values == value)
        if label is not None:
            found &= self.recorded.labels == label
        return found

    def at(self, name: str) -> str:
        return self.lab.address(name) if name in self.lab.hosts else name

    def count(self, label: Label | None = None, **wanted: object) -> int:
        return int(self.which(label, **wanted).sum())


@pytest.fixture
def frames(lab: Lab, recorded: Recorded) -> Frames:
    return Frames(lab, recorded)


def test_ordinary_life(frames: Frames) -> None:
    publishing = frames.count(Label.BENIGN, ip_src="dev01", ip_dst="server", dport=1883)
    # What is asked for are 12 messages, 2 rounds of 2 names, and 2 rounds of discovery: where the
    # machine is busy their time is over earlier, and where it is not they are bounded.
    assert publishing >= 3 + 2 * 3, "connection, and messages of QoS 1, acknowledged or not"
    assert frames.count(ip_src="phone", proto=17, dport=53) in range(2, 9)
    assert frames.count(ip_src="phone", ip_dst="224.0.0.251", dport=5353) in range(3, 13)
    assert frames.count(ip_src="phone", ip_dst="239.255.255.250", dport=1900) in range(1, 5)
    leases = [frames.count(ip_src="dev04", dport=67), frames.count(sport=67, dport=68)]
    assert leases == [2, 2], "discover, offer, request, acknowledgement"
    assert frames.count(ip_src="server", ip_dst="dev05", sport=80) >= (1 << 20) // 1448
    # A second of 2 Mbit/s, or what of it fits where iperf3 is late.
    assert frames.count(ip_src="server", ip_dst="dev06", sport=5201) >= 2_000_000 // 8 // 1500 // 4
    for who in ("phone", "server"):
        opened = frames.count(Label.BENIGN, ip_src=who, ip_dst="dev01", dport=80, tcp_flags=2)
        assert opened >= 5, f"{who}'s own connections to the flooded port are ordinary"


def test_attacks(frames: Frames) -> None:
    bad = Label.MALICIOUS
    flood = frames.count(bad, ip_src="bot", ip_dst="dev01", dport=80, tcp_flags=2)
    assert flood == frames.count(ip_src="bot", ip_dst="dev01", dport=80, tcp_flags=2)
    assert 50 <= flood <= 500, "bounded in count, and in time on a slow machine"
    everybody = sum(
        int(frames.which(ip_src=name, ip_dst="dev01", dport=80, tcp_flags=2).sum())
        for name in frames.lab.hosts
    )
    syns = int(frames.which(ip_dst="dev01", dport=80, tcp_flags=2).sum())
    # The kernel throws away forged senders that no network can have (127/8, 224/3, ...).
    assert 50 * 0.8 < syns - everybody <= 500
    assert syns - everybody == int(
        (frames.which(bad, ip_dst="dev01", dport=80, tcp_flags=2)).sum()
    ) - int(frames.which(bad, ip_src="bot", ip_dst="dev01", dport=80, tcp_flags=2).sum())
    scan = frames.which(bad, ip_src="bot", ip_dst="dev02", tcp_flags=2)
    assert set(frames.recorded.fields["dport"][0][scan]) == set(range(100, 200))
    refused = frames.count(Label.RELATED, ip_src="dev02", ip_dst="bot", tcp_flags=0x14)
    # nmap asks again where an answer is late.
    assert refused == scan.sum() >= 100, "a closed port's RST is the victim's answer"
    sweep = frames.which(bad, ip_src="outsider2", dport=23, tcp_flags=2)
    swept = frames.recorded.fields["ip_dst"][0][sweep]
    assert len(set(map(bytes, swept))) >= 20, "at least the devices that are there"
    claims = frames.count(bad, eth_src=frames.lab.mac("bot"), arp_op=2, arp_spa="hub")
    assert claims in (1, 2, 3), "arpspoof claims every two seconds, once it has looked around"


def test_twins_are_real_stacks_and_ordinary(frames: Frames) -> None:
    good = Label.BENIGN
    refused = frames.count(good, ip_src="server", sport=1883, tcp_flags=0x14)
    assert refused >= 20, "the broker's kernel refuses while it is away"
    back = [
        frames.count(good, ip_src=device, ip_dst="server", dport=1883, tcp_flags=0x18)
        for device in frames.lab.devices
    ]
    assert min(back) >= 1, "everybody has come back and talks MQTT"
    probes = frames.which(good, ip_src="phone", ip_dst="dev03", tcp_flags=2)
    assert set(range(200, 230)) <= set(frames.recorded.fields["dport"][0][probes])
    for device in frames.lab.devices:
        assert frames.count(good, ip_src=device, ip_dst="phone", sport=80, tcp_flags=0x18) >= 1
    new = bytes.fromhex("021d5e0001d0")
    assert frames.count(good, eth_src=new, arp_op=2, arp_spa="newcomer") == 12
    assert frames.count(good, eth_src=new, ip_src="newcomer", ip_dst="server", dport=80) >= 3


def test_nothing_else_is_malicious(frames: Frames) -> None:
    """What is left, if the promised attacks are taken away, is only what their tools add."""
    bad = frames.recorded.labels == Label.MALICIOUS
    known = frames.which(ip_src="bot") | frames.which(ip_src="outsider2")
    known |= frames.which(eth_src=frames.lab.mac("bot"))
    known |= frames.which(ip_dst="dev01", dport=80, tcp_flags=2)
    left = bad & ~known
    for host in frames.lab.hosts:
        if host not in ("bot", "outsider2"):
            assert not (left & frames.which(ip_src=host)).any(), host
    families = {frames.recorded.families[r] for r in set(frames.recorded.rules[bad].tolist())}
    assert families == {"DoS", "Recon", "Mirai", "Spoofing"}


def test_each_packet_once(frames: Frames) -> None:
    """What crosses from one captured interface to the other is recorded where it arrives."""
    sent = frames.which(ip_src="phone", ip_dst="dev03", tcp_flags=2)
    # A source port may serve again for another port of the target.
    ports = [frames.recorded.fields[name][0][sent].tolist() for name in ("sport", "dport")]
    pairs = list(zip(*ports, strict=True))
    assert (
        len(pairs)
        == len(set(pairs))
        == 30 + frames.count(ip_src="phone", ip_dst="dev03", dport=80, tcp_flags=2)
    )


def test_timeline_and_description(frames: Frames) -> None:
    recorded = frames.recorded
    began = {m.step: m.time_ns for m in recorded.moments if m.kind == "start"}
    ended = {m.step: m.time_ns for m in recorded.moments if m.kind == "stop"}
    assert began.keys() == ended.keys() == {s.id for s in recorded.scenario.steps}
    first = min(began.values())
    for step in recorded.scenario.steps:
        # Never early; how late is the machine's affair.
        assert (began[step.id] - first) / 1e9 > step.at - 0.1
        assert began[step.id] < ended[step.id]
    times = [step.at for step in sorted(recorded.scenario.steps, key=lambda s: began[s.id])]
    assert times == sorted(times)
    lines = (recorded.capture.parent / "timeline.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [m.kind for m in recorded.moments]
    described = json.loads((recorded.capture.parent / "labels.json").read_text())["files"][0]
    assert described["packets"] == len(recorded.labels)
    assert {s["id"] for s in described["steps"]} == began.keys()
