"""A model learns of one's own network, is held against what is unseen, and may be refused."""

import json
import random
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.cli import main
from ids_appliance.train import retraining
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.retraining import Asked, held_out, last_part, reasons
from ids_appliance.train.training import Options
from tests.train.captures import flood, life, make_data, write_pcap

GOOD = {
    "own_old": {"flagged": 0.02, "found": 0.5},
    "own_new": {"flagged": 0.01, "found": 0.5},
    "corpus_without": {"flagged": 0.05, "found": 0.4},
    "corpus_with": {"flagged": 0.06, "found": 0.39},
}


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def asked(tmp_path, **change):
    return Asked(Options(data=tmp_path), tmp_path, **change)


def test_no_worse_is_good_enough(tmp_path):
    assert reasons(asked(tmp_path), GOOD) == []


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("own_new", {"flagged": 0.021}, "2.10% of this network's ordinary packets"),
        ("own_new", {"found": 0.4}, "finds 40.0% of this network's attacks"),
        ("corpus_with", {"found": 0.3}, "on other networks it finds 30.0%"),
        ("corpus_with", {"flagged": 0.08}, "on other networks it flags 8.0%"),
    ],
)
def test_each_loss_is_a_reason(tmp_path, part, change, told):
    found = reasons(asked(tmp_path), GOOD | {part: GOOD[part] | change})
    assert len(found) == 1 and told in found[0]


def test_the_end_of_each_capture_and_the_same_origins_are_kept_apart():
    late = last_part(np.array([0] * 10 + [1] * 100))
    assert late[:10].tolist() == [False] * 7 + [True] * 3 and late[10:].sum() == 30
    names = np.array([f"n{i}" for i in range(12)])
    packets = Packets(np.zeros((12, 60), np.uint16), np.arange(12) % 2, names, names)
    held = held_out(packets)
    assert held.sum() == 2 and set(packets.classes[held].tolist()) == {0, 1}
    other = np.arange(12)[::-1]
    assert set(names[other][held_out(packets.take(other))]) == set(names[held])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("retrain")
    make_data(root / "corpus", n=60)
    few = ["--trees", "4", "--leaves", "8", "--jobs", "1", "--no-evaluate"]
    result = run("train", "--data", root / "corpus", "--out", root / "old", *few)
    assert result.exit_code == 0, result.output
    rng = random.Random(5)
    write_pcap(root / "own/monday.pcap", life(rng, 100, port=9999))
    write_pcap(root / "own/scan.pcap", flood(rng, 60, port=7))
    files = '[files]\n"monday*" = "benign"\n"scan*" = "malicious DoS"\n'
    (root / "own/captures.toml").write_text('origin = "our-home"\n' + files)
    return root


def test_a_model_that_is_no_loss_replaces_the_old_one_and_can_be_gone_back_from(trained, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(trained / "old", out)
    given = ["--data", trained / "corpus", "--own", trained / "own", "--model", out, "--out", out]
    loose = ["--tolerance", "1", "--false-alarms", "1"]
    result = run("retrain", *given, *loose)
    assert result.exit_code == 0, result.output
    new, old = load_bundle(out), load_bundle(trained / "old")
    assert new.card["retrained"]["from"] == old.card["model_id"] != new.card["model_id"]
    assert {one["file"] for one in new.card["retrained"]["own"]} == {"monday.pcap", "scan.pcap"}
    assert new.card["options"]["trees"] == 4
    assert run("rollback", out).exit_code == 0
    assert load_bundle(out).card["model_id"] == old.card["model_id"]
    assert run("rollback", out).exit_code == 0
    assert load_bundle(out).card["model_id"] == new.card["model_id"]


def test_a_worse_one_is_refused_and_nothing_is_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(retraining, "reasons", lambda asked, compared: ["it flags everything"])
    out = tmp_path / "model"
    old = trained / "old"
    own = ["--data", trained / "corpus", "--own", trained / "own"]
    result = run("retrain", *own, "--model", old, "--out", out)
    assert result.exit_code == 2
    assert "the new model was not written: it flags everything" in result.output
    assert not out.exists()


def test_own_captures_are_an_origin_of_their_own(trained, tmp_path):
    shutil.copytree(trained / "own", tmp_path / "own")
    (tmp_path / "own/captures.toml").write_text('origin = "lab"\n[files]\n"*" = "benign"\n')
    given = ["--data", trained / "corpus", "--own", tmp_path / "own", "--model", trained / "old"]
    result = run("retrain", *given, "--out", tmp_path / "model")
    assert result.exit_code == 2 and "'lab', which the corpus has as well" in result.output


def test_rollback_without_anything_to_go_back_to(tmp_path):
    result = run("rollback", tmp_path / "bounds.json")
    assert result.exit_code == 2 and "bounds.json.previous is not there" in result.output
    (tmp_path / "bounds.json").write_text(json.dumps(1))
    assert run("rollback", tmp_path / "bounds.json").exit_code == 2
    assert json.loads((tmp_path / "bounds.json").read_text()) == 1
