"""The `replay` command: tables, JSON, settings, and what bad input gets."""

import json
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"


@pytest.fixture
def labels(capture):
    return capture.parent / "labels.json"


def test_table(ids, capture, labels):
    done = ids("replay", capture, "--model", MODEL, "--labels", labels)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "16,621 frames" in text and "windows 1" in text and "quarantine" in text
    assert "appliance: attackers found 1 of 1, ordinary senders accused 0 of 6" in text
    assert "triggers alone:" in text


def test_jsonl_and_no_labels(ids, capture):
    done = ids("replay", capture, "--model", MODEL, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    windows = [row for row in rows if row["type"] == "window"]
    decisions = [row for row in rows if row["type"] == "decision"]
    assert rows[-1]["type"] == "capture" and rows[-1]["windows"] == len(windows) == 1
    assert windows[0]["rule"] == "dos" and windows[0]["rules"]["dos"] >= 1
    assert rows[-1]["decisions"] == len(decisions) >= 1
    assert any(row["acts"] and row["response"] == "quarantine" for row in decisions)
    assert rows[-1]["attackers"] == rows[-1]["ordinary"] == 0
    # A text never asks for labels it was not given.
    table = ids("replay", capture, "--model", MODEL).stdout.decode()
    assert "attackers" not in table


def test_observe(ids, capture):
    done = ids("replay", capture, "--model", MODEL, "--observe")
    assert done.returncode == 0, done.stderr
    assert "(not enforced)" in done.stdout.decode() and "contained 0" in done.stdout.decode()


def test_settings_from_a_file(ids, capture, tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(f'interfaces = ["eth1"]\nmodel = "{MODEL}"\n[trigger]\nkind = "manual"\n')
    done = ids("replay", capture, "--model", MODEL, "--config", path)
    assert done.returncode == 0, done.stderr
    assert "windows 0" in done.stdout.decode()


def test_a_damaged_capture_is_replayed_as_far_as_it_goes(ids, capture, tmp_path):
    cut = tmp_path / "cut.pcap.gz"
    cut.write_bytes(capture.read_bytes()[:30_000])
    done = ids("replay", cut, "--model", MODEL)
    assert done.returncode == 2 and b"cut.pcap.gz" in done.stdout
    assert done.stderr.decode().startswith("Error: ")


def test_bad_input(refused, capture, labels, tmp_path):
    assert "cannot be opened" in refused("replay", tmp_path / "no.pcap", "--model", MODEL)
    assert "--model" in refused("replay", capture)
    other = tmp_path / "other.pcap.gz"
    other.write_bytes(capture.read_bytes())
    assert "does not name" in refused("replay", other, "--model", MODEL, "--labels", labels)
    bad = tmp_path / "bad.toml"
    bad.write_text('interfaces = ["eth1"]\n[window]\nwindows = 3\n')
    assert "window_s" in refused("replay", capture, "--model", MODEL, "--config", bad)
