"""Held packets: what a queue's messages become, which words the kernel hears, and nonsense."""

import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance._nfqueue import HeldPackets, summary
from ids_appliance.capture.held import connection
from ids_appliance.types import FRAME, Direction
from tests.examples import examples
from tests.reference.netfilter import attribute, message, model, packet

QUEUE, MOST, COPY, FIRST = 7, 8, 64, 1 << 40
NOW = 1_700_000_000 * 10**9
OURS, THEIRS = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
LAN = (3, 30, OURS, True, False)


class Bed:
    """The compiled part between two ends of a socket: ours writes what the kernel would."""

    def __init__(self, length: int = 16) -> None:
        self.kernel, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel.setblocking(False)
        self.held = HeldPackets(
            self.end.fileno(), queue=QUEUE, copy_bytes=COPY, length=length, most=MOST, first=FIRST
        )
        self.held.set_ports([LAN, (5, 50, OURS, False, False), (6, 60, OURS, True, True)])
        self.frames = np.zeros(MOST, FRAME)
        self.data = np.frombuffer(self.held, np.uint8)

    def read(self, *messages: bytes):
        for one in messages:
            self.kernel.send(one)
        _, n, self.bridged = self.held.read(self.frames, NOW)
        return self.frames[:n].copy()

    def hold(self, *ids: int) -> list[int]:
        return self.read(*(message(QUEUE, packet(i), indev=3) for i in ids))["number"].tolist()

    def bytes_of(self, frame) -> bytes:
        start = int(frame["offset"])
        return self.data[start : start + int(frame["caplen"])].tobytes()

    def say(self, numbers, *, drop=False, mark=None) -> int:
        stamps = np.zeros(len(numbers), np.int64)
        return self.held.say(np.array(numbers, np.uint64), stamps, drop=drop, mark=mark)

    def heard(self) -> list[tuple[str, int, int, int | None]]:
        """Flush; return (batch or one, id, verdict, mark) of each message, in order."""
        self.held.flush()
        found = []
        while True:
            try:
                found += model(self.kernel.recv(1 << 16), QUEUE)
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.kernel.close()
        self.end.close()


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.close()


def test_a_packet_becomes_the_frame_that_a_ring_would_show(bed: Bed) -> None:
    ip = packet(1, ttl=63, length=100)
    (frame,) = bed.read(
        message(QUEUE, ip, id=9, indev=3, outdev=4, mark=77, hw=THEIRS, at=(5, 250_001))
    )
    shown = bed.bytes_of(frame)
    assert shown[:14] == OURS + THEIRS + b"\x08\x00"
    assert shown[14:] == ip[:8] + bytes([64]) + ip[9:COPY]
    assert (frame["wirelen"], frame["ifindex"], frame["linktype"]) == (14 + 100, 30, 1)
    assert frame["timestamp_ns"] == 5 * 10**9 + 250_001_000
    assert frame["direction"] == Direction.HOST and frame["number"] > FIRST
    number = int(frame["number"])
    assert bed.held.about(number) == (
        ip[:COPY],
        5 * 10**9 + 250_001_000,
        True,
        30,
        3,
        77,
        THEIRS + b"\0\0",
    )
    assert number in bed.held and bed.held.numbers() == [number] and len(bed.held) == 1


def test_what_leaves_there_has_our_mac_and_its_ttl(bed: Bed) -> None:
    six = packet(1, version=6)
    out, raw, strange = bed.read(
        message(QUEUE, six, indev=4, outdev=3),
        message(QUEUE, six, indev=5),
        message(QUEUE, six, indev=9, outdev=9),
    )
    assert bed.bytes_of(out) == bytes(6) + OURS + b"\x86\xdd" + six[:COPY]
    assert (out["ifindex"], out["direction"], out["timestamp_ns"]) == (30, Direction.OUTGOING, NOW)
    assert bed.bytes_of(raw)[:8] == six[:7] + bytes([six[7] + 1])
    assert (raw["ifindex"], raw["linktype"]) == (50, 101)
    assert (strange["ifindex"], strange["linktype"]) == (9, 1)
    assert bed.held.untimed == 3


def test_who_is_met_at_a_bridge_is_shown_where_the_caller_says(bed: Bed) -> None:
    (frame,) = bed.read(message(QUEUE, packet(1), indev=6, hw=THEIRS))
    assert bed.bridged == 1 and bed.held.indev(int(frame["number"])) == 6
    bed.held.show_at(int(frame["number"]), 61)
    assert bed.held.about(int(frame["number"]))[3] == 61


def test_packets_that_share_their_word_have_one_message(bed: Bed) -> None:
    numbers = bed.hold(1, 2, 3, 4, 5)
    assert bed.say(numbers) == 5 and len(bed.held) == 0
    assert bed.heard() == [("batch", 5, 1, None)]
    assert bed.say(numbers) == 0 and bed.heard() == [], "each has one word"


def test_drops_among_them_are_told_in_order(bed: Bed) -> None:
    a, b, c, d, e = bed.hold(1, 2, 3, 4, 5)
    assert bed.say([c], drop=True) == 1
    assert bed.say([d], mark=9) == 1
    assert bed.say([a, b, e]) == 3
    assert bed.heard() == [
        ("batch", 2, 1, None),
        ("one", 3, 0, None),
        ("one", 4, 1, 9),
        ("one", 5, 1, None),
    ]
    assert (bed.held.accepted, bed.held.dropped, bed.held.received) == (4, 1, 5)


def test_behind_one_that_waits_each_has_a_message(bed: Bed) -> None:
    a, b, c = bed.hold(1, 2, 3)
    bed.say([b, c])
    assert bed.heard() == [("one", 2, 1, None), ("one", 3, 1, None)]
    more = bed.hold(4, 5)
    bed.say([a, *more], drop=True)
    assert bed.heard() == [("batch", 5, 0, None)]
    assert bed.held.numbers() == []


def test_at_most_as_many_are_held_as_there_are_places() -> None:
    bed = Bed(length=4)
    held = []
    for i in range(4):
        held += bed.hold(*range(4 * i + 1, 4 * i + 5))
    assert len(held) == len(bed.held) == 4 + MOST, "the rest stays with the kernel"
    bed.say(held)
    assert bed.heard() == [("batch", 12, 1, None)]
    assert len(bed.read()) == 4
    bed.close()


def test_what_cannot_be_read_is_let_go(bed: Bed) -> None:
    whole = message(QUEUE, packet(1), id=3, indev=3)
    cut = whole[:-10]
    empty = message(QUEUE, b"", id=4, indev=3)
    assert len(bed.read(cut, empty, whole)) == 1
    assert bed.held.malformed == 2 and len(bed.held) == 1
    assert bed.heard() == [("batch", 4, 1, None)]


def test_messages_that_are_no_packets_are_counted(bed: Bed) -> None:
    error = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + bytes(16)
    agreed = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, 0) + bytes(16)
    other = message(QUEUE + 1, packet(1))
    nameless = message(QUEUE, packet(1), header=False)
    assert len(bed.read(error, agreed, other, nameless, b"", b"\0" * 15)) == 0
    assert (bed.held.refused, bed.held.malformed) == (1, 4)
    assert bed.heard() == []


@examples(300)
@given(st.data())
def test_any_bytes_cost_a_counter_at_most(data: st.DataObject) -> None:
    bed = Bed()
    one = bytearray(message(QUEUE, packet(1), id=5, indev=3, hw=THEIRS, at=(1, 1), mark=1))
    for _ in range(data.draw(st.integers(0, 6))):
        one[data.draw(st.integers(0, len(one) - 1))] = data.draw(st.integers(0, 255))
    sent = bytes(one[: data.draw(st.integers(0, len(one)))])
    sent += data.draw(st.binary(max_size=40))
    frames = bed.read(sent)
    for frame in frames:
        end = int(frame["offset"]) + int(frame["caplen"])
        assert end <= len(bed.data) and frame["caplen"] <= 14 + COPY
        assert frame["wirelen"] >= frame["caplen"]
    held = bed.held
    assert len(held) == len(frames) and held.received == len(held) + held.accepted
    bed.say(held.numbers())
    assert len(bed.heard()) == held.received <= 1
    bed.close()


def test_attributes_of_odd_lengths_and_unknown_kinds_are_passed_over(bed: Bed) -> None:
    extra = attribute(33, b"abc") + attribute(3, b"x") + attribute(9, bytes(3))
    (frame,) = bed.read(message(QUEUE, packet(1), id=1, indev=3, extra=extra))
    assert bed.held.about(int(frame["number"]))[5:] == (0, None)


def segment(one: bytes, other: bytes, ports: tuple[int, int], *, six: bool = False) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", *ports, 1, 2, 0x50, 16, 9, 0, 0)
    if six:
        return struct.pack("!IHBB", 6 << 28, 20, 6, 63) + one * 4 + other * 4 + tcp
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 63, 6, 0) + one + other + tcp


def test_a_connection_has_one_key_both_ways_and_the_same_as_in_python(bed: Bed) -> None:
    one, other = b"\1\2\3\4", b"\1\2\3\5"
    sent = [
        segment(one, other, (9, 1)),
        segment(other, one, (1, 9)),
        segment(one, one, (9, 1)),
        segment(one, other, (9, 1), six=True),
        segment(other, one, (1, 9), six=True),
        segment(one, other, (9, 1))[:30],
        segment(one, other, (9, 1), six=True)[:45],
        packet(1),
    ]
    frames = bed.read(*(message(QUEUE, one, indev=3) for one in sent))
    keys = bed.held.connections(frames["number"])
    assert keys == [connection(one)[0] for one in sent]
    assert keys[0] == keys[1] == one + b"\0\x09" + other + b"\0\1"
    assert keys[3] == keys[4] and [len(key) for key in keys] == [12, 12, 12, 36, 36, 0, 0, 0]
    assert bed.held.connections(np.array([1, 2**63], np.uint64)) == [b"", b""]


def test_a_batch_is_summed_up() -> None:
    frames = np.zeros(4, FRAME)
    frames["standing"] = [0, 8, 0, 16]
    frames["number"][0] = 7
    outcomes = np.array([0, 6, 7, 0], np.uint8)
    verdicts = np.array([1, 1, 1, 0], np.uint8)
    assert summary(frames, outcomes, verdicts) == (1, 1, 24, 7)
    assert summary(frames[2:], outcomes[2:]) == (1, 0, 16, 0)
    assert summary(frames[:0], outcomes[:0]) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="one length"):
        summary(frames, outcomes[:3])


def piece(frames, *, outcomes=0, verdicts=0) -> bytes:
    """A judged batch as ext/judged.pxd has it."""
    n = len(frames)
    columns = [np.full(n, what, np.uint8) for what in (outcomes, verdicts, 0)]
    between = bytes(n * (8 + 8 + 28))  # probabilities, cells, senders
    outer = b"".join(column.tobytes() for column in columns)
    return struct.pack("=Q", n) + frames.tobytes() + between + outer


SUSPECT = 8


def test_a_batch_without_fault_goes_on_at_once_and_its_bytes_stay(bed: Bed) -> None:
    sent = [segment(b"\1\1\1\1", b"\2\2\2\2", (n, 80)) for n in (1, 2, 3)]
    frames = bed.read(*(message(QUEUE, one, id=n, indev=3) for n, one in enumerate(sent)))
    stamps = np.zeros(MOST, np.int64)
    assert bed.say(frames["number"][:1]) == 1
    frames["standing"] = [0, 2, 0]
    assert bed.held.pass_clean(piece(frames), stamps, SUSPECT) == (2, 2), "one had its word"
    assert stamps[:2].tolist() == frames["timestamp_ns"][1:].tolist()
    assert bed.heard() == [("batch", 2, 1, None)] and len(bed.held) == 0
    assert bed.held.accepted == bed.held.received == 3
    assert [bed.held.payload(n) for n in frames["number"].tolist()] == [one[:COPY] for one in sent]
    assert bed.held.connections(frames["number"]) == [connection(one)[0] for one in sent]
    assert bed.held.about(int(frames["number"][1])) is None, "it is not held any more"
    assert bed.held.pass_clean(piece(frames), stamps, SUSPECT) == (0, 2) and bed.heard() == []


@pytest.mark.parametrize(
    "spoil",
    [{"verdicts": [0, 1, 0]}, {"outcomes": [0, 0, 3]}, {"standing": SUSPECT}, {"number": FIRST}],
)
def test_a_batch_with_anything_wrong_is_left_alone(bed: Bed, spoil: dict) -> None:
    bed.hold(1, 2, 3)
    frames = np.zeros(3, FRAME)
    frames["number"] = bed.held.numbers()
    for name in spoil.keys() & {"standing", "number"}:
        frames[name][1] = spoil.pop(name)
    stamps = np.zeros(MOST, np.int64)
    assert bed.held.pass_clean(piece(frames, **spoil), stamps, SUSPECT) == (-1, 0)
    assert len(bed.held) == 3 and bed.heard() == []


def test_a_batch_that_is_none_is_refused(bed: Bed) -> None:
    good, stamps = piece(np.zeros(2, FRAME)), np.zeros(MOST, np.int64)
    for wrong in (b"", good[:7], good[:-1], struct.pack("=Q", 2**63) + good[8:]):
        with pytest.raises(ValueError, match="longer"):
            bed.held.pass_clean(wrong, stamps, 0)
    bed.hold(1, 2)
    frames = np.zeros(2, FRAME)
    frames["number"] = bed.held.numbers()
    with pytest.raises(ValueError, match="a place for each"):
        bed.held.pass_clean(piece(frames), stamps[:1], 0)
    assert len(bed.held) == 2


def test_the_batch_of_a_ring_beside_the_queue_is_left_alone_however_long(bed: Bed) -> None:
    frames = np.zeros(2_000, FRAME)
    frames["number"] = np.arange(1, 2_001)
    assert bed.held.pass_clean(piece(frames), np.zeros(MOST, np.int64), SUSPECT) == (-1, 0)


@pytest.mark.parametrize(
    "wrong", [{"copy_bytes": 0}, {"copy_bytes": 70_000}, {"length": 0}, {"most": 2_000}]
)
def test_sizes_out_of_bounds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        HeldPackets(-1, **({"queue": 1, "copy_bytes": 64, "length": 8} | wrong))


def test_interfaces_are_checked(bed: Bed) -> None:
    with pytest.raises(ValueError, match="6 bytes"):
        bed.held.set_ports([(1, 1, b"abc", True, False)])
    with pytest.raises(ValueError, match="at most"):
        bed.held.set_ports([(i, i, OURS, True, False) for i in range(5000)])
    with pytest.raises(ValueError, match="a place"):
        bed.held.read(bed.frames[:1], NOW)
