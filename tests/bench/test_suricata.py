"""Suricata on the test bed: its counters in our names, and every packet through a real one."""

from pathlib import Path

import pytest

from ids_appliance.bench.bed import Bed
from ids_appliance.bench.modes import Running, Stage, others
from ids_appliance.bench.suricata import QUEUE, totals
from tests.net.namespaces import require

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"
TOLD = {
    "uptime": 9,
    "capture": {"kernel_packets": 120, "kernel_drops": 3},
    "decoder": {"pkts": 117, "invalid": 2},
    "flow": {"memcap": 5, "emerg_mode_entered": 1},
    "tcp": {"ssn_memcap_drop": 7},
    "ips": {"accepted": 90, "blocked": 4, "rejected": 0, "replaced": 1},
}


def test_what_it_counts_gets_our_names():
    beside, within = totals(TOLD, "afpacket"), totals(TOLD, "nfqueue")
    assert beside == {
        "judged": 117,
        "kernel_drops": 3,
        "malformed": 2,
        "flow_emergencies": 1,
        "flows_refused": 12,
    }
    assert within == beside | {"judged": 95}


@pytest.mark.parametrize("told", [None, {}, "stats", {"capture": {}}])
def test_what_it_has_not_counted_yet_is_nothing(told):
    assert set(totals(told, "nfqueue").values()) == {0}


class Arrived:
    def arrived(self) -> int:
        return 100


@pytest.mark.parametrize(("lag_s", "judged"), [(0.0, 0), (0.1, 100)])
def test_totals_that_lag_are_waited_for(lag_s, judged, monkeypatch):
    trial = pytest.importorskip("ids_appliance.bench.trial")
    monkeypatch.setattr(trial, "SETTLE_S", 0.01)
    looks = []

    def counters() -> dict[str, int]:
        looks.append(None)
        return {"judged": 100 if len(looks) > trial.STILL + 4 else 0}

    running = Running(counters, lag_s=lag_s)
    told = trial.BedTrials(Arrived(), None)._settled(running, (100, 100))
    assert told[1] == {"judged": judged}


@pytest.mark.net
@pytest.mark.parametrize("mode", others("suricata"), ids=lambda mode: mode.name)
def test_it_judges_every_packet_and_nothing_stays(mode):
    from ids_appliance.bench.trial import BedTrials  # noqa: PLC0415 - psutil is an extra

    require()
    if mode.missing:
        pytest.skip(mode.missing)
    with Bed() as bed, Stage(bed, MODEL) as stage:
        step = BedTrials(bed, stage).run(mode, "syn-single", 300, 0.5)
        assert bed.queue_drops(QUEUE) == 0
    assert step.judged == step.forwarded == step.sent.packets > 0
    assert step.counters["kernel_drops"] == step.counters["malformed"] == 0
