"""Who is given up first under pressure, and how the cleared are told from the rest."""

import numpy as np
import pytest

from ids_appliance._evidence import canonical_senders
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.trigger.overload import LEVELS, MAX_CLEARED, Overload
from ids_appliance.types import SENDER, Direction, FrameBatch, Outcome, Standing
from tests.ext import frames as f

OUT = Outcome
MACS = [bytes([2, 0, 0, 0, 0, i]) for i in range(6)]


def lan_frame(mac):
    frame = bytearray(f.ethernet(f.ipv4(f.tcp())))
    frame[6:12] = mac
    return bytes(frame)


def batch_of(frames, **how):
    data, table = f.records(frames, **how)
    return FrameBatch(data, table)


def senders_of(batch, host=None):
    n = len(batch.frames)
    senders = np.zeros(n, SENDER)
    extract(
        batch.data,
        batch.frames,
        host or HostIdentity(),
        np.empty((n, 60), np.uint16),
        senders,
        np.empty(n, np.uint8),
        np.zeros(len(COUNTER_NAMES), np.uint64),
    )
    return [s.tobytes() for s in canonical_senders(senders)]


@pytest.fixture
def batch():
    """Senders 0 and 1 are cleared below, 2 and 3 unnamed, 4 suspect, 5 part of a flood."""
    made = batch_of([lan_frame(mac) for mac in MACS])
    made.frames["standing"] = [0, Standing.PROVEN, 0, Standing.CALLED, Standing.SUSPECT, 0x30]
    return made


def shed(batch, order, pressure):
    overload = Overload(order, lambda: pressure)
    overload.set_cleared(senders_of(batch)[:2])
    outcomes = np.full(len(batch.frames), OUT.WAITING, np.uint8)
    overload.shed(batch, outcomes)
    return [i for i, outcome in enumerate(outcomes) if outcome == OUT.SHED], overload.counts


@pytest.mark.parametrize(
    ("pressure", "gone"),
    [
        (0.0, []),
        (LEVELS[0] - 0.01, []),
        (LEVELS[0], [0, 1]),
        (LEVELS[1], [0, 1, 2, 3]),
        (LEVELS[2], [0, 1, 2, 3, 4, 5]),
        (1.0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_default_order(batch, pressure, gone):
    assert shed(batch, ("cleared", "unnamed", "suspect"), pressure)[0] == gone


def test_another_order(batch):
    assert shed(batch, ("unnamed", "suspect", "cleared"), LEVELS[0])[0] == [2, 3]
    gone, counts = shed(batch, ("unnamed", "suspect", "cleared"), LEVELS[1])
    assert gone == [2, 3, 4, 5]
    assert counts == {"shed_cleared": 0, "shed_unnamed": 2, "shed_suspect": 2}


def test_classes_left_out_of_the_order_are_never_given_up(batch):
    assert shed(batch, ("cleared",), 1.0)[0] == [0, 1]


def test_a_suspect_is_never_cleared(batch):
    batch.frames["standing"][0] |= Standing.SUSPECT
    assert shed(batch, ("cleared", "unnamed", "suspect"), LEVELS[0])[0] == [1]


def test_only_frames_that_wait_are_touched(batch):
    overload = Overload(("unnamed", "cleared", "suspect"), lambda: 1.0)
    outcomes = np.array(
        [OUT.OWN, OUT.CONTAINED, OUT.SCREENED, OUT.WAITING, OUT.ECHO, OUT.WAITING], np.uint8
    )
    overload.shed(batch, outcomes)
    assert outcomes.tolist() == [OUT.OWN, OUT.CONTAINED, OUT.SCREENED, OUT.SHED, OUT.ECHO, OUT.SHED]


def test_cleared_senders_beyond_us_are_known_by_address():
    gateway = bytes.fromhex("020000000099")
    host = HostIdentity([gateway])
    mac_of = [gateway, gateway]
    frames = [bytearray(f.ethernet(f.ipv4(f.tcp()))) for _ in mac_of]
    for frame, mac in zip(frames, mac_of, strict=True):
        frame[6:12] = mac
    frames[1][26:30] = bytes([203, 0, 113, 7])
    made = batch_of([bytes(x) for x in frames], direction=Direction.OUTGOING)
    overload = Overload(("cleared", "unnamed", "suspect"), lambda: LEVELS[0])
    overload.host = host
    overload.set_cleared([senders_of(made, host)[1]])
    outcomes = np.full(2, OUT.WAITING, np.uint8)
    overload.shed(made, outcomes)
    assert outcomes.tolist() == [OUT.WAITING, OUT.SHED]


def test_the_set_is_bounded(batch):
    overload = Overload(("cleared",), lambda: 1.0)
    mine = senders_of(batch)[0]
    many = [bytes([1]) + i.to_bytes(27, "big") for i in range(MAX_CLEARED)]
    overload.set_cleared([*many, mine])
    outcomes = np.full(6, OUT.WAITING, np.uint8)
    overload.shed(batch, outcomes)
    assert not (outcomes == OUT.SHED).any()
    overload.set_cleared([mine, *many])
    overload.shed(batch, outcomes)
    assert (outcomes == OUT.SHED).tolist() == [True] + [False] * 5
