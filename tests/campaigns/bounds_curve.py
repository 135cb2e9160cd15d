"""How bounds behave on networks they were not learnt on, and whether the forest earns its place.

    python -m tests.campaigns.bounds_curve --data DIR [--json FILE] [--picture FILE]

Every sender of the captures of networks that the model has not seen is judged as if the scrutiny
window were always open. Networks are then halved at random, many times: the bound for a stated
rate is taken from the ordinary senders of one half and counted on those of the other, once with
the cap that a cell may weigh and once without. The table at the end compares triggers, forest and
both where each may accuse as many of the ordinary senders as the others.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import structs

from ids_appliance import assemble, config
from ids_appliance.cli.calibrating import (
    MALICIOUS_BIT,
    ORDINARY_BITS,
    Offline,
    Setup,
    captures,
    over_captures,
    uncalibrated,
)
from ids_appliance.policy import bounds
from ids_appliance.telemetry.pictures import drawing, save
from ids_appliance.trigger.embedded import build
from ids_appliance.types import F64

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
RATES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
BUDGETS: Final = (0.0, 0.001, 0.005, 0.01)
HALVINGS: Final = 500
NO_CAP: Final = 4096.0
Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Point:
    """What came of one stated rate."""

    stated: float
    mean: float
    """Share of the other half's ordinary senders at or above the bound, mean of the halvings."""
    low: float
    high: float
    """Between which 95 % of the halvings lie."""


def curve(
    networks: Sequence[str], peaks: F64, *, rates: Sequence[float] = RATES, halvings: int = HALVINGS
) -> list[Point]:
    """Return observed against stated rates; networks: (n,) of each ordinary sender, peaks: (n,)."""
    names, network = np.unique(np.array(networks), return_inverse=True)
    rng = np.random.default_rng(0)
    observed: dict[float, list[float]] = {rate: [] for rate in rates}
    for _ in range(halvings):
        half = rng.permutation(len(names)) < len(names) // 2
        learnt = half[network]
        for rate in rates:
            bound = bounds.quantile(rate, peaks[learnt])
            observed[rate].append(float((peaks[~learnt] >= bound).mean()))
    points = []
    for rate in rates:
        low, high = np.quantile(observed[rate], (0.025, 0.975)).tolist()
        points.append(Point(rate, float(np.mean(observed[rate])), low, high))
    return points


def ordinary(offline: Offline) -> tuple[list[str], F64]:
    """Return network and peak of every ordinary sender."""
    kept = [(key[0], r.peak) for key, r in offline.reached.items() if not r.labels & ~ORDINARY_BITS]
    return [network for network, _ in kept], np.array([peak for _, peak in kept])


def compared(with_priors: Offline, alone: Offline) -> list[dict[str, Any]]:
    """Return per budget, whom triggers alone, the forest alone and both find.

    The budget is the share of ordinary senders that may be accused. Triggers: the rules that name
    fewest of them, as many as fit. Forest, both: the lowest bound that fits, at least the
    structural one (no packet and no two cells decide); both is evidence with the triggers' priors,
    either who is named or reaches it, each within the budget.
    """
    good = {k for k, r in alone.reached.items() if not r.labels & ~ORDINARY_BITS}
    bad = {k for k, r in alone.reached.items() if r.labels & MALICIOUS_BIT}
    least = bounds.least_upper(config.Policy())
    rows = []
    for budget in BUDGETS:
        allowed = int(budget * len(good))
        row: dict[str, Any] = {"budget": budget, "allowed": allowed}
        named = _rules(with_priors, good, bad, allowed=allowed)
        row["triggers"] = _found(named, good, bad)
        for name, offline in (("forest", alone), ("both", with_priors)):
            against = sorted((offline.reached[k].peak for k in good), reverse=True)
            bound = max(least, float(np.nextafter(against[allowed], np.inf)))
            reached = {k for k, r in offline.reached.items() if r.peak >= bound}
            row[name] = {"bound": round(bound, 2)} | _found(reached, good, bad)
            if name == "forest":
                row["either"] = _found(named | reached, good, bad)
        rows.append(row)
    return rows


def _rules(offline: Offline, good: set[Key], bad: set[Key], *, allowed: int) -> set[Key]:
    accused: set[Key] = set()
    ranked = sorted(
        offline.triggers.items(), key=lambda item: (len(item[1] & good), -len(item[1] & bad))
    )
    for _, named in ranked:
        if len((accused | named) & good) <= allowed:
            accused |= named
    return accused


def _found(accused: set[Key], good: set[Key], bad: set[Key]) -> dict[str, Any]:
    networks = {network for network, _ in bad}
    hit = accused & bad
    return {
        "accused": len(accused & good),
        "found": len(hit),
        "networks": len({network for network, _ in hit}),
        "of_networks": len(networks),
    }


def picture(curves: Mapping[str, list[Point]], path: Path) -> bool:
    """Draw the curves; False without matplotlib."""
    pyplot = drawing()
    if pyplot is None:
        return False
    figure, ax = pyplot.subplots(figsize=(5.2, 4.5), layout="constrained")
    ax.plot(RATES, RATES, color="#bbbbbb", linestyle="--", label="as stated")
    # The second curve is dashed, since it may lie on the first.
    for (name, points), look in zip(curves.items(), ("-#54a24b", ":#e45756"), strict=True):
        stated, line, colour = [p.stated for p in points], look[0], look[1:]
        means = [p.mean for p in points]
        ax.plot(stated, means, marker="o", linestyle=line, color=colour, label=name)
        ax.fill_between(
            stated, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15
        )
    ax.set(
        xscale="log",
        xlabel="share of ordinary senders stated",
        ylabel="share accused on other networks",
    )
    ax.set_yscale("symlog", linthresh=0.001)
    ax.set_ylim(bottom=0)
    ax.legend()
    save(pyplot, figure, path)
    return True


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "iot-top20")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    policy = config.Policy()
    bundle = assemble.bundle(given.model)
    setup = Setup(bundle, policy, uncalibrated(policy, bundle, {}), lambda: build(config.Trigger()))

    def run(setup: Setup) -> Offline:
        return over_captures(captures([], given.data / "labels.json"), setup)

    alone = run(setup)
    loose = run(replace(setup, policy=structs.replace(policy, cell_weight=NO_CAP)))
    shipped = bounds.read_bounds().priors
    prior = run(replace(setup, bounds=uncalibrated(policy, bundle, dict(shipped))))
    curves = {"with the cap per cell": curve(*ordinary(alone)), "without": curve(*ordinary(loose))}
    table = compared(prior, alone)
    networks, peaks = ordinary(alone)
    print(f"{len(peaks)} ordinary senders of {len(set(networks))} networks")
    for name, points in curves.items():
        print(name)
        for p in points:
            print(
                f"  stated {p.stated:7.3%}  observed {p.mean:7.3%}  ({p.low:.3%} to {p.high:.3%})"
            )
    for row in table:
        print(row)
    if given.json:
        told = {name: [asdict(p) for p in points] for name, points in curves.items()}
        given.json.write_text(json.dumps({"curves": told, "compared": table}, indent=1) + "\n")
    if given.picture:
        picture(curves, given.picture)


if __name__ == "__main__":
    main()
