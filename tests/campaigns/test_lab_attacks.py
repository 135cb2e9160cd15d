"""What is drawn can be played, is never the demo's, and is counted origins alike."""

import socket
import struct

import pytest

from ids_appliance.lab import scenarios
from tests.campaigns.lab_attacks import sweep
from tests.campaigns.lab_attacks.drawing import LEARNT, OWN, UNSEEN, scenario
from tests.campaigns.lab_attacks.learning import by_family

KINDS = (*LEARNT, *UNSEEN)


def attack(drawn):
    (step,) = [step for step in drawn.steps if step.attack]
    return step


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_can_be_played_and_is_the_same_each_time(kind, monkeypatch):
    for name, tool in OWN.items():
        monkeypatch.setitem(scenarios.TOOLS, name, tool)
    for number in range(25):
        drawn = scenario(*kind, number)
        assert drawn == scenario(*kind, number)
        for step in drawn.steps:
            scenarios._check(step, drawn)
        assert attack(drawn).attack == kind[0] and attack(drawn).tool == kind[1]
    assert len({attack(scenario(*kind, number)).seconds for number in range(25)}) == 25


def test_no_shipped_scenarios_rate_is_learnt_or_tested_on():
    shipped = {
        (step.tool, step.with_["pps"])
        for name in scenarios.names()
        for step in scenarios.read(name).steps
        if "pps" in step.with_
    }
    drawn = [attack(scenario(*kind, number)) for kind in KINDS for number in range(200)]
    rates = {(step.tool, step.with_["pps"]) for step in drawn if "pps" in step.with_}
    assert shipped and not shipped & rates and len(rates) > 200


def test_tools_for_tests_are_not_learnt_from():
    assert not {tool for _, tool in LEARNT} & {tool for _, tool in UNSEEN}


def test_a_worms_syn_has_its_targets_address_as_number_and_a_right_checksum():
    source, target = (socket.inet_aton(one) for one in ("192.0.2.1", "198.51.100.9"))
    data = sweep.segment(source, target, (4000, 23), 5840)
    ports = struct.unpack("!HH", data[:4])
    assert (*ports, data[4:8], data[13]) == (4000, 23, target, 2) and len(data) == 20
    assert sweep.checksum(source + target + struct.pack("!BBH", 0, 6, 20) + data) == 0


def test_origins_weigh_alike_and_the_wronged_are_named():
    def row(origin, found, culprits, wronged=0):
        told = {"file": origin, "family": "DoS", "origin": origin, "ordinary": 4}
        return told | {"found": found, "culprits": culprits, "wronged": wronged}

    family, wronged = by_family([row("a", 0, 3), row("b", 1, 1), row("c", 0, 0, wronged=1)])
    assert "1 of 4 (50.0%, 2 origins)" in family and "1 of 12" in wronged and "['c']" in wronged
