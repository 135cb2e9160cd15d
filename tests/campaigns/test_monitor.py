"""The monitor's campaigns for `make nightly`: a flood ended by a flow entry, no controller."""

import pytest

from tests.campaigns.monitor_controller import play
from tests.campaigns.monitor_flood import campaign
from tests.monitor.controlled import controlled
from tests.net.namespaces import require

pytestmark = [pytest.mark.nightly, pytest.mark.net]


@pytest.mark.parametrize("cut", ["mac", "port"])
@pytest.mark.parametrize("forged", [False, True])
def test_a_flood_ends_and_others_notice_nothing(cut: str, forged: bool) -> None:
    require("hping3")
    found = campaign(pps=2000, seconds=10, cut=cut, forged=forged, controller=forged)
    assert found["cut_before_end"] and found["after_cut"] < 200
    assert found["host3_pings_lost"] == found["host3_openings_failed"] == 0


@pytest.mark.parametrize("mode", ["secure", "standalone"])
def test_traffic_goes_on_without_a_controller(
    mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with controlled(tmp_path_factory.mktemp("mk"), "mk") as place:
        found = play(place, mode, away_s=20.0)
    assert found["lost"] == 0 and found["newcomer_while_away"]
