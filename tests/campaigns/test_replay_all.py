"""The replay of all captures runs, on two of them; its sums are those of its rows."""

import json
import re
import sys

import pytest

from ids_appliance.train.study.replays import RUNS
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
        assert not row["trained_on"] and row["family"] == "Recon"
        assert all(row[run]["culprits"] == 1 for run in RUNS)
        # The scan rule names the scanner; nobody accuses the scanned.
        assert row["triggers"]["found"] == 1 and row["forest"]["named"] == 0
        assert all(row[run]["wronged"] == 0 for run in RUNS)
    text = (tmp_path / "replay.txt").read_text()
    assert text in capsys.readouterr().out
    assert re.search(r"^  Recon +2 .* 2/2 2/2", text, re.MULTILINE)
