"""Gate and real screen together: a capture's outcomes, however its frames fall into batches."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import ids_appliance
from ids_appliance import config
from ids_appliance._features import HostIdentity
from ids_appliance.capture.file import CaptureFile
from ids_appliance.trigger import embedded
from ids_appliance.trigger.gate import ScrutinyGate
from ids_appliance.trigger.sample import SampleTrigger
from ids_appliance.trigger.window import Window
from ids_appliance.types import FrameBatch, Outcome

DEMO = Path(ids_appliance.__file__).parent / "demo" / "lan.pcap.gz"
HOST = HostIdentity().packed()
SETTINGS = config.Window(window_s=7.0, max_window_s=9.0, sample_every_s=10.0, sample_s=0.5)


@pytest.fixture(scope="module")
def whole():
    """All frames of the demo in one batch."""
    data, tables, at = [], [], 0
    with closing(CaptureFile(DEMO)) as source:
        for batch in source.batches():
            table = batch.frames.copy()
            table["offset"] += at
            data.append(batch.data.copy())
            tables.append(table)
            at += len(batch.data)
    return FrameBatch(np.concatenate(data), np.concatenate(tables))


def run(batch, sizes):
    screen = embedded.build(config.Trigger())
    window, heard = Window(SETTINGS), []
    gate = ScrutinyGate(screen, window, triggers=(SampleTrigger(SETTINGS),), on_events=heard.extend)
    frames = batch.frames.copy()
    outcomes, at, turn = [], 0, 0
    while at < len(frames):
        part = frames[at : at + sizes[turn % len(sizes)]]
        outcomes.append(gate.admit(FrameBatch(batch.data, part), HOST))
        at, turn = at + len(part), turn + 1
    outcomes = np.concatenate(outcomes)
    records = [
        (r.rule, r.key, r.opened_ns, r.closed_ns, r.why, r.seen, r.triggers, r.contained)
        for r in window.records
    ]
    judged = outcomes == Outcome.WAITING
    events = [(e.rule, e.key, e.timestamp_ns, e.sender, e.detail) for e in heard]
    return outcomes.tolist(), np.where(judged, frames["standing"], 0).tolist(), records, events


@pytest.mark.parametrize("sizes", [[4096], [1], [7, 1, 300], [256]])
def test_outcomes_do_not_depend_on_the_batches(whole, sizes):
    expected = run(whole, [len(whole.frames)])
    outcomes, standing, records, events = run(whole, sizes)
    assert outcomes == expected[0] and standing == expected[1]
    assert records == expected[2] and events == expected[3]
    # Something happens in it: samples, an incident that its greatest length cuts in pieces.
    whys = {record[4] for record in records}
    assert {"sample over", "max_window"} <= whys
    assert {Outcome.SCREENED, Outcome.WAITING} <= set(outcomes)
