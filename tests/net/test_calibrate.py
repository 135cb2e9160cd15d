"""`calibrate` on a real interface: who sent is remembered, and a second run goes on."""

import json
import subprocess
import sys
import time

import pytest

from ids_appliance.classify.bundle import make_bundle, save_bundle
from ids_appliance.policy.bounds import read_bounds
from tests.bundles import random_arrays
from tests.net.test_watch import udp_frames

pytestmark = pytest.mark.net


@pytest.fixture
def model(tmp_path):
    card = {"options": {"weight": "origin"}, "data": []}
    save_bundle(make_bundle(random_arrays(1), 0.5, card=card), tmp_path / "model")
    return tmp_path / "model"


def calibrate(net, model, tmp_path, *, duration):
    """Run it while the LAN's host sends; return what it said."""
    process = subprocess.Popen(
        [
            *net.command("gw", sys.executable, "-m", "ids_appliance", "calibrate", "lan0"),
            *("--for", duration, "--model", str(model), "--out", str(tmp_path / "bounds.json")),
            *("--state", str(tmp_path / "state.json")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        begun = process.stderr.readline()
        with net.packet_socket("lan", "eth0") as raw:
            frames = udp_frames(net, 50)
            while process.poll() is None:
                for frame in frames:
                    raw.send(frame)
        out, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    return begun, out


def test_a_watch_is_remembered_and_goes_on(routed, model, tmp_path):
    start = time.monotonic()
    begun, out = calibrate(routed, model, tmp_path, duration="2s")
    took = time.monotonic() - start
    assert "watching lan0 for 2 s more" in begun
    name = routed.mac("lan", "eth0").hex(":") + "@lan0"
    assert "would have been blocked" in out and name in out
    state = json.loads((tmp_path / "state.json").read_text())
    peak, packets, hours = state["senders"][name]
    assert 2.0 <= state["watched_s"] < took and packets >= 50 and hours in (1, 2) and peak >= 0.0
    bounds = read_bounds(tmp_path / "bounds.json")
    assert bounds.senders == len(state["senders"]) and list(bounds.data) == ["lan0"]

    whole = round(state["watched_s"]) + 2
    begun, _ = calibrate(routed, model, tmp_path, duration=f"{whole}s")
    assert f" for {whole - state['watched_s']:.0f} s more" in begun
    after = json.loads((tmp_path / "state.json").read_text())
    assert after["watched_s"] >= whole and after["senders"][name][1] > packets


def test_nothing_is_watched_once_enough_has_been_seen(routed, model, tmp_path):
    calibrate(routed, model, tmp_path, duration="2s")
    before = (tmp_path / "state.json").read_bytes()
    begun, _ = calibrate(routed, model, tmp_path, duration="1s")
    assert "for 0 s more" in begun
    assert (tmp_path / "state.json").read_bytes() == before
