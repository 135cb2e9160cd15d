"""The test bed for real: what is offered is forwarded and judged, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ids_appliance.bench.bed import Bed
from ids_appliance.bench.groups import held
from ids_appliance.bench.modes import MODES, TIMED, Mode, Stage
from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import PREFIX, present, sweep
from tests.net.namespaces import require, wait_for

pytestmark = pytest.mark.net
ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "iot-top20"
SHORT = ("--step", "0.5", "--confirm", "0.5", "--confirmations", "1", "--rounds", "2")


@pytest.fixture(scope="module", autouse=True)
def privileged():
    require()


def trials(bed, stage):
    from ids_appliance.bench.trial import BedTrials  # noqa: PLC0415 - psutil is an extra

    return BedTrials(bed, stage)


def test_every_packet_is_forwarded_and_judged():
    with Bed() as bed, Stage(bed, MODEL) as stage:
        step = trials(bed, stage).run(MODES["gateway-only"], "ordinary", 1000, 0.5)
    # How fast they were sent is the machine's affair; what was sent has to be there.
    assert step.sent.packets > 0
    assert step.forwarded == step.judged == step.sent.packets
    assert step.counters["kernel_drops"] == 0
    assert set(step.used) == {"gateway", "generator"}


@pytest.mark.nightly
def test_a_step_may_last_longer_than_the_gateway_keeps_a_silent_connection():
    with Bed() as bed, Stage(bed, MODEL) as stage:
        step = trials(bed, stage).run(MODES["gateway-only"], "syn-single", 200, 12)
    assert step.forwarded == step.judged == step.sent.packets > 0


def test_a_killed_readers_rules_are_gone_for_the_next_mode():
    pytest.importorskip("netfilterqueue")
    with Bed() as bed, Stage(bed, MODEL) as stage:
        held = trials(bed, stage).run(MODES["inline-accepting"], "syn-single", 500, 0.5)
        nft = bed.command("gw", "nft", "list", "ruleset")
        after = subprocess.run(nft, capture_output=True, text=True, check=True)
    assert held.judged == held.forwarded == held.sent.packets > 0
    assert after.stdout == ""


@pytest.mark.nightly
@pytest.mark.parametrize("mix", ["syn-spoofed", "scan", "random"])
@pytest.mark.parametrize("name", [name for name, mode in MODES.items() if not mode.missing])
def test_every_mode_judges_every_packet_of_every_mix(name, mix):
    with Bed() as bed, Stage(bed, MODEL) as stage:
        step = trials(bed, stage).run(MODES[name], mix, 300, 2)
    assert step.forwarded == step.sent.packets > 0
    assert step.judged in (None, step.sent.packets)


def bench(out: Path, *options: str) -> list[str]:
    words = [sys.executable, "-m", "ids_appliance", "bench", "--out", str(out), *options]
    return [*words, "--mixes", "syn-single", "--modes", "tapped,offloaded", "--ceiling", "2000"]


@pytest.mark.nightly
@pytest.mark.parametrize("name", TIMED)
def test_latency_is_measured(name):
    with Bed() as bed, Stage(bed, MODEL) as stage:
        step = trials(bed, stage).run(TIMED[name], "ordinary", 300, 2)
    assert step.judged == step.sent.packets
    assert 0 < step.counters["latency_p50_us"] <= step.counters["latency_p99_us"]


@pytest.mark.nightly
def test_a_control_group_holds_the_gateway_and_goes_again():
    try:
        group = held("1core-1gb")
        with group as prefix, Bed() as bed, Stage(bed, MODEL, prefix=prefix) as stage:
            assert "-cgroup-1core-1gb" in " ".join(prefix)
            with stage.running(MODES["gateway-only"]) as running:
                groups = Path(f"/proc/{running.pids['gateway']}/cgroup").read_text()
    except LabError as error:
        pytest.skip(str(error))
    assert "-cgroup-1core-1gb" in groups
    assert not any(
        "-cgroup-" in str(p) for p in Path("/sys/fs/cgroup").glob(f"*/{PREFIX}{os.getpid()}*")
    )


def test_a_mode_that_is_not_there_says_so():
    stage = Stage(Bed(), MODEL)
    with pytest.raises(LabError, match="has not landed"):
        with stage.running(Mode("later", "", missing="it has not landed")):
            pass


@pytest.mark.nightly
def test_a_whole_run_writes_its_report(tmp_path):
    words = bench(tmp_path, *SHORT, "--fixed", "500", "--fixed-for", "0.5")
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "bench.json").read_text())
    assert not told["interrupted"] and len(told["found"]) == 4 and len(told["fixed"]) == 3
    assert "published, offloaded" in (tmp_path / "report.md").read_text()


def left() -> list[str]:
    scratch = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    return [name for name in (*present(), *(p.name for p in scratch)) if "-bench-" in name]


@pytest.mark.nightly
@pytest.mark.parametrize("moment", ["building", "measuring"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_nothing_stays(tmp_path, how, moment):
    words = bench(tmp_path, "--step", "2", "--fixed", "")
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    own = f"{PREFIX}{running.pid}."
    assert running.stdout is not None
    if moment == "building":
        wait_for(lambda: any(name.startswith(own) for name in left()))
    else:
        for line in running.stdout:
            if "tapped" in line:
                break
        assert any(name.startswith(own) for name in left())
    os.kill(running.pid, how)
    running.communicate(timeout=60)
    if how != signal.SIGKILL and moment == "measuring":
        assert json.loads((tmp_path / "bench.json").read_text())["interrupted"]
    assert running.returncode != 0

    def gone() -> bool:
        if how == signal.SIGKILL:
            sweep()  # again and again: a child of the killed one may still be making something
        return not any(name.startswith(own) for name in left())

    wait_for(gone)
