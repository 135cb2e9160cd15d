"""The bundles that ship load, are small, and are made only of what may be shipped."""

import json

import pytest

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.terms import read_terms
from tests.conftest import ROOT
from tests.parity import compare

BUNDLES = ["models/iot-top20", "models/iot-all60"]


@pytest.fixture(params=BUNDLES)
def path(request):
    return ROOT / request.param


def test_loads_and_is_small(path):
    bundle = load_bundle(path)
    assert len(bundle.card["features"]) == (20 if path.name == "iot-top20" else 60)
    assert bundle.grid.threshold == 0.5
    assert sum(p.stat().st_size for p in path.iterdir()) < 500_000


def test_is_made_only_of_what_may_be_shipped(path):
    card = load_bundle(path).card
    terms = read_terms()
    assert card["options"]["only_shippable"]
    assert card["terms"] and all(terms[one["repo"]].ship for one in card["terms"])
    text = (path / "card.md").read_text()
    for one in card["terms"]:
        assert one["cite"] in text
    assert not any(fact["file"].startswith(("mqttset/", "tjoconnor/")) for fact in card["data"])


@pytest.mark.data
def test_every_file_is_of_a_repository_that_permits_it(path, data_dir):
    terms = read_terms()
    files = json.loads((data_dir / "labels.json").read_text())["files"]
    repo = {f["file"]: f["origin"]["repo"] for f in files}
    sha256 = {f["file"]: f["sha256_uncompressed"] for f in files}
    for fact in load_bundle(path).card["data"]:
        assert terms[repo[fact["file"]]].ship
        assert fact["sha256"] == sha256[fact["file"]]


def test_the_card_is_honest(path):
    metrics = load_bundle(path).card["metrics"]
    assert set(metrics) == {"random", "origin", "origin_distinct", "foreign"}
    for split in metrics.values():
        assert {"majority_class", "size_rule"} == set(split["baselines"])
    assert "Expect the figures of the split by origin" in (path / "card.md").read_text()


@pytest.mark.data
@pytest.mark.nightly
def test_equals_scikit_learn_on_every_packet(path, data_dir):
    # The same library versions are needed to get the same forest again.
    rows = read_corpus(data_dir, keep_cut=True).rows
    assert compare(path, data_dir, rows) == 0
