"""Homes are made again to the byte, their frames are whole, and whoever is wronged is named."""

import struct
from pathlib import Path

import numpy as np

from ids_appliance import assemble
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import SENDER, Outcome
from tests.campaigns.captures import frames
from tests.campaigns.home_life import __main__ as module
from tests.campaigns.home_life import homes
from tests.campaigns.home_life.__main__ import live, table
from tests.campaigns.home_life.habits import KINDS
from tests.campaigns.home_life.wire import BROADCAST, SYN, Host, Tcp

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"


def test_a_home_is_made_again_and_every_frame_of_it_is_well_formed(tmp_path):
    counts = []
    for name in ("a", "b"):
        home = homes.make(3, devices=5, hours=0.03)
        counts.append(homes.write(home, tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert counts[0] == len(list(frames(tmp_path / "a"))) > 100
    assert {device.kind for device in home.devices} <= KINDS.keys()
    faults, whole = np.zeros(len(COUNTER_NAMES), np.uint64), 0
    for batch in assemble.capture_file(str(tmp_path / "a")).batches():
        n = len(batch.frames)
        assert (np.diff(batch.frames["timestamp_ns"]) >= 0).all()
        outcomes = np.empty(n, np.uint8)
        rows = np.empty((n, N_FEATURES), np.uint16)
        host = HostIdentity(routers=[home.router.mac])
        extract(batch.data, batch.frames, host, rows, np.zeros(n, SENDER), outcomes, faults)
        whole += int((outcomes == Outcome.JUDGED).sum())
    assert whole == counts[0] and not faults[1:].any()


def test_a_connection_is_acknowledged_as_kernels_do_it():
    home = homes.make(1, devices=2, hours=0.001)
    home.wire.frames.clear()
    a, b = (Host(bytes([2, 0, 0, 0, 0, i]), bytes([10, 0, 0, i])) for i in (1, 2))
    tcp = Tcp(home.wire, (a, b), (40_000, 80))
    assert tcp.open(0.0, reached="refused") is None
    assert tcp.open(5.0, reached="no", tries=2) is None
    up = tcp.open(10.0)
    tcp.close(tcp.exchange(up, b"x" * 100, b"y" * 5000))
    segments = [(f[26:30] == a.ip, *struct.unpack("!IIBB", f[38:48])) for _, f in home.wire.frames]
    assert [s[4] for s in segments[:2]] == [SYN, 0x14] and [s[4] for s in segments[2:4]] == [2, 2]
    question, answer, done = segments[4:7]
    assert answer[2] == question[1] + 1 and done[2] == answer[1] + 1 and done[1] == answer[2]


def test_who_sweeps_the_whole_network_is_named_with_the_reason(tmp_path, monkeypatch):
    def sweep(home, device):
        for last in range(1, 255):
            ip = home.router.ip[:3] + bytes([last])
            wanted = (BROADCAST, device.host.ip, ip)
            home.wire.arp(100 + last * 0.01, device.host, 1, wanted)

    monkeypatch.setattr(homes, "KINDS", {"sweeper": ((sweep, 1.0),)})
    row = live(1, devices=2, hours=0.1, model=MODEL, runs=("appliance", "triggers"))
    for name, rule in (("appliance", "arp_sweep"), ("triggers", "mirai")):
        run = row["runs"][name]
        assert len(run["accused"]) == 2 and run["windows"] == 1
        assert [who["kind"] for who in run["accused"]] == ["sweeper"] * 2
        assert all(rule in who["why"] for who in run["accused"]), run["accused"]
    told = "\n".join(table([row]))
    assert "accused 2 devices" in told and "sweeper" in told
    assert 0 < row["runs"]["appliance"]["active_days"]["sweeper"] <= 2 * 0.1 / 24


def test_what_is_kept_is_of_the_same_model_and_has_all_runs(tmp_path, monkeypatch):
    lived = []

    def one(seed, *, model, runs, **_):
        lived.append((model.name, runs))
        return {"home": seed, "model": model.name, "runs": dict.fromkeys(runs, {})}

    monkeypatch.setattr(module, "live", one)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(name)
    for name, runs in (("a", ("x",)), ("a", ("x",)), ("b", ("x",)), ("a", ("x", "y"))):
        asked = {"devices": 2, "hours": 1.0, "model": tmp_path / name, "runs": runs}
        row = module.kept(3, folder=tmp_path, **asked)
        assert row["model"] == name and set(row["runs"]) == set(runs)
    assert lived == [("a", ("x",)), ("b", ("x",)), ("a", ("x", "y"))]
