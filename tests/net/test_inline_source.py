"""The packet queue in a network of namespaces: what it shows, what it lets go, what it leaves."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ids_appliance import assemble
from ids_appliance.capture.inline import QUEUED, InlineSource
from ids_appliance.capture.nfqueue import QueueOptions, holder, kernel_counts
from ids_appliance.capture.ring import RingOptions
from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.queue_rule import TABLE, QueueRule, remove
from ids_appliance.errors import InlineError
from ids_appliance.types import Direction, FrameBatch, Outcome
from tests.net.namespaces import Network, wait_for
from tests.net.packets import (
    ICMP,
    LAN4,
    Judge,
    conversation,
    ethernet,
    icmp,
    ipv4,
    key_of,
    read_until,
    tcp,
    udp,
)
from tests.net.test_capture_points import expected, same, sent  # noqa: F401

pytestmark = pytest.mark.net

QUEUE = 7913
READERS = ("batch", "package")
TRACKED = Path("/proc/thread-self/net/stat/nf_conntrack")
Above = tuple[tuple[str, str], ...]
RING = RingOptions(block_bytes=1 << 16, blocks=4)


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    """Who reads the queue: one contract for all."""
    if request.param == "package":
        pytest.importorskip("netfilterqueue", reason="needs the extra `gateway`")
    return request.param


@contextmanager
def inline(
    net: Network, reader: str, names: tuple[str, ...] = ("lan0",), above: Above = (), **options
) -> Iterator[tuple[assemble.Live, InlineSource, QueueRule]]:
    with net.inside("gw"), ExitStack() as stack:
        chosen = QueueOptions(number=QUEUE, reader=reader, **options)
        queued = assemble.Queued(chosen, time.time_ns, lambda: above)
        live = assemble.live(names, RING, inline=queued)
        source = live.source
        assert isinstance(source, InlineSource)
        stack.callback(source.close)
        live.host()
        rule = QueueRule(QUEUE, max_clean=64)
        stack.callback(rule.remove)
        rule.install(live.names, [upper for upper, _ in above])
        yield live, source, rule


def frames_from(net: Network, host: str, port: str, packets: list[bytes]) -> None:
    with net.packet_socket(host, "eth0") as raw:
        for packet in packets:
            raw.send(ethernet(packet, net.mac("gw", port), net.mac(host, "eth0")))


def own_arrivals(net: Network, host: str) -> socket.socket:
    return net.packet_socket(host, "eth0")


def arrived(raw: socket.socket, wanted: int) -> set:
    """Read test packets until so many different ones are there."""
    found = set()
    raw.settimeout(60)
    while len(found) < wanted:
        key = key_of(raw.recv(1 << 16)[14:])
        if key is not None:
            found.add(key)
    return found


def counted(rule: QueueRule) -> dict[str, int]:
    rule.count()
    return rule.counters()


def test_queue_and_file_show_the_same_records(sent, reader: str) -> None:  # noqa: F811
    net, plan = sent
    wanted = expected(plan)
    with inline(net, reader) as (live, source, rule):
        judge = Judge(live.host())
        numbers: list[int] = []

        def take(batch: FrameBatch) -> None:
            judge.take(batch)
            if batch.frames["number"][0] > QUEUED:
                numbers.extend(batch.frames["number"].tolist())

        for raw, frame in plan:
            raw.send(frame)
        read_until(source.batches(), take, lambda: len(judge.rows) == len(wanted))
        same(judge.rows, wanted)
        assert {outcome for _, outcome in judge.keyed} == {Outcome.JUDGED}
        assert len(judge.keyed) == len(plan), "each packet once, by queue or ring"
        for (address, _), sender in judge.senders.items():
            beyond = address not in (LAN4, socket.inet_pton(socket.AF_INET6, "2001:db8:1::77"))
            assert sender["side"] == beyond
            if not beyond:
                assert bytes(sender["mac"]) == net.mac("lan", "eth0")

        held = len(source.held)
        assert held == len(numbers) > len(wanted) - 4
        assert len(source.verdict(numbers)) == held and source.verdict(numbers) == []
        counts = source.counters()
        assert counts["queue_received"] == counts["queue_accepted"] == held
        assert counts["queue_held"] == counts["queue_dropped"] == counts["queue_full"] == 0
        # Behind them come the answers of who has met a TTL of 1.
        assert counted(rule)["forward_queued"] >= held


def test_times_lengths_and_directions_of_queued_frames(routed: Network, reader: str) -> None:
    long = ipv4(17, udp((40_000, 9), bytes(1400)), to_wan=True, ident=7)
    back = ipv4(ICMP, icmp(0, b"ping"), to_wan=False, ident=8)
    with inline(routed, reader, copy_bytes=128) as (_, source, _):
        begun = time.time_ns()
        frames_from(routed, "lan", "lan0", [long])
        frames_from(routed, "wan", "wan0", [back])
        seen = []

        def take(batch: FrameBatch) -> None:
            seen.extend(f.copy() for f in batch.frames if f["number"] > QUEUED)

        read_until(source.batches(), take, lambda: len(seen) == 2)
        by_direction = {Direction(frame["direction"]): frame for frame in seen}
        out, home = by_direction[Direction.HOST], by_direction[Direction.OUTGOING]
        assert out["caplen"] == 14 + 128 and out["wirelen"] == 14 + len(long)
        assert home["caplen"] == home["wirelen"] == 14 + len(back)
        for frame in seen:
            assert begun - 1000 <= frame["timestamp_ns"] <= time.time_ns()


def test_dropped_packets_do_not_arrive_and_others_do(routed: Network, reader: str) -> None:
    packets = conversation(to_wan=True)
    doomed = {key_of(packet) for packet in packets[::2]}
    with own_arrivals(routed, "wan") as raw, inline(routed, reader) as (_, source, _):
        frames_from(routed, "lan", "lan0", packets)

        def take(batch: FrameBatch) -> None:
            for frame in batch.frames:
                number = int(frame["number"])
                if number in source.held:
                    drop = key_of(source.held[number].payload) in doomed
                    source.verdict([number], drop=drop)

        def done() -> bool:
            counts = source.counters()
            return counts["queue_accepted"] + counts["queue_dropped"] >= len(packets)

        read_until(source.batches(), take, done)
        kept = {key_of(packet) for packet in packets} - doomed
        assert arrived(raw, len(kept)) == kept
        assert source.counters()["queue_dropped"] == len(doomed)


def test_words_given_together_each_reach_their_packet_in_order(
    routed: Network, reader: str
) -> None:
    packets = [ipv4(ICMP, icmp(8, b"p"), to_wan=True, ident=i) for i in range(1, 61)]
    with own_arrivals(routed, "wan") as raw, inline(routed, reader) as (_, source, _):
        frames_from(routed, "lan", "lan0", packets)
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == 60)
        numbers = list(source.held)
        last = numbers.pop()  # waits, so that what is behind a gap is told one by one
        first = numbers.pop(0)
        assert len(source.say(numbers[::3], drop=True)) == 20
        assert len(source.say(numbers[1::3], mark=7)) == 19
        assert len(source.say(numbers[2::3])) == 19
        source.flush()
        kept = {key_of(p) for i, p in enumerate(packets[1:-1]) if i % 3}
        raw.settimeout(60)
        seen = []
        while len(seen) < len(kept):
            key = key_of(raw.recv(1 << 16)[14:])
            if key is not None:
                seen.append(key)
        assert set(seen) == kept
        if reader == "batch":  # the package's words leave with each call
            assert seen == sorted(seen, key=lambda key: key[1])
        assert list(source.held) == [first, last]
        assert len(source.verdict([first, last, first])) == 2 and not source.held
        counts = source.counters()
        assert counts["queue_received"] == 60 and counts["queue_dropped"] == 20
        assert counts["queue_waiting"] == 0


def test_arp_and_what_is_for_the_gateway_come_from_the_ring(routed: Network, reader: str) -> None:
    with inline(routed, reader) as (live, source, rule):
        judge = Judge(live.host())
        seen: list[bytes] = []
        ping = subprocess.Popen(
            routed.command("lan", "ping", "-n", "-c", "1", "-w", "60", "192.0.2.1"),
            stdout=subprocess.DEVNULL,
        )

        def take(batch: FrameBatch) -> None:
            judge.take(batch)
            for frame in batch.frames:
                assert frame["number"] < QUEUED
                start = int(frame["offset"])
                seen.append(batch.data[start + 12 : start + 24].tobytes())

        def done() -> bool:
            kinds = {frame[:2] for frame in seen}
            return {b"\x08\x06", b"\x08\x00"} <= kinds and Outcome.OWN in judge.outcomes

        read_until(source.batches(), take, done)
        assert ping.wait(60) == 0
        assert counted(rule)["forward_queued"] == 0


def test_a_routed_sender_behind_a_bridge_is_named_by_its_port(
    bridged: Network, reader: str
) -> None:
    # b's frames are routed back out of the bridge, to an address that only the gateway can reach.
    bridged.ip("gw", "addr add 198.51.100.1/24 dev br0")
    bridged.ip("a", "addr add 198.51.100.2/24 dev eth0")
    bridged.ip("b", "route add default via 192.0.2.1")
    bridged.write("gw", "net/ipv4/ip_forward", "1")
    above = (("br0", "port1"), ("br0", "port2"))
    with inline(bridged, reader, ("br0",), above) as (live, source, _):
        assert set(live.names) == {"port1", "port2"}
        judge = Judge(live.host())
        port = socket.if_nametoindex("port2")  # of this thread's namespace
        seen = []

        def take(batch: FrameBatch) -> None:
            judge.take(batch)
            for frame in batch.frames:
                if frame["number"] > QUEUED:
                    seen.append((int(frame["ifindex"]), frame["direction"]))
                    source.verdict([int(frame["number"])])

        # For longer than a bridge is not asked again, who was a stranger to it before.
        words = ["ping", "-n", "-c", "4", "-i", "0.5", "-w", "60", "198.51.100.2"]
        with subprocess.Popen(bridged.command("b", *words), stdout=subprocess.DEVNULL) as ping:
            read_until(source.batches(), take, lambda: ping.poll() is not None)
        assert ping.returncode == 0 and (port, Direction.HOST) in seen


def test_flows_judged_clean_pass_beside_the_queue_until_taken_back(
    routed: Network, reader: str
) -> None:
    ports = (40_001, 443)
    flow = (LAN4, 40_001, socket.inet_aton("198.51.100.77"), 443)
    reply = ipv4(6, tcp((443, 40_001), 0x18, b"x"), to_wan=False, ident=3)
    data = [ipv4(6, tcp(ports, 0x18, b"x"), to_wan=True, ident=i) for i in (1, 2)]
    end = ipv4(6, tcp(ports, 0x11), to_wan=True, ident=4)
    with own_arrivals(routed, "wan") as wan, inline(routed, reader) as (_, source, rule):
        rule.pass_by([flow], for_s=600)
        frames_from(routed, "wan", "wan0", [reply])
        frames_from(routed, "lan", "lan0", [data[0], end])
        arrived(wan, 1)
        assert counted(rule) == {"forward_queued": 1, "forward_clean": 2}, "what ends it is seen"
        rule.judge_again([flow, flow])
        frames_from(routed, "lan", "lan0", [data[1]])
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == 2)
        rule.pass_by([flow], for_s=600)
        rule.judge_all_again()
        frames_from(routed, "lan", "lan0", [data[1]])
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == 3)
        source.verdict(list(source.held))


@pytest.mark.parametrize("fail_open", [True, False])
def test_a_full_queue_does_as_it_is_told(routed: Network, fail_open: bool, reader: str) -> None:
    packets = [ipv4(ICMP, icmp(8, b"p"), to_wan=True, ident=i) for i in range(1, 61)]
    with (
        own_arrivals(routed, "wan") as wan,
        inline(routed, reader, length=16, fail_open=fail_open) as (_, source, rule),
    ):
        frames_from(routed, "lan", "lan0", packets)
        wait_for(lambda: counted(rule)["forward_queued"] == 60)
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) >= 16)
        counts = source.counters()
        if fail_open:
            assert len(arrived(wan, 44)) == 44
            assert counts["queue_full"] == 0
        else:
            assert counts["queue_full"] == 44
        source.verdict(list(source.held))
        assert len(arrived(wan, 16)) == 16


@pytest.mark.nightly
def test_who_is_killed_leaves_traffic_flowing_and_the_next_one_takes_over(
    routed: Network, reader: str
) -> None:
    program = (
        "import time; from ids_appliance import assemble; "
        "from ids_appliance.capture.nfqueue import QueueOptions; "
        "from ids_appliance.enforce.queue_rule import QueueRule; "
        f"chosen = QueueOptions(number={QUEUE}, reader={reader!r}); "
        "live = assemble.live(['lan0'], inline=assemble.Queued(chosen, time.time_ns, tuple)); "
        f"QueueRule({QUEUE}, max_clean=64).install(['lan0']); "
        "print('ready', flush=True); time.sleep(600)"
    )
    one = subprocess.Popen(
        routed.command("gw", sys.executable, "-c", program), stdout=subprocess.PIPE, text=True
    )
    try:
        assert one.stdout.readline() == "ready\n"
        with routed.inside("gw"), pytest.raises(InlineError, match="another gateway|held by"):
            chosen = QueueOptions(number=QUEUE, reader=reader)
            assemble.live(["lan0"], inline=assemble.Queued(chosen, time.time_ns, tuple))
        with routed.inside("gw"), pytest.raises(InlineError, match="another gateway"):
            QueueRule(QUEUE, max_clean=64).install(["lan0"])
    finally:
        one.kill()
        one.wait()
        one.stdout.close()
    with routed.inside("gw"):
        wait_for(lambda: not holder(QUEUE) or time.sleep(0.01))
        assert f"table inet {TABLE}" in Nft().run("list tables")
    with own_arrivals(routed, "wan") as wan:
        frames_from(routed, "lan", "lan0", conversation(to_wan=True)[:4])
        assert len(arrived(wan, 4)) == 4
    with inline(routed, reader) as (_, source, rule):
        frames_from(routed, "lan", "lan0", conversation(to_wan=True)[:4])
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == 4)
        with own_arrivals(routed, "wan") as wan:
            rule.let_pass()
            source.drain()
            assert len(arrived(wan, 4)) == 4
        assert source.counters()["queue_accepted"] == 4
        assert rule.remove() and TABLE not in Nft().run("list tables")


def test_rules_of_others_are_left_alone(routed: Network) -> None:
    with routed.inside("gw"):
        nft = Nft()
        nft.run(f"table inet {TABLE} {{ chain mine {{\n}}\n}}\ntable inet other {{\n}}")
        with pytest.raises(InlineError, match="not ours"):
            QueueRule(QUEUE, max_clean=64).install(["lan0"])
        assert not remove(nft)
        assert "chain mine" in nft.run(f"list table inet {TABLE}")
        nft.run(f"delete table inet {TABLE}")
        rule = QueueRule(QUEUE, max_clean=64)
        rule.install(["lan0"])
        assert rule.stands() and rule.remove() and not rule.stands()
        assert nft.run("list tables").split() == ["table", "inet", "other"]
        assert kernel_counts(QUEUE)["queue_put"] == 0


def test_without_the_package_one_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "netfilterqueue", None)
    with pytest.raises(InlineError) as caught:
        chosen = QueueOptions(reader="package")
        assemble.live(["lo"], inline=assemble.Queued(chosen, time.time_ns, tuple))
    said = str(caught.value)
    assert "libnetfilter-queue-dev" in said and "ids-appliance[gateway]" in said
    assert "\n" not in said


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_first_packets_of_a_connection_that_wait_together(
    routed: Network, reader: str, protocol: str
) -> None:
    """Where connections are tracked, each of them begins one, and the first to leave is the one
    that counts: the kernel merges the others into it, but not those of TCP, which it drops."""
    made = (6, lambda ports: tcp(ports, 0x02)) if protocol == "tcp" else (17, as_udp)
    packets = [
        ipv4(made[0], made[1]((20_000 + i // 2, 80)), to_wan=True, ident=i + 1) for i in range(40)
    ]
    with routed.inside("gw"):
        Nft().run(
            "table inet tracked { chain f {\ntype filter hook forward priority 0; policy accept;\n"
            "ct state established counter\n}\n}"
        )
        Path("/proc/sys/net/netfilter/nf_conntrack_checksum").write_text("0")
        if not TRACKED.exists():
            pytest.skip(f"this kernel counts no tracked connections: no {TRACKED}")
    with own_arrivals(routed, "wan") as wan, inline(routed, reader) as (_, source, _):
        frames_from(routed, "lan", "lan0", packets)
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == 40)
        source.verdict(list(source.held))
        with routed.inside("gw"):
            dropped = untracked(TRACKED.read_text())
        assert len(arrived(wan, 40 - dropped)) == 40 - dropped
        assert dropped <= (20 if protocol == "tcp" else 0)


def as_udp(ports: tuple[int, int]) -> bytes:
    return udp(ports, b"x")


def untracked(text: str) -> int:
    """Return the packets that could not be entered, of all processors."""
    names, *rows = [line.split() for line in text.splitlines()]
    return sum(int(row[names.index("drop")], 16) for row in rows)
