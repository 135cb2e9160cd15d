"""Calibration: the highest score of each sender, in how many hours, and what labels say."""

import numpy as np

from ids_appliance import config
from ids_appliance.policy.bounds import Bounds, settings_of
from ids_appliance.policy.calibration import Calibration, Reached, peaks_of
from ids_appliance.types import SENDER, JudgedBatch, Outcome, TriggerEvent
from tests.policy.judged import flood_record, judged, lan_key

BOUNDS = Bounds(
    upper=1.0,
    false_alarms=0.0,
    prior_logit=0.0,
    model_id="00" * 16,
    settings=settings_of(config.Policy(clip=3.0)),
    priors={"port_scan": 5.0},
)
HOUR_NS = 3_600_000_000_000


def at(batch: JudgedBatch, ns: int) -> JudgedBatch:
    batch.frames["timestamp_ns"] = ns
    return batch


def test_a_peak_stays_when_the_score_has_faded() -> None:
    c = Calibration(config.Policy(clip=3.0), BOUNDS)
    c.take(judged([(1, cell, 1.0) for cell in range(4)] + [(2, 9, 0.1)]))
    c.take(at(judged([(1, 9, 0.1)]), HOUR_NS))
    assert c.reached() == {lan_key(1): Reached(12.0, 5, 2), lan_key(2): Reached(0.0, 1, 1)}
    assert c.counters()["evidence_crossed"] == 0


def test_triggers_weigh_once_a_window_and_are_noted() -> None:
    c = Calibration(config.Policy(clip=3.0), BOUNDS, window_s=1e9)
    for _ in range(3):
        c.notice(TriggerEvent("port_scan", "k", 0, 0, lan_key(1), ""))
    c.notice(TriggerEvent("overflow", "k", 0, 0, None, ""))
    c.take(judged([(1, 7, 1.0)]))
    assert c.reached()[lan_key(1)].peak == 8.0
    assert c.triggers == {"port_scan": {lan_key(1)}}
    again = Calibration(config.Policy(clip=3.0), BOUNDS, window_s=10.0)
    for second in range(0, 60, 20):
        again.take(at(judged([(1, 7, 0.5)]), second * 10**9))
        again.notice(TriggerEvent("port_scan", "k", second * 10**9, 0, lan_key(1), ""))
    # Three windows, each naming it anew, faded by a half-life of 30 s.
    assert 10.0 < again.reached()[lan_key(1)].peak < 12.0


def test_who_was_only_named_by_a_trigger_is_not_a_sender_yet() -> None:
    c = Calibration(config.Policy(clip=3.0), BOUNDS)
    c.notice(TriggerEvent("port_scan", "k", 0, 0, lan_key(1), ""))
    assert c.reached() == {}


def test_labels_are_those_of_the_frames_and_of_a_floods_record() -> None:
    labels = np.array([0, 1, 2, 1], np.uint8)
    c = Calibration(config.Policy(clip=3.0), BOUNDS, labels_of=lambda numbers: labels[numbers - 1])
    floods = np.zeros(16, SENDER)
    floods[1] = flood_record()
    c.set_floods(floods)
    batch = judged([(1, 1, 0.2), (2, 1, 0.9), (1, 1, 0.9), (3, 1, 0.9)])
    batch.frames["standing"][3] = 1 << 4
    c.take(batch)
    found = {sender: one.labels for sender, one in c.reached().items()}
    assert found == {lan_key(1): 0b101, lan_key(2): 0b10, floods[1].tobytes(): 0b10}


def test_only_judged_packets_are_remembered() -> None:
    c = Calibration(config.Policy(clip=3.0), BOUNDS)
    batch = judged([(1, 1, 0.9), (2, 1, 0.9)])
    batch.outcomes[0] = Outcome.OWN
    c.take(batch)
    c.take(judged([]))
    assert set(c.reached()) == {lan_key(2)}


def test_ordinary_malicious_and_neither() -> None:
    reached = {
        "ordinary": Reached(1.0, 5, 12, 0b0001),
        "attacker": Reached(9.0, 5, 1, 0b0011),
        "victim": Reached(4.0, 5, 1, 0b0101),
    }
    peaks = peaks_of(reached, benign=1, malicious=2)
    assert peaks.ordinary.tolist() == [1.0] and peaks.device_days == 0.5
    assert peaks.malicious is not None and peaks.malicious.tolist() == [9.0]
    unlabelled = peaks_of({"a": Reached(1.0, 1, 24), "b": Reached(2.0, 1, 24)})
    assert unlabelled.ordinary.tolist() == [1.0, 2.0] and unlabelled.malicious is None


def test_two_watches_of_a_sender_are_one() -> None:
    assert Reached(1.0, 5, 2, 1).merged(Reached(3.0, 1, 1, 2)) == Reached(3.0, 6, 3, 3)


def test_memory_is_bounded() -> None:
    c = Calibration(config.Policy(clip=3.0), BOUNDS, max_senders=4)
    c.take(judged([(n, 1, 0.2) for n in range(50)]))
    assert len(c.reached()) == 4 and c.counters()["evidence_evictions"] == 46
