"""Two queues in a network of namespaces: who comes where, in which order, and what is counted."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ids_appliance import assemble
from ids_appliance.capture.held import QUEUED
from ids_appliance.capture.inline import InlineSource
from ids_appliance.capture.nfqueue import QueueOptions, holder, kernel_counts
from ids_appliance.enforce.queue_rule import QueueRule
from ids_appliance.errors import InlineError
from ids_appliance.types import FrameBatch
from tests.net.namespaces import Network
from tests.net.packets import ICMP, icmp, ipv4, read_until
from tests.net.test_inline_source import RING, arrived, counted, frames_from, own_arrivals

pytestmark = pytest.mark.net

QUEUE = 7941
PAIRS = 48
"""Pairs of addresses: that all meet in one queue has a chance of 2 ** -47."""


@pytest.fixture(params=("batch", "package"))
def reader(request: pytest.FixtureRequest) -> str:
    """Threads of our own, or the package's readers in turns: one contract for both."""
    if request.param == "package":
        pytest.importorskip("netfilterqueue", reason="needs the extra `gateway`")
    return request.param


@contextmanager
def two(net: Network, reader: str, **options) -> Iterator[tuple[InlineSource, QueueRule]]:
    """Two queues behind one source; released at the end."""
    with net.inside("gw"), ExitStack() as stack:
        chosen = QueueOptions(number=QUEUE, queues=2, reader=reader, **options)
        live = assemble.live(("lan0",), RING, inline=assemble.Queued(chosen, time.time_ns, tuple))
        source = live.source
        assert isinstance(source, InlineSource)
        stack.callback(source.close)
        live.host()
        rule = QueueRule(QUEUE, max_clean=64, queues=2)
        stack.callback(rule.remove)
        rule.install(live.names)
        yield source, rule


def pings(net: Network, count: int) -> list[bytes]:
    """`count` packets of each of PAIRS senders, in turns; each has an identification of its own."""
    found = []
    for i in range(count * PAIRS):
        plain = ipv4(ICMP, icmp(8, b"p"), to_wan=True, ident=i + 1)
        sender = socket.inet_aton(f"192.0.2.{100 + i % PAIRS}")
        found.append(with_sender(plain, sender))
    return found


def with_sender(packet: bytes, sender: bytes) -> bytes:
    """Another source address; the header's checksum follows."""
    head = bytearray(packet[:20])
    head[12:16] = sender
    head[10:12] = b"\0\0"
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(head) + packet[20:]


def pings_at(raw: socket.socket, wanted: int) -> list[tuple[bytes, int]]:
    """Read until so many of them have come; return (sender, identification) of each."""
    found: list[tuple[bytes, int]] = []
    raw.settimeout(60)
    while len(found) < wanted:
        packet = raw.recv(1 << 16)[14:]
        if packet[:1] == b"\x45" and packet[9] == ICMP and packet[12:15] == b"\xc0\0\2":
            found.append((packet[12:16], int.from_bytes(packet[4:6], "big")))
    return found


def balanced(counts: dict[str, int]) -> None:
    """Hold the books to what they promise."""
    ends = ("queue_accepted", "queue_dropped", "queue_held")
    assert counts["queue_received"] == sum(counts[name] for name in ends)
    assert counts["queue_received"] == counts["queue_0_received"] + counts["queue_1_received"]
    assert counts["queue_full"] == counts["queue_0_full"] + counts["queue_1_full"]


def test_a_senders_packets_keep_their_order_and_every_one_is_counted(
    routed: Network, reader: str
) -> None:
    sent = pings(routed, 4)
    with own_arrivals(routed, "wan") as raw, two(routed, reader) as (source, rule):
        frames_from(routed, "lan", "lan0", sent)
        done = 0

        def take(batch: FrameBatch) -> None:
            nonlocal done
            numbers = batch.frames["number"]
            if numbers[0] > QUEUED:
                assert len(set((numbers >> 59).tolist())) == 1, "a batch is of one queue"
                done += len(source.verdict(numbers))

        read_until(source.batches(), take, lambda: done == len(sent))
        came = pings_at(raw, len(sent))
        for sender in {one for one, _ in came}:
            of_it = [number for one, number in came if one == sender]
            assert of_it == sorted(of_it) and len(of_it) == 4
        counts = source.counters()
        balanced(counts)
        assert counts["queue_accepted"] == len(sent) == counted(rule)["forward_queued"]
        assert min(counts["queue_0_received"], counts["queue_1_received"]) > 0
        assert kernel_counts(QUEUE)["queue_waiting"] == 0


def test_both_ways_of_a_conversation_are_in_one_queue_whatever_is_dropped(
    routed: Network, reader: str
) -> None:
    there = [ipv4(ICMP, icmp(8, b"p"), to_wan=True, ident=i) for i in range(1, 21)]
    back = [ipv4(ICMP, icmp(0, b"p"), to_wan=False, ident=i) for i in range(1, 21)]
    with own_arrivals(routed, "wan") as raw, two(routed, reader) as (source, _):
        frames_from(routed, "lan", "lan0", there)
        frames_from(routed, "wan", "wan0", back)
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == 40)
        numbers = list(source.held)
        assert len({number >> 59 for number in numbers}) == 1
        doomed = [n for n in numbers if source.held[n].incoming][::2]
        assert len(source.say(doomed, drop=True)) == 10
        assert len(source.say([n for n in numbers if n not in doomed])) == 30
        assert source.say(numbers) == []
        source.flush()
        assert len(arrived(raw, 10)) == 10
        counts = source.counters()
        balanced(counts)
        assert (counts["queue_accepted"], counts["queue_dropped"]) == (30, 10)


@pytest.mark.parametrize("fail_open", [True, False])
def test_full_queues_do_as_they_are_told(routed: Network, fail_open: bool, reader: str) -> None:
    sent = pings(routed, 2)
    options = {"length": 16, "fail_open": fail_open}
    with own_arrivals(routed, "wan") as raw, two(routed, reader, **options) as (source, rule):
        frames_from(routed, "lan", "lan0", sent)

        def over() -> bool:
            """Each packet was queued, or has met a full queue; what was queued is here."""
            came = counted(rule)["forward_queued"] == len(sent)
            counts = source.counters()
            return came and counts["queue_received"] == counts["queue_put"]

        read_until(source.batches(), lambda batch: None, over)
        held = len(source.held)
        assert 16 < held <= 32
        counts = source.counters()
        balanced(counts)
        assert counts["queue_full"] == (0 if fail_open else len(sent) - held)
        if fail_open:
            pings_at(raw, len(sent) - held)
        source.verdict(list(source.held))
        pings_at(raw, held)


def test_what_waits_is_let_go_at_the_end(routed: Network, reader: str) -> None:
    sent = pings(routed, 2)
    with own_arrivals(routed, "wan") as raw, two(routed, reader) as (source, rule):
        frames_from(routed, "lan", "lan0", sent)
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) > 8)
        rule.let_pass()
        source.drain()
        rule.remove()
        pings_at(raw, len(sent))
        assert not source.held
        balanced(source.counters())


def test_other_interfaces_cost_nothing_of_what_waits(routed: Network, reader: str) -> None:
    sent = pings(routed, 1)
    with own_arrivals(routed, "wan") as raw, two(routed, reader) as (source, rule):
        frames_from(routed, "lan", "lan0", sent)
        read_until(source.batches(), lambda batch: None, lambda: len(source.held) == len(sent))
        rule.install(["lan0", "later0"])
        assert rule.stands() and counted(rule)["forward_queued"] == len(sent)
        source.verdict(list(source.held))
        pings_at(raw, len(sent))
        rule.install(["later0"])
        frames_from(routed, "lan", "lan0", sent)
        pings_at(raw, len(sent))
        assert counted(rule)["forward_queued"] == len(sent), "they are not held any more"


def test_a_queue_that_another_has_is_refused_and_the_other_one_let_go(routed: Network) -> None:
    with routed.inside("gw"):
        taken = assemble.live(
            ("lan0",),
            RING,
            inline=assemble.Queued(QueueOptions(number=QUEUE + 1), time.time_ns, tuple),
        )
        try:
            with pytest.raises(InlineError, match=f"queue {QUEUE + 1} is held by another"):
                with two(routed, "batch"):
                    pass
            assert holder(QUEUE) == 0
        finally:
            taken.source.close()


@pytest.mark.parametrize("fail_open", [True, False])
@pytest.mark.nightly
def test_who_is_killed_leaves_traffic_flowing(
    routed: Network, fail_open: bool, reader: str
) -> None:
    program = (
        "import time; from ids_appliance import assemble; "
        "from ids_appliance.capture.nfqueue import QueueOptions; "
        "from ids_appliance.enforce.queue_rule import QueueRule; "
        f"chosen = QueueOptions(number={QUEUE}, queues=2, reader={reader!r}, "
        f"fail_open={fail_open}); "
        "live = assemble.live(['lan0'], inline=assemble.Queued(chosen, time.time_ns, tuple)); "
        f"QueueRule({QUEUE}, max_clean=64, queues=2).install(['lan0']); "
        "print('ready', flush=True); time.sleep(600)"
    )
    words = routed.command("gw", sys.executable, "-c", program)
    one = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert one.stdout.readline() == "ready\n"
        with routed.inside("gw"):
            assert holder(QUEUE) and holder(QUEUE + 1)
    finally:
        one.kill()
        one.wait(60)
        one.stdout.close()
    sent = pings(routed, 2)
    with own_arrivals(routed, "wan") as raw:
        frames_from(routed, "lan", "lan0", sent)
        pings_at(raw, len(sent))
    with two(routed, reader) as (source, rule):
        assert rule.installed and not source.held
