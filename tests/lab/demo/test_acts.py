"""The sequence is complete, every attack has its twin, and nothing in it is a name mistyped."""

import pytest

from ids_appliance.lab.demo.acts import LEAD_S, Act, life, sequence
from ids_appliance.lab.layouts import HOSTS
from ids_appliance.lab.scenarios import TOOLS

WINDOW_S = 5.0
ACTS = sequence(WINDOW_S, bridged=False) + sequence(WINDOW_S, bridged=True)
ATTACKS = [act for act in ACTS if act.kind == "attack"]


def test_attacks_twins_and_what_may_always_be() -> None:
    names = [act.name for act in sequence(WINDOW_S, bridged=False)]
    assert len(names) == len(set(names)) == 14
    observed = [act for act in ACTS if act.kind == "observed"]
    assert {act.unprotected for act in ATTACKS} - {""} == {act.name for act in observed}
    families = {step.attack for act in ATTACKS for step in act.steps} - {""}
    assert families == {"DoS", "Recon", "Mirai", "Spoofing"}
    attacked = {step.id for act in ATTACKS for step in act.steps if step.attack}
    assert attacked == {"flood", "scan", "sweep", "spoof"}
    twins = {step.opens for act in ACTS if act.kind == "twin" for step in act.steps} - {""}
    assert twins == {"dos", "port_scan", "mirai", "arp_spoof"}
    assert {act.cookies for act in ATTACKS if act.forged} == {True, False}


@pytest.mark.parametrize("act", ATTACKS, ids=lambda act: act.name)
def test_attacks_go_on_after_the_window_should_have_closed(act: Act) -> None:
    assert act.attacker and act.victims
    attack = next(step for step in act.steps if step.attack)
    assert attack.seconds >= WINDOW_S + 3.0
    assert attack.at + attack.seconds <= act.seconds <= 15.0


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_every_step_can_be_played(act: Act) -> None:
    hosts = {host.name for host in HOSTS} | {"devices"}
    scenario = act.scenario(life(act))
    assert len({step.id for step in scenario.steps}) == len(scenario.steps)
    assert len(act.title) <= 21
    for step in scenario.steps:
        assert step.tool in TOOLS and step.parameters is not None
        assert {word.partition(":")[0] for word in step.who} <= hosts
        assert step.at >= (LEAD_S if step in act.steps else 0.0)


def test_steps_keep_their_order() -> None:
    by_name = {act.name: act for act in ACTS}
    outage, retries = by_name["spoofed_flood_twin"].steps
    assert outage.at < retries.at < outage.at + outage.seconds < retries.at + retries.seconds
    before, card = by_name["arp_spoof_twin"].steps
    assert card.at == before.at + before.seconds, "the old card is silent from then on"
    publishing = {step.tool for step in life(by_name["spoofed_flood_twin"])}
    assert not publishing & {"mosquitto_pub", "mosquitto_sub"}, "there is no broker then"


def test_each_round_has_a_new_network_card() -> None:
    cards = set()
    for number in range(10):
        act = next(a for a in sequence(3.0, bridged=True, round_=number) if "card" in a.title)
        cards.add(next(step.with_["mac"] for step in act.steps if step.tool == "new_card"))
    assert len(cards) == 10
