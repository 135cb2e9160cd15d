"""The replay of all captures runs, on two of them; its sums are those of its rows."""

import json
import sys

import pytest

from tests.campaigns import replay_all

ORIGIN = "evilfingers_nmap"


@pytest.mark.data
def test_a_small_replay(data_dir, tmp_path, monkeypatch, capsys):
    words = ["--data", data_dir, "--only", f"{ORIGIN}/tcp", "--out", tmp_path, "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["replay_all", *map(str, words)])
    assert replay_all.main() == 0
    found = json.loads((tmp_path / "replay.json").read_text())["captures"]
    assert sorted(row["file"].split("/")[1] for row in found) == [
        "tcp_connect_scan.pcap.gz",
        "tcp_syn_scan.pcap.gz",
    ]
    for row in found:
        assert not row["trained_on"] and row["family"] == "Recon" and row["attackers"] == 1
        # The scan rule names the scanner; nobody accuses the scanned.
        assert row["triggers"]["found"] == 1
        assert all(row[run]["wronged"] == 0 for run in replay_all.RUNS)
        assert row["forest"]["counters"]["screened"] == 0
        assert row["triggers"]["counters"]["contained"] == 0
    text = (tmp_path / "replay.txt").read_text()
    assert text in capsys.readouterr().out
    assert "  Recon                     2" in text


def test_the_runs_differ_in_what_they_leave_out():
    appliance, triggers, forest = map(replay_all.configuration, replay_all.RUNS)
    assert appliance.enforce.enabled and not triggers.enforce.enabled and forest.enforce.enabled
    assert (appliance.trigger.kind, forest.trigger.kind) == ("embedded", "always")
    assert appliance.policy == triggers.policy == forest.policy
