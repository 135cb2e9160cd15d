"""The campaign: every family against its library on every packet of the labelled captures."""

import pytest

from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.families import FAMILIES
from ids_appliance.train.fit import Recipe
from ids_appliance.train.terms import SHIPPED
from ids_appliance.train.training import Options, gather
from tests.parity import campaign

pytestmark = [pytest.mark.data, pytest.mark.nightly]


@pytest.fixture(scope="module")
def packets(data_dir):
    return gather(Options(data_dir, terms=SHIPPED)).packets


@pytest.fixture(scope="module")
def rows(data_dir):
    return read_corpus(data_dir, keep_cut=True).rows


@pytest.mark.parametrize("features", ["top20", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_verdict_differs(family, features, packets, rows):
    found = campaign(Recipe(family=family, features=features), packets, rows)
    assert found["exact"] and found["verdicts_differ"] == 0
    assert found["same_when_repeated"]
    assert found["packets"] == len(rows) > 500_000
