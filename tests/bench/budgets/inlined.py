"""Inline: judging every packet over accepting every packet, in rate and in delay.

The delays are the campaign's (tests/campaigns/inline_speed.py): probes through the same queue,
beside a load, with nobody, with a reader that accepts everything and with the gateway.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from ids_appliance.bench.document import rates, ratios
from ids_appliance.bench.plan import Thoroughness
from ids_appliance.errors import LabError
from tests.bench.budgets.others import ROOT
from tests.bench.budgets.rates import searched
from tests.bench.budgets.rows import LIMITED, Figure

RATE, ADDED_P50_US, P99_TIMES = 0.9, 60.0, 1.2
MIX: Final = "syn-single"
"""Each packet a connection of its own: of a captured one, sent again without waiting for answers,
several wait in the queue at a time, and connection tracking drops all but the first (the later
ones' entries clash with its own when they are let go)."""
MODES: Final = ("bare", "inline-accepting", "inline")
LOADS: Final = (1_000, 10_000, 50_000)
WAYS: Final = ("forwarding", "package", "judged-batch")
LIMIT_S: Final = 300.0


def measure(how: Thoroughness, *, seconds: float, say: Callable[[str], None]) -> list[Figure]:
    """Return the ratio of rates and the delays."""
    told = searched(how, MODES, [MIX], say=say)
    ratio, limited = ratios(told, "inline", "inline-accepting", MIX)
    found = []
    if ratio is not None:
        note = f"{ratio.n} pairs{f', {LIMITED}' if limited else ''}"
        medians = {mode: rates(told, mode, MIX)[0] for mode in MODES}
        beside = ", ".join(f"{m} {q.median / 1000:.1f} kpps" for m, q in medians.items() if q)
        what, limit = f"judging / accepting, same binding, {MIX}", None if limited else RATE
        found.append(
            Figure("inline", what, ratio.median, "", limit, ">=", beside, ratio.median, note)
        )
    return found + _delays(seconds)


def _delays(seconds: float) -> list[Figure]:
    words = ["tests.campaigns.inline_speed", "delay", "--seconds", f"{seconds:g}"]
    words += ["--ways", *WAYS, "--rates", *map(str, LOADS)]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    try:
        latency: dict[str, Any] = json.loads(done.stdout)
    except (ValueError, KeyError) as error:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LabError(f"the inline campaign ended with {done.returncode}: {last}") from error
    found = []
    for load, rows in latency.items():
        nobody, accepting, judging = (rows[way] for way in WAYS)
        added = judging["p50_us"] - nobody["p50_us"]
        beside = f"accepting {accepting['p50_us'] - nobody['p50_us']:.0f} us"
        what = f"added delay at {load}, median"
        found.append(Figure("inline", what, added, "us", ADDED_P50_US, anchor=beside))
        times = judging["p99_us"] / max(1e-9, accepting["p99_us"])
        beside = f"judging {judging['p99_us']:.0f} us, accepting {accepting['p99_us']:.0f} us"
        what = f"p99 delay at {load} / accepting everything"
        found.append(Figure("inline", what, times, "", P99_TIMES, anchor=beside))
    return found
