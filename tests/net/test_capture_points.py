"""A forwarded packet has one record, wherever it is captured: file, ring, layer 3 alone."""

import fcntl
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ids_appliance._features import COUNTER_NAMES, extract_l3
from ids_appliance.capture.file import CaptureFile
from ids_appliance.capture.ring import RingSource
from ids_appliance.schema import FEATURE_NAMES, N_COLUMNS
from ids_appliance.types import Direction, Outcome
from tests.net.namespaces import Network, run, wait_for
from tests.net.packets import (
    LAN4,
    LAN6,
    WAN4,
    WAN6,
    Judge,
    Key,
    conversation,
    ethernet,
    host_identity,
    identity_holds,
    key_of,
    read_until,
)

pytestmark = pytest.mark.net

SENDERS = "src host 192.0.2.77 or 198.51.100.77 or 2001:db8:1::77 or 2001:db8:2::77"


def layer3(packet: bytes, *, forwarded: bool) -> list[int]:
    row = np.zeros(N_COLUMNS, np.uint16)
    counters = np.zeros(len(COUNTER_NAMES), np.uint64)
    data = np.frombuffer(packet, np.uint8)
    assert extract_l3(data, 0, row, counters, forwarded=forwarded)
    return row[: len(FEATURE_NAMES)].tolist()  # what tests.net.packets.Judge extracts


@pytest.fixture
def sent(routed: Network) -> Iterator[tuple[Network, list[tuple[socket.socket, bytes]]]]:
    """What to send, both ways: (socket, frame) each; addressed to the gateway's MACs."""
    sockets = []
    plan = []
    for host, port, to_wan in (("lan", "lan0", True), ("wan", "wan0", False)):
        raw = routed.packet_socket(host, "eth0")
        sockets.append(raw)
        gateway, own = routed.mac("gw", port), routed.mac(host, "eth0")
        plan += [(raw, ethernet(p, gateway, own)) for p in conversation(to_wan=to_wan)]
    yield routed, plan
    for raw in sockets:
        raw.close()


def expected(plan: list[tuple[socket.socket, bytes]]) -> dict[Key, list[int]]:
    """The records of the packets as they arrive at the gateway: as they were sent."""
    return {key_of(frame[14:]): layer3(frame[14:], forwarded=False) for _, frame in plan}


def same(found: dict[Key, list[int]], wanted: dict[Key, list[int]]) -> None:
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        differences = {
            name: (was, is_)
            for name, was, is_ in zip(FEATURE_NAMES, row, found[key], strict=True)
            if was != is_
        }
        assert not differences, f"{key}: {differences}"


def start_tcpdump(net: Network, path: Path, packets: int) -> subprocess.Popen[str]:
    words = ["tcpdump", "-i", "lan0", "-Z", "root", "-U", "--immediate-mode", "-c", str(packets)]
    process = subprocess.Popen(
        net.command("gw", *words, "-w", str(path), SENDERS),
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "listening on" in line:
            return process
    raise AssertionError("tcpdump did not start")


def test_file_and_ring(sent, tmp_path: Path) -> None:
    net, plan = sent
    wanted = expected(plan)
    path = tmp_path / "gateway.pcap"
    with net.inside("gw"):
        host = host_identity("lan0")
        source = RingSource("lan0")
        tcpdump = start_tcpdump(net, path, len(plan))
        for raw, frame in plan:
            raw.send(frame)
        live = Judge(host)
        read_until(source.batches(), live.take, lambda: len(live.rows) == len(wanted))
        source.close()
    assert tcpdump.wait(60) == 0
    tcpdump.stderr.close()

    recorded = Judge(host)
    for batch in CaptureFile(path).batches():
        assert set(batch.frames["direction"]) == {Direction.UNKNOWN}
        recorded.take(batch)

    for judge in (live, recorded):
        same(judge.rows, wanted)
        assert {o for _, o in judge.keyed} == {Outcome.JUDGED}
        assert len(judge.keyed) == len(plan), "each packet once: one interface is captured"
        for (source_address, _), sender in judge.senders.items():
            assert bytes(sender["address"])[: len(source_address)] == source_address
            assert sender["side"] == (source_address in (WAN4, WAN6))
            assert sender["family"] == (4 if len(source_address) == 4 else 6)
            if sender["side"] == 0:
                assert bytes(sender["mac"]) == net.mac("lan", "eth0")
    identity_holds(source)


def test_layer_3_behind_the_gateway(sent) -> None:
    """Without NFQUEUE: packets as a SOCK_DGRAM socket hands them over where they arrive."""
    net, plan = sent
    wanted = expected(plan)
    arrived = [net.packet_socket(h, "eth0", socket.SOCK_DGRAM) for h in ("lan", "wan")]
    for raw, frame in plan:
        raw.send(frame)
    found: dict[Key, list[int]] = {}

    def look() -> bool:
        for end, own in zip(arrived, ((LAN4, LAN6), (WAN4, WAN6)), strict=True):
            if not select.select([end], [], [], 0.1)[0]:
                continue
            packet = end.recv(65536)
            key = key_of(packet)
            if key is not None and key[0] not in own:
                found[key] = layer3(packet, forwarded=True)
        return len(found) == len(wanted)

    wait_for(look)
    for end in arrived:
        end.close()
    same(found, wanted)


def test_layer_3_at_nfqueue(sent) -> None:
    netfilterqueue = pytest.importorskip("netfilterqueue", reason="extra `gateway`")
    net, plan = sent
    wanted = expected(plan)
    found: dict[Key, list[int]] = {}

    def judge(packet) -> None:
        data = packet.get_payload()
        key = key_of(data)
        if key is not None:
            found[key] = layer3(data, forwarded=True)
        packet.accept()

    with net.inside("gw"):
        for tool in ("iptables", "ip6tables"):
            command = [tool, "-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", "7"]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                pytest.skip(f"{tool} has no NFQUEUE target here")
        queue = netfilterqueue.NetfilterQueue()
        queue.bind(7, judge)
        source = RingSource("lan0")
        batches = source.batches()
        live = Judge(host_identity("lan0"))
        for raw, frame in plan:
            raw.send(frame)

        def look() -> bool:
            if select.select([queue.get_fd()], [], [], 0.05)[0]:
                queue.run(block=False)
            batch = next(batches)
            if batch is not None:
                live.take(batch)
            return len(found) == len(live.rows) == len(wanted)

        wait_for(look)
        queue.unbind()
        source.close()
    same(found, wanted)
    same(live.rows, found)


@pytest.mark.parametrize("tags", [1, 2])
def test_vlan_tags_do_not_count(sent, tags: int) -> None:
    net, plan = sent
    plan = [(raw, frame) for raw, frame in plan if key_of(frame[14:])[0] in (LAN4, LAN6)]
    wanted = expected(plan)
    with net.inside("gw"):
        source = RingSource("lan0")
        live = Judge(host_identity("lan0"))
        for raw, frame in plan:
            tag = b"\x81\x00\x00\x05"
            raw.send(frame[:12] + (b"\x88\xa8\x00\x06" if tags == 2 else b"") + tag + frame[12:])
        read_until(source.batches(), live.take, lambda: len(live.rows) == len(wanted))
        source.close()
    same(live.rows, wanted)


def test_the_gateways_own_frames_are_nobodys(routed: Network) -> None:
    with routed.inside("gw"):
        host = host_identity("lan0")
        source = RingSource("lan0")
        judge = Judge(host)
        frames: list[tuple[int, bytes]] = []

        def take(batch) -> None:
            judge.take(batch)
            frames.extend(
                (int(f["direction"]), bytes(batch.data[f["offset"] :][:42])) for f in batch.frames
            )

        run("ping", "-c", "2", "-i", "0.05", "192.0.2.2")
        run("ping", "-c", "2", "-i", "0.05", "2001:db8:1::2")
        read_until(source.batches(), take, lambda: judge.outcomes.count(Outcome.OWN) >= 6)
        source.close()
    mac = routed.mac("gw", "lan0")
    for (direction, data), outcome in zip(frames, judge.outcomes, strict=True):
        ours = data[6:12] == mac
        assert (direction == Direction.OUTGOING) == ours == (outcome == Outcome.OWN)
    assert judge.outcomes.count(Outcome.JUDGED) >= 4, "the answers"


def test_forged_with_the_gateways_mac_is_judged(routed: Network) -> None:
    """A frame that arrives with our own MAC or address is an attack, not ours."""
    own, target = routed.mac("gw", "lan0"), routed.mac("gw", "lan0")
    packets = conversation(to_wan=True)
    raw = routed.packet_socket("lan", "eth0")
    with routed.inside("gw"):
        source = RingSource("lan0")
        judge = Judge(host_identity("lan0"))
        for packet in packets:
            raw.send(ethernet(packet, target, own))
        read_until(source.batches(), judge.take, lambda: len(judge.rows) == len(packets))
        source.close()
    raw.close()
    assert {outcome for _, outcome in judge.keyed} == {Outcome.JUDGED}
    assert all(sender["side"] == 0 for sender in judge.senders.values())
    for packet in packets:
        assert judge.rows[key_of(packet)] == layer3(packet, forwarded=False)


def test_bridged_frames_are_judged_once(bridged: Network) -> None:
    from_a = bridged.packet_socket("a", "eth0")
    packets = conversation(to_wan=True)
    a, b = bridged.mac("a", "eth0"), bridged.mac("b", "eth0")
    run(*bridged.command("a", "ping", "-c", "1", "192.0.2.3"))  # the bridge learns who is where
    with bridged.inside("gw"):
        host = host_identity("port1", "port2")
        source = RingSource(["port1", "port2"])
        batches = source.batches()
        judge = Judge(host)
        for packet in packets:
            from_a.send(ethernet(packet, b, a))
        read_until(batches, judge.take, lambda: len(judge.keyed) == 2 * len(packets))
        own = Judge(host)
        run("ping", "-c", "3", "-i", "0.05", "192.0.2.3")
        read_until(batches, own.take, lambda: own.outcomes.count(Outcome.OWN) >= 3)
        source.close()
    from_a.close()
    for outcome in (Outcome.JUDGED, Outcome.ECHO):
        keys = [key for key, found in judge.keyed if found == outcome]
        assert sorted(keys) == sorted(key_of(packet) for packet in packets), outcome.name
    identity_holds(source)


def test_bare_ip_of_a_tunnel_device(routed: Network) -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("no /dev/net/tun")
    packets = conversation(to_wan=True)
    with routed.inside("gw"), open("/dev/net/tun", "r+b", buffering=0) as tun:
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))  # IFF_TUN, no header
        routed.ip("gw", "link set tun7 up")
        source = RingSource("tun7")
        judge = Judge(host_identity("tun7"))
        rows: list[list[int]] = []

        def take(batch) -> None:
            assert set(batch.frames["linktype"]) == {101}
            for frame in batch.frames:
                data = batch.data[int(frame["offset"]) :][: int(frame["caplen"])].tobytes()
                if key_of(data) is not None:
                    rows.append(layer3(data, forwarded=False))
            judge.take(batch)

        for packet in packets:
            tun.write(packet)
        read_until(source.batches(), take, lambda: len(rows) == len(packets))
        source.close()
    assert rows == [layer3(packet, forwarded=False) for packet in packets]
