"""Splitter: each variant of pcap and pcapng, every split of the input, and nonsense."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance._capfile import MAX_BLOCK, MAX_FRAME, MIN_CHUNK, Splitter
from ids_appliance.types import FRAME, Direction
from tests.capture import build
from tests.examples import examples

FRAMES = [bytes(range(n % 256)) * (1 + n // 256) for n in (14, 60, 1, 64, 250, 0, 33)]
ORDERS = pytest.mark.parametrize("order", [build.LITTLE, build.BIG])


def split(data: bytes, *, step: int | None = None, room: int = 4096):
    """Return (records, bytes of each frame, splitter), fed `step` bytes more at a time."""
    splitter = Splitter()
    out = np.zeros(room, FRAME)
    records, frames = [], []
    start = end = 0
    while True:
        n, consumed = splitter.split(data[start:end], out)
        assert 0 <= consumed <= end - start
        for record in out[:n]:
            offset, caplen = int(record["offset"]), int(record["caplen"])
            assert offset + caplen <= consumed
            frames.append(data[start + offset : start + offset + caplen])
        records.append(out[:n].copy())
        start += consumed
        if n == room:
            continue
        if splitter.ended or end == len(data):
            break
        end = len(data) if step is None else min(len(data), end + step)
    splitter.finish(len(data) - start)
    return np.concatenate(records), frames, splitter


def faults(splitter: Splitter) -> dict[str, int]:
    return {k: v for k, v in splitter.counters().items() if v and k != "delivered"}


@ORDERS
@pytest.mark.parametrize("nano", [False, True])
def test_pcap(order: str, nano: bool) -> None:
    data = build.pcap_header(order, nano=nano, linktype=0x1000_0071)
    data += build.pcap_record(b"abc", order, at=(7, 999_999), wirelen=1500)
    data += build.pcap_record(b"", order, at=(0xFFFFFFFF, 0))
    records, frames, splitter = split(data)
    assert frames == [b"abc", b""]
    assert records["wirelen"].tolist() == [1500, 0]
    unit = 1 if nano else 1000
    assert records["timestamp_ns"].tolist() == [7 * 10**9 + 999_999 * unit, 0xFFFFFFFF * 10**9]
    assert records["number"].tolist() == [1, 2]
    assert set(records["linktype"]) == {113}, "the upper half of the field tells of the FCS"
    assert set(records["direction"]) == {Direction.UNKNOWN}
    assert not records["ifindex"].any() and not records["standing"].any()
    assert faults(splitter) == {}


@pytest.mark.parametrize("minor, lengths", [(2, (3, 9)), (2, (9, 3)), (4, (3, 9))])
def test_old_pcap_has_its_lengths_interchanged(minor: int, lengths: tuple[int, int]) -> None:
    data = build.pcap_header(version=(2, minor))
    data += build.pcap_record(b"abc", caplen=lengths[0], wirelen=lengths[1])
    records, frames, _ = split(data)
    assert frames == [b"abc"] and records["wirelen"].tolist() == [9]


@ORDERS
def test_pcapng_interfaces_have_their_own_link_and_clock(order: str) -> None:
    data = build.section(order)
    data += build.interface(1, order)
    data += build.interface(101, order, options=build.resolution(9, order))
    offset = build.seconds_offset(-5, order)
    data += build.interface(113, order, options=build.resolution(0x80 | 10, order) + offset)
    data += build.interface(228, order, options=build.resolution(12, order))
    data += build.interface(229, order, options=build.resolution(0, order))
    for face, ticks in enumerate([1_700_000_000_000_001, 2**40 + 3, 20 * 1024 + 512, 10**15, 77]):
        data += build.enhanced(b"frame", order, face=face, ticks=ticks)
    records, frames, splitter = split(data)
    assert frames == [b"frame"] * 5
    assert records["linktype"].tolist() == [1, 101, 113, 228, 229]
    assert records["timestamp_ns"].tolist() == [
        1_700_000_000_000_001_000,
        2**40 + 3,
        15_500_000_000,
        10**12,
        77 * 10**9,
    ]
    assert faults(splitter) == {}


@pytest.mark.parametrize("exponent", range(128))
@pytest.mark.parametrize("power_of_two", [0, 0x80])
def test_pcapng_clock_of_any_resolution(exponent: int, power_of_two: int) -> None:
    ticks = 0x0123_4567_89AB_CDEF
    expected = ticks * 10**9 // (2 if power_of_two else 10) ** exponent
    data = build.section() + build.interface(options=build.resolution(power_of_two | exponent))
    found = int(split(data + build.enhanced(b"x", ticks=ticks))[0]["timestamp_ns"][0])
    if expected < 2**63:
        assert abs(found - expected) <= 1
    # past 2**63 ns (the year 2262) a time is nonsense and may be any


@ORDERS
def test_pcapng_direction(order: str) -> None:
    comment = build.option(1, b"five!", order)
    data = build.section(order) + build.interface(1, order)
    for options in (
        b"",
        build.direction(build.INBOUND, order),
        comment + build.direction(build.OUTBOUND, order),
        build.option(0, b"", order) + build.direction(build.OUTBOUND, order),
        struct.pack(order + "HH", 1, 5000) + build.direction(build.OUTBOUND, order),
    ):
        data += build.enhanced(b"frame", order, options=options)
    unknown = Direction.UNKNOWN
    found = split(data)[0]["direction"].tolist()
    assert found == [unknown, unknown, Direction.OUTGOING, unknown, unknown]


@ORDERS
def test_pcapng_simple_and_obsolete_packets(order: str) -> None:
    data = build.section(order) + build.interface(1, order, snaplen=8)
    data += build.obsolete(b"obsolete", order, ticks=5)
    data += build.simple(b"simple", order)
    data += build.simple(b"longer than that", order, wirelen=300)
    records, frames, _ = split(data)
    assert frames == [b"obsolete", b"simple", b"longer t"]
    assert records["timestamp_ns"].tolist() == [5000] * 3, "no time of its own: the one before"
    assert records["wirelen"].tolist() == [8, 6, 300]


def test_pcapng_sections_start_anew() -> None:
    data = build.pcapng([b"one"], build.BIG) + build.pcapng([b"two"], linktype=101)
    data += build.section(build.BIG) + build.enhanced(b"nobody's", build.BIG)
    data += build.interface(113, build.BIG) + build.enhanced(b"four", build.BIG)
    records, frames, splitter = split(data)
    assert frames == [b"one", b"two", b"four"]
    assert records["linktype"].tolist() == [1, 101, 113]
    assert records["number"].tolist() == [1, 2, 4], "a number is the frame's place in the file"
    assert faults(splitter) == {"unknown_interface": 1}


def test_pcapng_other_blocks_are_skipped_however_long() -> None:
    large = build.block(0x0BAD, bytes(MAX_BLOCK - 12))
    data = build.section() + large + build.interface() + build.block(5, b"statistics")
    data += build.enhanced(b"here", options=build.option(1, bytes(60_000)) * 9)
    data += build.enhanced(b"there")
    _, frames, splitter = split(data, step=MIN_CHUNK // 2)
    assert frames == [b"here", b"there"]
    assert faults(splitter) == {"skipped_blocks": 2}


def test_pcapng_many_interfaces_are_bounded() -> None:
    data = build.section() + build.interface() * 5000
    data += build.enhanced(b"last known", face=4095) + build.enhanced(b"past it", face=4096)
    _, frames, splitter = split(data)
    assert frames == [b"last known"] and faults(splitter) == {"unknown_interface": 1}


VARIANTS = {
    "pcap": build.pcap(FRAMES),
    "pcap big": build.pcap(FRAMES, build.BIG),
    "pcapng": build.pcapng(FRAMES),
    "pcapng big": build.pcapng(FRAMES, build.BIG),
}
variant = pytest.mark.parametrize("data", VARIANTS.values(), ids=VARIANTS)


@variant
@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("room", [1, 3, 4096])
def test_any_split_gives_the_same(data: bytes, step: int, room: int) -> None:
    whole, frames, _ = split(data)
    records, pieces, splitter = split(data, step=step, room=room)
    assert frames == pieces == FRAMES
    plain = [name for name in FRAME.names if name != "offset"]
    assert (records[plain] == whole[plain]).all()
    assert faults(splitter) == {}


@variant
def test_cut_anywhere(data: bytes) -> None:
    whole = split(data)[1]
    ends = 0
    for length in range(len(data)):
        _, frames, splitter = split(data[:length])
        assert frames == whole[: len(frames)]
        known = splitter.recognised
        cut = faults(splitter)
        if known:
            assert cut in ({}, {"truncated_file": 1})
            ends += cut == {}
    # Only behind a record, or the head (of pcapng: section and interface), is an end no cut.
    heads = 2 if data.startswith(b"\n\r\r\n") else 1
    assert ends == heads + len(FRAMES) - 1


@pytest.mark.parametrize(
    "damage",
    [
        build.pcap_record(b"", caplen=MAX_FRAME + 1),
        build.pcap_record(b"", caplen=0xFFFFFFFF, wirelen=0xFFFFFFFF),
    ],
)
def test_pcap_nonsense_ends_the_file(damage: bytes) -> None:
    data = VARIANTS["pcap"] + damage + build.pcap_record(b"never reached")
    _, frames, splitter = split(data)
    assert frames == FRAMES and splitter.ended and faults(splitter) == {"bad_record": 1}


def word(n: int) -> bytes:
    return struct.pack("<I", n)


@pytest.mark.parametrize(
    "damage",
    {
        "length 0": word(6) + word(0) + bytes(40),
        "length below 12": word(9) + word(8) + bytes(40),
        "odd length": word(9) + word(13) + bytes(40),
        "huge": word(9) + word(MAX_BLOCK + 4) + bytes(40),
        "largest": word(9) + word(0xFFFFFFFC) + bytes(40),
        "other length behind": word(9) + word(12) + word(16) + bytes(40),
        "short packet": word(6) + word(28) + bytes(40),
        "short old packet": word(2) + word(28) + bytes(16) + word(28),
        "short simple packet": word(3) + word(12) + word(12),
        "short interface": word(1) + word(16) + bytes(4) + word(16),
        "frame past its block": build.enhanced(b"abc", caplen=9),
        "frame of 4 GiB": build.enhanced(b"abc", caplen=0xFFFFFFFF),
        "frame over the cap": word(6) + word(MAX_FRAME + 400) + bytes(12) + word(MAX_FRAME + 4) * 2,
        "simple frame over the cap": word(3) + word(MAX_FRAME + 400) + bytes(12),
        "section in no byte order": word(0x0A0D0D0A) + word(28) + bytes(40),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_pcapng_nonsense_ends_the_file(damage: tuple[str, bytes]) -> None:
    data = VARIANTS["pcapng"] + damage[1] + build.enhanced(b"never reached")
    _, frames, splitter = split(data)
    assert frames == FRAMES and splitter.ended and faults(splitter) == {"bad_record": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a" + bytes(40),
        bytes(40),
        b"\n\r\r\n" + bytes(40),
        b"\xd4\xc3\xb2\xa1\x07" + bytes(40),
    ],
)
def test_something_else_is_not_recognised(data: bytes) -> None:
    splitter = Splitter()
    assert splitter.recognise(data[:3]) == 0 and splitter.recognised is None
    assert splitter.recognise(data) == 0 and splitter.recognised is False
    assert splitter.split(data, np.zeros(1, FRAME)) == (0, 0)


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one place"):
        Splitter().split(VARIANTS["pcap"], np.zeros(0, FRAME))


@examples(300)
@given(
    base=st.sampled_from(list(VARIANTS.values())),
    edits=st.lists(
        st.tuples(st.integers(0, 700), st.binary(min_size=0, max_size=6), st.integers(0, 6)),
        max_size=6,
    ),
    step=st.sampled_from([None, 5, 61]),
)
def test_mutations_are_survived(
    base: bytes, edits: list[tuple[int, bytes, int]], step: int | None
) -> None:
    data = base
    for at, piece, drop in edits:
        data = data[:at] + piece + data[at + drop :]
    records, frames, splitter = split(data, step=step)
    counters = splitter.counters()
    assert counters["delivered"] == len(frames) == len(records)
    assert sum(len(frame) for frame in frames) <= len(data)
    assert (records["caplen"] <= MAX_FRAME).all()
    assert counters["bad_record"] + counters["truncated_file"] <= 1
    assert len(frames) + counters["unknown_interface"] <= splitter.frames


@examples(200)
@given(st.sampled_from([b"", b"\n\r\r\n", b"\xd4\xc3\xb2\xa1"]), st.binary(max_size=400))
def test_noise_is_survived(head: bytes, noise: bytes) -> None:
    split(head + noise, step=17)
