"""One act end to end: lab, gateway, node, attack, measures, capture, and what replays say to it."""

import json
import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from ids_appliance.gateway.messages import AskAllowed, AskDecisions, AskStatus
from ids_appliance.lab.demo.acts import sequence
from ids_appliance.lab.demo.alone import Judges
from ids_appliance.lab.demo.play import Player
from ids_appliance.lab.demo.results import judge
from ids_appliance.lab.demo.show import TOOLS, identity, names
from ids_appliance.lab.demo.stage import Stage
from ids_appliance.lab.demo.timeline import named
from ids_appliance.lab.network import Lab
from ids_appliance.lab.services import offered
from ids_appliance.train.labels import Labeller, read_labels
from tests.net.namespaces import require

pytestmark = pytest.mark.net

MODEL = Path(__file__).resolve().parents[3] / "models" / "iot-top20"
WINDOW_S = 2.0
LATE = ("not contained within 2 s of the trigger", "the window did not close while the attacker")
"""How fast it is, the demo says, on a machine with nothing else to do."""


def test_a_port_scan_is_contained(tmp_path: Path) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    require("nmap")
    act = next(a for a in sequence(WINDOW_S, bridged=False) if a.name == "port_scan")
    with Lab("routed", tag="d") as lab, offered(lab):
        with Stage(lab, model=MODEL, folder=tmp_path, window_s=WINDOW_S) as stage:
            status = stage.ask(AskStatus())
            assert status.mode == "offloaded" and status.enforcing
            said = stage.allow("admin", "takes the inventory")
            assert lab.mac("admin").hex(":") in said
            assert len(stage.ask(AskAllowed()).entries) == 1
            player = Player(lab, stage, clock=time.time_ns, folder=tmp_path / "acts", mib=10)
            one = player.play(act, window_s=WINDOW_S, say=lambda kind, line: None)
            assert stage.ask(AskDecisions()) == [], "everybody is free again"
            lab.run("bot", "ping", "-c", "1", "-w", "20", lab.address("dev02"))  # until one comes
        host, known = identity(lab), names(lab)
    result = judge(one, baseline=one.figures.goodput, true_mac=b"")
    late = [one for one in result.failures if one.startswith(LATE)]
    assert result.failures == late, (result, one.story)
    assert result.response == "quarantine" and result.accused == []
    assert result.trigger_s is not None and result.kernel_s is not None
    assert 0 <= result.trigger_s <= result.kernel_s
    # From the first whole sample after the kernel had the element.
    after = [s for s in one.figures.samples if s.time_ns > one.story.contained_ns][1:]
    assert len(after) > 1 and after[-1].arrived == after[0].arrived
    assert result.containment is not None
    assert result.containment.arrived < result.containment.sent
    events = (tmp_path / "events.jsonl").read_text().splitlines()
    assert {json.loads(line)["event_type"] for line in events} >= {"trigger", "window", "response"}
    assert one.capture is not None
    labeller = Labeller(read_labels(one.capture.parent / "labels.json")[0])
    judges = Judges(MODEL, host, partial(named, names=known), window_s=WINDOW_S)
    found = judges.act(one.capture, lambda batch: labeller.label(batch)[0], attacked=True)
    assert found.both.stopped and found.both.wronged == ()
    assert found.trigger.stopped and found.trigger.judged == 0
    assert found.forest.judged > found.both.judged > 0
