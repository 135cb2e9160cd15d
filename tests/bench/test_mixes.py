"""Pools of frames: every one is a packet that a router passes on, the same every time."""

import numpy as np
import pytest

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.bench.mixes import MIXES, SOURCE, TARGET, address, aim, make
from ids_appliance.schema import FEATURE_NAMES, N_FEATURES
from ids_appliance.types import FRAME, SENDER, Outcome

SOME = 2048
FRAMES = 4096


@pytest.fixture(scope="module", params=MIXES)
def mix(request):
    return request.param, make(request.param, frames=FRAMES)


def parsed(pool, n=SOME):
    data, ends = pool
    n = min(n, len(ends))
    frames = np.zeros(n, FRAME)
    frames["offset"] = np.concatenate(([0], ends[: n - 1]))
    frames["caplen"] = frames["wirelen"] = np.diff(np.concatenate(([0], ends[:n])))
    frames["linktype"] = 1
    rows, outcomes = np.empty((n, N_FEATURES), np.uint16), np.empty(n, np.uint8)
    counters = np.zeros(len(COUNTER_NAMES), np.uint64)
    extract(data, frames, HostIdentity(), rows, np.empty(n, SENDER), outcomes, counters)
    return rows, outcomes


def test_every_frame_can_be_judged(mix):
    _, outcomes = parsed(mix[1])
    assert (outcomes == Outcome.JUDGED).all()


def test_every_header_is_one_that_a_router_passes_on(mix):
    data, ends = mix[1]
    starts = np.concatenate(([0], ends[:-1]))[:SOME]
    ip = data[starts[:, None] + 14 + np.arange(20)].astype(np.int64)
    words = ip[:, 0::2] * 256 + ip[:, 1::2]
    total = words.sum(axis=1)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    assert (total == 0xFFFF).all()
    assert (ip[:, 0] == 0x45).all() and (ip[:, 8] > 1).all()
    for first in (ip[:, 12], ip[:, 16]):
        assert ((first > 0) & (first < 224) & (first != 127)).all()
    sizes = ends[: len(starts)] - starts
    assert (words[:, 1] <= sizes - 14).all()


@pytest.mark.parametrize("name", ["syn-single", "syn-spoofed", "udp-flood", "random"])
@pytest.mark.parametrize("target", [b"", b"\xc0\0\2\1", b"\xff\xff\xff\xff", b"\0\0\0\0"])
def test_transports_sum_up_as_connection_tracking_wants(name, target):
    data, ends = make(name, frames=FRAMES)
    if target:
        aim((data, ends), target)
    seen = set()
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        frame = data[begin:end].tobytes()
        body = frame[34:]
        assert not target or frame[30:34] == target
        assert (
            sum(int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2)) % 0xFFFF == 0
        )
        pseudo = frame[26:34] + bytes([0, frame[23]]) + len(body).to_bytes(2, "big")
        whole = pseudo + body
        total = sum(int.from_bytes(whole[at : at + 2], "big") for at in range(0, len(whole), 2))
        assert total % 0xFFFF == 0, name
        assert frame[23] != 17 or body[6:8] != b"\0\0"  # of UDP that would mean: not summed
        seen.add(frame[23])
        if len(seen) == 2 or begin > 50_000:
            break
    assert seen


def test_the_same_every_time(mix):
    name, (data, ends) = mix
    again = make(name, frames=FRAMES)
    assert again[0].tobytes() == data.tobytes() and again[1].tobytes() == ends.tobytes()


def test_frames_are_addressed_in_place(mix):
    data, ends = mix[1]
    address((data, ends), b"\x02" * 6, b"\x04" * 6)
    starts = np.concatenate(([0], ends[:-1]))
    for begin in starts[:: len(starts) // 50].tolist():
        assert bytes(data[begin : begin + 14]) == b"\x02" * 6 + b"\x04" * 6 + b"\x08\x00"


def test_single_source_is_one_and_spoofed_are_many():
    column = FEATURE_NAMES.index("syn_flag")
    for name, least, most in (("syn-single", 1, 1), ("syn-spoofed", 2000, SOME)):
        data, ends = make(name, frames=FRAMES)
        sources = data[: SOME * 54].reshape(-1, 54)[:, 26:30]
        assert least <= len(np.unique(sources, axis=0)) <= most
        assert (parsed((data, ends))[0][:, column] == 1).all()
    assert SOURCE != TARGET


def test_random_packets_hardly_repeat():
    rows, _ = parsed(make("random", frames=FRAMES))
    assert len(np.unique(rows, axis=0)) > 0.99 * len(rows)
