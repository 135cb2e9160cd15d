"""A spoofed flood past a gateway that Zeek prescreens, with a real Zeek behind the real mirror."""

import shutil

import pytest

from tests.campaigns import zeek_live
from tests.net.namespaces import require

pytestmark = [pytest.mark.nightly, pytest.mark.net, pytest.mark.zeek]


@pytest.fixture(autouse=True)
def tools() -> None:
    require("trafgen")
    if shutil.which("zeek") is None:
        pytest.skip("no zeek on the PATH: packages as in docs/zeek.md")


def test_what_the_mirror_holds_back_is_said() -> None:
    result = zeek_live.passage("zeek", pps=10_000, seconds=5.0, mirror_pps=200)
    assert zeek_live.wrong(result) == [] and result["limited"] > 0


def test_below_the_limit_zeeks_own_rule_speaks() -> None:
    result = zeek_live.passage("zeek", pps=1_000, seconds=5.0, mirror_pps=100_000)
    assert zeek_live.wrong(result) == [] and result["limited"] == 0
    assert "dos (Zeek)" in result["trigger_s"]


def test_our_own_rules_alone() -> None:
    result = zeek_live.passage("embedded", pps=10_000, seconds=5.0)
    assert zeek_live.wrong(result) == [] and "dos (own)" in result["trigger_s"]
