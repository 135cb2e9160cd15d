"""The second published system inline: the vote, every drop logged with what each member said."""

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import require
from ids_appliance.lab.services import NEEDS
from tests.campaigns import s2

pytestmark = [pytest.mark.net, pytest.mark.nightly]
pytest.importorskip("netfilterqueue", reason="needs the extra `gateway`")
pytest.importorskip("lightgbm", reason="needs the extra `dev`")


def test_the_vote_inline() -> None:
    try:
        require(*NEEDS, *s2.scenarios_need())
    except LabError as error:
        pytest.skip(str(error))
    (run,) = s2.campaign("all", ["vote"])
    assert s2.whole(run) and run.dropped == run.logged == sum(run.together.values())
    assert set(run.votes) == set(run.logged_votes) == {"forest", "logistic", "xgboost", "lightgbm"}
    assert run.packets["DoS"] >= 1000 and run.packets["ordinary"] >= 1000
    # What it was trained on it knows again, and drops: the same tool against the same port.
    assert run.judged_malicious["DoS"] >= 0.95 * run.packets["DoS"]
    assert run.dropped >= run.judged_malicious["DoS"]
    assert run.held >= run.dropped and run.p99_us >= run.p50_us > 0
    text = s2.markdown([run], features="all")
    assert any("not public" in line for line in text) and any("4 of 4" in line for line in text)
