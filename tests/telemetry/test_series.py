"""Every counter that the stages have is told to Prometheus under a name and help of its own."""

import pytest

from ids_appliance import config
from ids_appliance.capture.ring import RingSource
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.switch import SwitchClassifier
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.errors import PermissionMissing
from ids_appliance.policy.bounds import read_bounds
from ids_appliance.policy.sequential import SequentialPolicy
from ids_appliance.telemetry.events import EventLog
from ids_appliance.telemetry.series import series, untold
from ids_appliance.telemetry.traffic import Traffic
from ids_appliance.trigger import embedded
from ids_appliance.trigger.overload import Overload
from ids_appliance.trigger.standin import StandIn
from ids_appliance.trigger.window import Window
from ids_appliance.trigger.zeek import RULES, ZeekTrigger


def screen(_tmp, _bundle):
    return embedded.build(config.Trigger()).counters()


def policy(_tmp, _bundle):
    return SequentialPolicy(config.Policy(), read_bounds()).counters()


def window(_tmp, _bundle):
    order = ("cleared", "unnamed", "suspect")
    return Window(config.Window()).counts | Overload(order, lambda: 0.0).counts


def classifier(_tmp, bundle):
    local = SwitchClassifier(LocalClassifier(bundle))
    counters = local.counters()
    local.close()
    return counters


def enforcer(_tmp, _bundle):
    return NftEnforcer(
        config.Enforce(), interfaces=("lo",), protected=ProtectedSets(), clock=lambda: 0.0
    ).counters()


def log(tmp_path, _bundle):
    events = EventLog(config.Events(), path=tmp_path / "e", clock_ns=lambda: 1, host="gw")
    events.close()
    return events.counters()


class Nobody:
    def sender(self, mac, address):
        return None

    def named(self, rule, key):
        return None


def zeek(tmp_path, _bundle):
    settings = config.Zeek(log=str(tmp_path / "trigger.log"))
    trigger = ZeekTrigger(settings, names=Nobody(), wall_ns=lambda: 0)
    behind = StandIn(embedded.build(config.Trigger()), trigger, rules=RULES)
    return trigger.counters() | behind.counters()


def ring(_tmp, _bundle):
    try:
        source = RingSource("lo")
    except PermissionMissing:
        pytest.skip("needs CAP_NET_RAW")
    source.close()
    return source.counters()


def traffic(_tmp, _bundle):
    return Traffic().counters()


STAGES = [screen, zeek, policy, window, classifier, enforcer, log, ring, traffic]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_counts_nothing_that_is_not_told(stage, tmp_path, small_bundle) -> None:
    counters = stage(tmp_path, small_bundle)
    assert len(counters) > 3
    assert list(untold(counters)) == [], "give it a row in telemetry/series.py"


def test_no_two_counters_of_a_stage_fall_together(tmp_path, small_bundle) -> None:
    for stage in (screen, zeek, policy, window, enforcer, log, traffic):
        counters = dict.fromkeys(stage(tmp_path, small_bundle), 1)
        sums = [value for one in series(counters) for value in one.values.values()]
        assert set(sums) == {1}, stage.__name__
