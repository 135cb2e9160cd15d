"""Steps and results in, losses, ratios and the page out."""

import dataclasses
import json
from pathlib import Path

import pytest

from ids_appliance.bench.document import document, quartiles, rates, ratios
from ids_appliance.bench.modes import MODES
from ids_appliance.bench.plan import Run, Thoroughness
from ids_appliance.bench.plots import draw
from ids_appliance.bench.report import report
from ids_appliance.bench.search import Verdict
from ids_appliance.bench.sender import Sent
from ids_appliance.bench.steps import Step, Used

ABOUT = {
    "date": "2026-01-01 00:00 UTC",
    "command": "ids-appliance bench",
    "machine": {
        "cpu": "some processor",
        "cores": 2,
        "memory_mib": 1024,
        "kernel": "Linux 6",
        "load_average": 0.0,
        "versions": {"python": "3.11"},
    },
    "model": "iot-top20",
    "interrupted": False,
    "notes": ["a note"],
}
HOLDS = {"bare": 90_000, "tapped": 80_000, "gateway-only": 40_000, "offloaded": 60_000}


def sent(pps: float, seconds: float, *, packets: int | None = None, given_up: int = 0) -> Sent:
    n = round(pps * seconds) if packets is None else packets
    return Sent(pps, seconds, n, 0, given_up, 60 * n)


class Trials:
    """A machine on which each mode holds up to a rate; offloaded a tenth more each round."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def run(self, mode, mix, pps, seconds):
        self.asked.append((mode.name, mix))
        offered = sent(pps, seconds)
        timed = {"latency_p50_us": 2500, "latency_p99_us": 4100} if mode.timed else {}
        lost = 0 if pps <= HOLDS[mode.name.split(",")[0]] else offered.packets // 2
        judged = None if mode.name == "bare" else offered.packets - lost
        return Step(
            mode.name,
            mix,
            offered,
            offered.packets - (lost if judged is None else 0),
            judged,
            {"gateway": Used(7.5, 80.0)},
            machine_percent=40.0,
            counters={"classifier_bytes_sent": 100, "judged": judged or 0} | timed,
        )


@pytest.fixture(scope="module")
def told():
    how = Thoroughness(rounds=3, resolution=0.05, confirmations=1)
    trials, said = Trials(), []
    run = Run(trials, how, say=said.append)
    modes = [MODES[name] for name in HOLDS]
    run.search(modes, ["syn-single", "random"])
    run.fix(modes, ["syn-single"])
    assert len(said) == len(trials.asked)
    # Modes take turns: no mode has two steps in a row while others still search.
    first = [mode for mode, _ in trials.asked[:8]]
    assert first == [*HOLDS] * 2
    names = {name: MODES[name].about for name in HOLDS}
    mixes = ["syn-single", "random"]
    made = document(run.results, how=how, modes=names, mixes=mixes, about=ABOUT)
    return json.loads(json.dumps(made))


def test_every_round_finds_what_each_mode_holds(told):
    for mode, holds in HOLDS.items():
        found, limited = rates(told, mode, "random")
        assert found.n == 3 and not limited
        assert holds / 1.06 < found.low <= found.high <= holds


def test_the_report_says_where_packets_were_lost(told):
    for found in told["found"]:
        pps, beyond = found["pps"], found["beyond"]
        assert pps < beyond["sent"]["requested_pps"] <= 1.06 * pps
        assert beyond["verdict"] == "lost"
    row = next(line for line in report(told).splitlines() if line.startswith("| bare, random |"))
    offered, _, missing, unjudged = row.split("|")[3:7]
    n = int(offered.replace(",", ""))
    assert int(missing.replace(",", "")) == n // 2 and unjudged.strip() == "-"


class Stalling(Trials):
    """The machine stalls in some steps, whatever the rate: by their number."""

    def __init__(self, *stalls: int) -> None:
        super().__init__()
        self._stalls = stalls

    def run(self, mode, mix, pps, seconds):
        step = super().run(mode, mix, pps, seconds)
        return dataclasses.replace(step, forwarded=0) if len(self.asked) in self._stalls else step


def test_one_stall_does_not_decide_about_a_search():
    how, modes = Thoroughness(rounds=1, confirmations=1), [MODES["offloaded"]]
    calm, stalling = Run(Trials(), how, say=print), Run(Stalling(2), how, say=print)
    calm.search(modes, ["syn-single"])
    stalling.search(modes, ["syn-single"])
    assert stalling.results.found[0].pps == calm.results.found[0].pps
    # What really does not hold loses both times.
    assert stalling.results.lost_once == calm.results.lost_once + 1
    assert (stalling.results.held_then, calm.results.held_then) == (1, 0)


def test_a_stall_in_a_confirmation_is_a_loss():
    how, modes = Thoroughness(rounds=1, confirmations=1), [MODES["offloaded"]]
    calm = Run(Trials(), how, say=print)
    calm.search(modes, ["syn-single"])
    stalling = Run(Stalling(calm.results.steps), how, say=print)
    stalling.search(modes, ["syn-single"])
    assert stalling.results.found[0].pps == pytest.approx(calm.results.found[0].pps / 1.05)


def test_later_rounds_may_go_unconfirmed():
    said = []
    how = Thoroughness(rounds=3, confirmations=2, confirmed_rounds=1)
    run = Run(Trials(), how, say=said.append)
    run.search([MODES["offloaded"]], ["syn-single"])
    assert len([one for one in said if "confirming" in one]) == 2
    assert [found.finished for found in run.results.found] == [True] * 3


def test_ratios_are_of_pairs(told):
    found, limited = ratios(told, "offloaded", "tapped", "random")
    assert not limited and found.n == 3 and found.median == pytest.approx(0.75, rel=0.06)
    assert ratios(told, "offloaded", "paper-offloaded", "random") == (None, False)


def test_the_page_has_the_published_row_beside_the_measured(told):
    page = report(told, pictures=["rates.png"])
    assert "| published, offloaded | 19.5 | 78 % | 20 % | 97 % | 20 % |" in page
    row = next(line for line in page.splitlines() if line.startswith("| measured, offloaded"))
    assert "7.5 %" in row and "80 MiB" in row and "(lost)" not in row
    assert "| offloaded, latency, syn-single | 15,000 | 2,500 | 4,100 |" in page
    assert "![rates](rates.png)" in page and "a note" in page and "interrupted" not in page
    assert "interrupted" in report(told | {"interrupted": True})


def test_what_is_cut_off_keeps_what_has_held():
    trials, said = Trials(), []

    class Cut(Exception):
        """As Ctrl-C."""

    def say(line):
        said.append(line)
        if sum("offloaded" in one for one in said) == 3:
            raise Cut

    how, modes = Thoroughness(rounds=3), [MODES[name] for name in HOLDS]
    run = Run(trials, how, say=say)
    with pytest.raises(Cut):
        run.search(modes, ["syn-single"])
    assert [f.finished for f in run.results.found] == [False] * len(HOLDS)
    for found in run.results.found:
        assert found.at is not None and 0 < found.pps <= HOLDS[found.mode]
    names = {name: MODES[name].about for name in HOLDS}
    about = ABOUT | {"interrupted": True}
    made = document(run.results, how=how, modes=names, mixes=["syn-single"], about=about)
    page = report(json.loads(json.dumps(made)))
    assert "Cut off before all confirmations" in page and "offloaded (syn-single)" in page


def test_a_search_that_was_cut_off_is_no_answer_where_there_is_one(told):
    cut = {"mode": "offloaded", "mix": "random", "round": 4, "pps": 20_000.0}
    cut |= {"generator_limited": True, "finished": False, "step": None}
    tapped = cut | {"mode": "tapped", "pps": 40_000.0}
    more = told | {"found": [*told["found"], cut, tapped]}
    assert rates(more, "offloaded", "random") == rates(told, "offloaded", "random")
    assert ratios(more, "offloaded", "tapped", "random") == ratios(
        told, "offloaded", "tapped", "random"
    )
    assert "Cut off, and left out of what follows: 2 searches." in report(more)
    alone = told | {"found": [cut]}
    assert rates(alone, "offloaded", "random")[0].median == 20_000


def test_what_is_cut_off_after_a_lost_confirmation_tells_a_step_that_held():
    how, modes, said = Thoroughness(rounds=1), [MODES["offloaded"]], []
    calm = Run(Trials(), how, say=print)
    calm.search(modes, ["syn-single"])
    first = calm.results.steps - how.confirmations + 1

    def say(line):
        said.append(line)
        if len(said) == first + 1:
            raise KeyboardInterrupt

    run = Run(Stalling(first), how, say=say)
    with pytest.raises(KeyboardInterrupt):
        run.search(modes, ["syn-single"])
    (found,) = run.results.found
    assert not found.finished and found.pps == pytest.approx(calm.results.found[0].pps / 1.05)
    assert found.at.verdict is Verdict.HELD and found.at.sent.requested_pps >= found.pps


def test_of_real_hosts_the_page_says_nothing_of_this_machine(told):
    fixed = [s | {"mix": "live", "counters": {"memory_percent": 26}} for s in told["fixed"]]
    found = [one | {"mix": "live"} for one in told["found"] if one["mix"] == "random"]
    page = report(told | {"mixes": ["live"], "fixed": fixed, "found": found})
    assert "80 MiB, all 26 %" in page and "all cores and memory of the gateway" in page
    assert "responses off" not in page and "this machine" not in page
    assert "responses off" in report(told) and "this machine" in report(told)


def test_a_page_of_nothing_is_a_page():
    run = Run(Trials(), Thoroughness(), say=print)
    empty = document(run.results, how=Thoroughness(), modes={}, mixes=[], about=ABOUT)
    assert report(empty).startswith("# Benchmark")


@pytest.mark.parametrize(
    ("forwarded", "judged", "verdict"),
    [
        (1_000_000, 1_000_000, Verdict.HELD),
        (999_990, 999_990, Verdict.HELD),
        (999_989, 1_000_000, Verdict.LOST),
        (1_000_000, 999_989, Verdict.LOST),
        (1_000_000, None, Verdict.HELD),
    ],
)
def test_what_is_lost(forwarded, judged, verdict):
    assert Step("m", "x", sent(100_000, 10), forwarded, judged).verdict is verdict


def test_a_rate_that_was_not_offered_says_nothing_unless_it_lost():
    slow = sent(100_000, 10, packets=990_000, given_up=10_000)
    assert Step("m", "x", slow, 990_000, 990_000).verdict is Verdict.LIMITED
    assert Step("m", "x", slow, 980_000, 990_000).verdict is Verdict.LOST
    late = Sent(100_000, 10.2, 1_000_000, 0, 0, 1)
    assert Step("m", "x", late, 1_000_000, 1_000_000).verdict is Verdict.LIMITED


def test_quartiles_of_few():
    assert quartiles([]) is None
    assert quartiles([3.0]).median == 3.0
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]).low == 2.0


def test_it_is_drawn(told, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = draw(told, tmp_path)
    assert made == ["rates.png", "processor.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in made)


def test_who_falls_behind_has_not_held_the_rate():
    step = Step("offloaded", "syn-single", sent(1000, 10), 10_000, 10_000)
    assert step.verdict is Verdict.HELD
    assert dataclasses.replace(step, behind_s=1.9).verdict is Verdict.HELD
    assert dataclasses.replace(step, behind_s=2.1).verdict is Verdict.LOST
    longer = dataclasses.replace(step, sent=sent(1000, 60), forwarded=60_000, judged=60_000)
    assert dataclasses.replace(longer, behind_s=5.9).verdict is Verdict.HELD
    assert dataclasses.replace(longer, behind_s=6.1).verdict is Verdict.LOST
