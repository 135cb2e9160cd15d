"""The budgets' table and its contestants: what is told, and that equal results come first."""

import dataclasses
import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ids_appliance.bench import mixes
from tests.bench.budgets import contest, delays, links
from tests.bench.budgets.others import Others
from tests.bench.budgets.rows import BUSY, LIMITED, ROWS, Figure, Part, page, read, told

MACHINE = {
    "cpu": "some processor",
    "cores": 2,
    "memory_mib": 1024,
    "kernel": "Linux 6",
    "versions": {"python": "3.11"},
}


def part(name: str, *figures: Figure, missing: str = "") -> Part:
    when = ("make budgets", "2026-01-01 00:00 UTC", "abc123", 1.0, 0.5)
    return Part(name, *when, figures, missing)


def test_a_row_is_kept_only_if_all_of_it_is():
    held = Figure("known", "one capture", 80.0, "ns", 100.0)
    over = Figure("known", "another", 120.0, "ns", 100.0)
    beside = Figure("known", "for comparison", 900.0, "ns")
    assert held.met and over.met is False and beside.met is None
    kept, missed = (
        page(told(MACHINE, [part("known", *f)])) for f in ((held, beside), (held, over))
    )
    budget = ROWS["known"]
    assert f"| {budget} | kept |" in kept
    assert f"| {budget} | missed: another 120 ns |" in missed
    assert f"| {ROWS['node']} | not measured |" in kept


def test_a_row_says_what_could_not_be_told():
    held = Figure("rate", "scan", 0.95, "", 0.9, ">=")
    limited = Figure("rate", "udp", 0.6, "", None, ">=", note=f"one pair, {LIMITED}")
    shown = page(told(MACHINE, [part("rate-scan", held, limited)]))
    assert f"| {ROWS['rate']} | kept; not told, {LIMITED}: udp |" in shown


def test_more_is_better_where_the_budget_says_so():
    assert Figure("node", "cells", 600_000, "", 500_000, ">=").met
    assert Figure("rate", "ratio", 0.5, "", 0.9, ">=").met is False
    assert Figure("contained", "scan", math.inf, "s", 2.0).met is False
    assert "| scan | never s |" in page(
        told(MACHINE, [part("contained", Figure("contained", "scan", math.inf, "s", 2.0))])
    )


def test_what_was_measured_before_stays_as_it_was():
    before = [part("known", Figure("known", "x", 1.0, "ns", 2.0)), part("node", missing="no root")]
    document = json.loads(json.dumps(told(MACHINE, before)))
    assert list(read(document).values()) == before
    assert "Not measured: no root." in page(document)


def test_a_busy_machine_is_told():
    quiet = part("cpu", Figure("cpu", "x", 1.0, "%", 3.0))
    assert BUSY not in page(told(MACHINE, [quiet]))
    assert BUSY in page(told(MACHINE, [dataclasses.replace(quiet, load=2.5)]))


def test_one_that_is_not_installed_is_left_out_by_name(tmp_path):
    if find_spec("scapy") is not None:
        pytest.skip("scapy is installed here")
    others = Others(tmp_path, Path(sys.executable))
    problem = others.problem("packets", data=np.zeros(0, np.uint8), ends=np.zeros(0, np.int64))
    assert others.run("packets", "scapy", problem) is None
    assert others.left_out["scapy"] == "scapy: scapy is not installed"


def test_every_parsers_answer_is_compared_as_one_kind_of_row():
    data, ends = mixes.make("scan", frames=64)
    rows = contest.python_features({"data": data, "ends": ends})()
    assert len(rows) == len(ends)
    protocol, ttl, length, source, target, flags = rows[0]
    assert (protocol, ttl, length, flags) == (6, 64, 40, 2) and source >= 1024 and target


def test_links_carry_the_same_probabilities(tmp_path):
    chances = np.array([0.25, 1 / 3, 0.9])
    problem = {"rows": np.arange(6).reshape(3, 2), "names": np.array(["a", "b"])}
    n_bytes, total = contest.json_link(problem | {"chances": chances})()
    assert total == pytest.approx(chances.sum(), abs=1e-12) and n_bytes > 3 * 40


def test_a_pool_gives_as_many_packets_as_asked():
    pool = links.Pool("syn-single", 100_000)
    assert sum(len(batch.frames) for batch in pool.batches() if batch is not None) == 100_000


def test_who_was_never_held_out_took_for_ever():
    found = delays.figures("a way", [5.0] * 99 + [12.0])
    assert [(f.value, f.met) for f in found] == [(12.0, True), (5.0, None)]
    late = delays.figures("a way", [5.0] * 97 + [None] * 3)[0]
    assert late.value == math.inf and late.met is False and late.note == "97 of 100 senders"
    assert delays.figures("a way", [None] * 10)[0].met is False
