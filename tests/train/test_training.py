"""Data in, bundle out: repeatable to the byte, honest in its card, exact against scikit-learn."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.cli import main
from ids_appliance.train.fit import Recipe
from ids_appliance.train.training import Options, gather, train
from tests.train.captures import make_data

FEW = ["--trees", "8", "--leaves", "16", "--folds", "2", "--jobs", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("captures")
    make_data(root)
    return root


@pytest.fixture
def terms(tmp_path):
    one = {"repo": "o/free", "terms": "MIT", "ship": True, "why": "permissive", "cite": "O, Free"}
    two = {"repo": "o/closed", "terms": "none stated", "ship": False, "why": "", "cite": ""}
    path = tmp_path / "terms.json"
    path.write_text(json.dumps({"repositories": [one, two]}))
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_equal_data_and_options_give_equal_bytes(data, tmp_path, terms):
    for name, jobs in (("a", "1"), ("b", "2")):
        result = run(
            "train", "--data", data, "--out", tmp_path / name, "--terms", terms, *FEW[:-1], jobs
        )
        assert result.exit_code == 0, result.output
        # The name is in the card for people alone.
        (tmp_path / name / "card.md").write_text("")
    for file in ("card.json", "arrays.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_card_says_what_a_user_must_know(data, tmp_path, terms):
    out = tmp_path / "model"
    result = run("train", "--data", data, "--out", out, "--terms", terms, *FEW)
    assert result.exit_code == 0, result.output
    assert "left out (terms do not permit it): 1 files" in result.output
    card = load_bundle(out).card
    assert set(card["metrics"]) == {"random", "origin", "origin_distinct", "foreign"}
    assert {fact["origin"] for fact in card["data"]} == {"home", "office", "lab"}
    assert all(len(fact["sha256"]) == 64 for fact in card["data"])
    assert card["terms"] == [{"repo": "o/free", "terms": "MIT", "cite": "O, Free"}]
    assert card["data_left_out"] == {
        "terms do not permit it": ["hall/mixed.pcap.gz"],
        "skipped: csv records, not a capture": ["kdd/records.csv"],
    }
    assert card["packets_trained_on"]["malicious"] == 360
    assert card["metrics"]["foreign"]["packets"] == 240
    assert str(data) not in json.dumps(dict(card))
    text = (out / "card.md").read_text()
    for said in ("Expect the figures of the split by origin", "Cite: O, Free", "Worst origins"):
        assert said in text
    shown = run("inspect", out)
    assert shown.exit_code == 0 and card["model_id"] in shown.output
    assert json.loads(run("inspect", out, "--json").output) == dict(card)
    assert "cuts, 1 byte" in run("inspect", out, "--grid").output


def test_both_forms_agree_on_every_packet_also_those_left_out(data, terms):
    options = Options(data, Recipe(trees=8, leaves=16, jobs=1), folds=0, terms=terms)
    material = gather(options)
    trained = train(options, material)
    rows = material.corpus.rows
    out = np.empty(len(rows))
    trained.bundle.forest.evaluate_rows(rows, out)
    integers = rows[:, trained.features].astype(np.float64)
    expected = np.ascontiguousarray(trained.pipeline.predict_proba(integers)[:, 1])
    assert out.tobytes() == expected.tobytes()


def test_all_features_and_other_options(data, tmp_path):
    out = tmp_path / "model"
    result = run(
        *("train", "--data", data, "--out", out, "--features", "all", "--no-evaluate"),
        *("--max-per-capture", "50", "--leave-out", "lab", "--threshold", "0.7", *FEW),
    )
    assert result.exit_code == 0, result.output
    card = load_bundle(out).card
    assert len(card["features"]) == 60 and card["threshold"] == 0.7 and card["metrics"] == {}
    assert sum(card["packets_trained_on"][c] for c in ("benign", "malicious")) == 4 * 50
    assert "Not evaluated" in (out / "card.md").read_text()


def test_related_packets_count_as_told(tmp_path):
    entries = make_data(tmp_path, n=12)
    for one in entries[:4]:
        answers = {"match": {"sport": 40001}, "label": "related"}
        one["rules"] = [answers, *one["rules"]]
    (tmp_path / "labels.json").write_text(json.dumps({"version": 1, "files": entries}))
    counts = {}
    for related in ("exclude", "benign", "malicious"):
        classes = gather(Options(tmp_path, related=related)).packets.classes
        counts[related] = ((classes == 0).sum(), (classes == 1).sum())
    (b0, m0), (b1, m1), (b2, m2) = counts.values()
    assert b1 > b0 and m1 == m0 and b2 == b0 and m2 - m0 == b1 - b0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{data}/none"], "is not a directory"),
        (["--data", "{data}/home"], "holds neither labels.json"),
        (["--data", "{data}", "--leave-out", "*"], "no capture that can be used"),
        (["--data", "{data}", "--leave-out", "*/mixed*"], "not of both classes"),
        (["--data", "{data}", "--terms", "{data}/none.json"], "cannot read the terms"),
    ],
)
def test_unusable_data_is_one_clear_line(data, tmp_path, arguments, message):
    arguments = [a.format(data=data) for a in arguments]
    result = run("train", "--out", tmp_path / "x", "--no-evaluate", *arguments)
    assert result.exit_code == 2
    assert message in result.output and len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_a_damaged_bundle_is_one_clear_line(tmp_path):
    result = run("inspect", tmp_path)
    assert result.exit_code == 2 and "not complete" in result.output


def test_of_one_origin_it_says_that_nothing_is_known_of_others(tmp_path):
    entries = make_data(tmp_path, n=40)
    (tmp_path / "labels.json").unlink()
    files = f'[files]\n"{entries[0]["file"]}" = "malicious DoS"\n"*" = "benign"\n'
    (tmp_path / "captures.toml").write_text(files)
    result = run("train", "--data", tmp_path, "--out", tmp_path / "model", *FEW)
    assert result.exit_code == 0, result.output
    assert "Nothing is known of other networks" in result.output
    card = load_bundle(tmp_path / "model").card
    assert set(card["metrics"]) == {"random"}
    text = (tmp_path / "model" / "card.md").read_text()
    assert "Nothing is known of other networks" in text and "Expect the figures" not in text
