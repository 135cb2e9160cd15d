"""When an act went as it has to, and what is said when it did not; its tables."""

import json
from dataclasses import replace

import pytest

from ids_appliance.lab.demo.acts import Act, sequence
from ids_appliance.lab.demo.gauges import Figures
from ids_appliance.lab.demo.journal import Story, Told
from ids_appliance.lab.demo.play import Performance
from ids_appliance.lab.demo.results import Result, judge
from ids_appliance.lab.demo.table import alone, closing, table
from tests.lab.demo.test_containment import flood

S = 10**9
ACTS = {act.name: act for act in sequence(5.0, bridged=False)}
PHONE, BOT = b"\2\0\0\0\0\x0b", b"\2\0\0\0\0\x42"
FULL = 6e6


def window(opened_s: float, closed_s: float) -> dict[str, object]:
    account = {"packets": 900, "judged": 800, "cells_asked": 7, "votes": 5}
    times = {"opened_ns": round(opened_s * S), "closed_ns": round(closed_s * S)}
    return {"id": 1, "duration_s": closed_s - opened_s, **account, **times}


def told(second: float, *, culprit: bool = True) -> Told:
    who = "bot" if culprit else "phone"
    return Told(round(second * S), who, "quarantine", "dos and evidence", culprit)


def attack(act: Act) -> Performance:
    story = Story(
        trigger_ns=S // 5,
        windows=[window(0.2, 5.3)],
        decided=[told(0.25)],
        applied=[told(0.3)],
    )
    figures = Figures(
        first_ns=0,
        samples=tuple(flood(4)),
        newcomers=(100, 100) if act.port else None,
        turned_away=(),
        lost=(0, 4000),
        goodput=FULL,
        cache=((0, PHONE), (S // 2, BOT), (S, PHONE)) if act.poisons else (),
    )
    return Performance(act, -S, 9 * S, story, figures)


def verdict(one: Performance) -> Result:
    return judge(one, baseline=FULL, true_mac=PHONE)


@pytest.mark.parametrize("name", [n for n, a in ACTS.items() if a.kind == "attack"])
def test_a_good_act(name: str) -> None:
    result = verdict(attack(ACTS[name]))
    assert result.failures == []
    assert (result.trigger_s, result.kernel_s, result.closed_s) == (0.2, 0.3, 5.3)
    assert result.containment is not None and result.containment.after_s == 0.4
    assert (result.packets, result.judged, result.cells) == (900, 800, 7)
    assert result.goodput == 1.0
    json.dumps(result.as_json())


def broken(one: Performance, **changed: object) -> Performance:
    """The same act with other figures or another story."""
    for name, value in changed.items():
        if hasattr(one.figures, name):
            one.figures = replace(one.figures, **{name: value})
        else:
            setattr(one.story, name, value)
    return one


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("syn_flood", {"samples": tuple(flood(50))}, "not contained within 2 s"),
        ("syn_flood", {"first_ns": None}, "not contained within 2 s"),
        ("syn_flood", {"trigger_ns": None}, "nothing triggered"),
        ("syn_flood", {"windows": [window(0.2, 9.5)]}, "did not close while the attacker"),
        ("syn_flood", {"open_ids": {4}}, "did not close while the attacker"),
        ("syn_flood", {"decided": [told(1), told(1, culprit=False)]}, "accused: phone"),
        ("syn_flood", {"lost": (5, 4000)}, "lost 5 of 4000"),
        ("syn_flood", {"lost": (0, 0)}, "lost 0 of 0"),
        ("syn_flood", {"goodput": 0.94 * FULL}, "kept 94% of its goodput"),
        ("syn_flood", {"goodput": None}, "did not come whole"),
        ("spoofed_flood_plain", {"newcomers": (94, 100)}, "only 94 of 100 new connections"),
        ("arp_spoof", {"cache": ((0, PHONE),)}, "never poisoned"),
        ("arp_spoof", {"cache": ((0, PHONE), (S, BOT))}, "not right again within 5 s"),
        (
            "arp_spoof",
            {"cache": ((0, BOT), (S, PHONE), (2 * S, BOT), (6 * S, PHONE))},
            "not right again within 5 s",
        ),
    ],
)
def test_what_is_wrong_is_said(name: str, changed: dict[str, object], said: str) -> None:
    result = verdict(broken(attack(ACTS[name]), **changed))
    assert len(result.failures) == 1 and said in result.failures[0]
    assert not result.ok


def test_a_cache_that_was_empty_in_between_is_no_poison() -> None:
    one = broken(attack(ACTS["arp_spoof"]), cache=((0, PHONE), (1, b""), (2, BOT), (S, b"")))
    result = verdict(one)
    assert result.poisoned and result.healed_s == (S - 2) / S


def twin() -> Performance:
    one = attack(ACTS["port_scan_twin"])
    one.story.decided, one.story.applied = [], []
    return one


def test_a_twin_opens_the_window_and_is_left_alone() -> None:
    assert verdict(twin()).failures == []
    assert verdict(broken(twin(), windows=[])).failures == ["it did not open the window"]
    assert verdict(broken(twin(), open_ids={1})).failures == ["the window did not close"]
    accused = broken(twin(), decided=[told(1, culprit=False)])
    assert verdict(accused).failures == ["accused: phone"]


def test_who_only_looks_on_need_not_contain() -> None:
    one = broken(attack(ACTS["spoofed_flood_unprotected"]), samples=tuple(flood(90)))
    one = broken(one, newcomers=(3, 60), decided=[], applied=[])
    assert verdict(one).failures == []
    assert any("3 of 60 new connections" in line for line in closing([verdict(one)]))


def test_problems_of_the_stage_are_failures() -> None:
    one = twin()
    one.problems.append("mosquitto_pub ended with 1: no broker")
    assert verdict(one).failures == ["mosquitto_pub ended with 1: no broker"]


def test_tables_fit_and_mark_what_is_wrong() -> None:
    results = [verdict(attack(a)) for a in ACTS.values() if a.kind == "attack"]
    results += [verdict(twin()), verdict(broken(twin(), windows=[]))]
    cells = {"stopped": True, "wronged": [], "judged": 5, "words": "misses it, bans server"}
    for result in results:
        result.alone = dict.fromkeys(("trigger", "forest", "both"), cells)
    lines = [*table(results), *alone(results), *closing(results)]
    assert max(map(len, lines)) <= 100
    marked = [line for line in table(results) if line.endswith("!")]
    assert len(marked) == 1 and "phone looks" in marked[0]
    text = "\n".join(closing(results))
    assert "6 of 6 attacks contained, nobody falsely accused" in text
    assert "1 of 2 benign twins" in text and "it did not open the window" in text
