"""What the evidence finds and whom it would accuse, on the labelled captures: docs/evidence.md.

    python -m tests.bench.evidence [--data DIR] [--write-bounds FILE]

Every sender is judged as if the scrutiny window were always open; the highest sum that it ever
reaches is compared with bounds. Networks that the model was trained on are left out where it says
"foreign". Also: what mixing ordinary packets into an attack buys, and ns a packet.
"""

import argparse
import math
import os
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from msgspec import structs

from ids_appliance import assemble, config
from ids_appliance._evidence import EvidenceTable, canonical_senders
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.cli.calibrate import calibrated
from ids_appliance.cli.calibrating import (
    MALICIOUS_BIT,
    ORDINARY_BITS,
    AsIfOpen,
    Capture,
    Labelled,
    Offline,
    Setup,
    captures,
    over_captures,
    uncalibrated,
)
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.policy.bounds import RATES, least_upper, quantile, write_bounds
from ids_appliance.policy.calibration import Calibration, Reached, peaks_of
from ids_appliance.train.corpus import CUT_SHARE
from ids_appliance.train.labels import Label
from ids_appliance.trigger.embedded import build
from ids_appliance.types import F64, FRAME, SENDER, U64, Outcome, Records, Standing
from tests.test_modes import Keep

Packets = tuple[Records, Records, F64, U64]
"""Frames, senders, probabilities and cells of one sender."""

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
FAMILIES = {
    "dos": {"DoS"},
    "port_scan": {"Recon"},
    "mirai": {"Mirai", "Recon"},
    "arp_spoof": {"Spoofing"},
}
"""Rule -> families of attacks that it is meant for."""
BIG = 4096.0
SHARES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)


def malicious(reached: Reached) -> bool:
    return bool(reached.labels & MALICIOUS_BIT)


def ordinary(reached: Reached) -> bool:
    return not reached.labels & ~ORDINARY_BITS


def priors(setup: Setup, labels: Path) -> dict[str, float]:
    """Return per rule the log of how much more often it names an attacker of its families than an
    ordinary sender; half a case is added to each count (Jeffreys), so that none is infinite."""
    named = dict.fromkeys(FAMILIES, 0)
    wrong = dict.fromkeys(FAMILIES, 0)
    attackers = dict.fromkeys(FAMILIES, 0)
    innocent = 0
    for capture in captures([], labels):
        found = over_captures([capture], setup, with_trained=True)
        assert capture.entry is not None
        for key, reached in found.reached.items():
            innocent += ordinary(reached)
            for rule, families in FAMILIES.items():
                hit = key in found.triggers.get(rule, ())
                wrong[rule] += hit and ordinary(reached)
                if malicious(reached) and capture.entry.family in families:
                    attackers[rule] += 1
                    named[rule] += hit
    result = {}
    print(f"{'rule':12}{'attackers named':>18}{'ordinary named':>18}{'prior, nats':>14}")
    for rule in FAMILIES:
        odds = (named[rule] + 0.5) / (attackers[rule] + 1)
        odds /= (wrong[rule] + 0.5) / (innocent + 1)
        result[rule] = round(max(0.0, math.log(odds)), 1)
        there = f"{named[rule]} of {attackers[rule]}"
        print(f"{rule:12}{there:>18}{f'{wrong[rule]} of {innocent}':>18}{result[rule]:>14.1f}")
    # A flood from one source runs through the cells of its ports one after the other, half a second
    # each. With what a trigger may weigh at most, the forest has to agree about one cell, not more.
    result["dos"] = round(least_upper(setup.policy) - setup.policy.clip - 0.1, 1)
    print(f"dos weighs {result['dos']}: as much as a trigger may")
    # A sweep on a switched network is mostly ARP for nobody, and few SYNs a second: measured alone
    # (few cases), its prior asked for five of them. What the forest has to say beside a scan or a
    # sweep is one whole cell, that is three packets.
    one_cell = least_upper(setup.policy) - setup.policy.cell_weight * setup.policy.clip
    for rule in ("port_scan", "mirai"):
        result[rule] = max(result[rule], round(one_cell, 1))
        print(f"{rule} weighs {result[rule]}: it leaves one whole cell to the forest")
    return result


def tell(name: str, offline: Offline, policy: config.Policy) -> None:
    """Print one variant: bounds that the data alone allows, and who reaches which."""
    good = np.array([r.peak for r in offline.reached.values() if ordinary(r)])
    bad = [(key[0], r.peak) for key, r in offline.reached.items() if malicious(r)]
    origins = {group for group, _ in bad}
    for rate in (*RATES, 0.0):
        bound = least_upper(policy) if rate == 0.0 else quantile(rate, good)
        crossed = int((good >= bound).sum())
        found = [group for group, peak in bad if peak >= bound]
        print(
            f"{name if rate == RATES[0] else '':34}"
            f"{'structural' if rate == 0.0 else f'{rate:.1%}':>11}{bound:>9.2f}"
            f"{f'{crossed} of {len(good)}':>14}{f'{len(found)} of {len(bad)}':>13}"
            f"{f'{len(set(found))} of {len(origins)}':>11}"
        )


def distribution(title: str, peaks: Iterable[float]) -> None:
    values = np.sort(np.array(list(peaks)))
    quantiles = " ".join(f"{values[int(s * (len(values) - 1))]:9.2f}" for s in SHARES)
    print(f"{title:34}{len(values):>6} {quantiles} {np.mean(values > 0):>9.1%}")


def mixed(setup: Setup, labels: Path) -> None:
    """Print how many attackers' own packets reach the bound with k ordinary ones before each."""
    kept = []
    for capture in captures([], labels):
        kept += _attackers(capture, setup)
    least = least_upper(setup.policy)
    rng = np.random.default_rng(0)
    ratios = (0, 1, 3, 10)
    print(f"{'lower':>8}" + "".join(f"{f'{k} to 1':>12}" for k in ratios) + f"   of {len(kept)}")
    for lower in (0.0, setup.policy.lower, -20.0, -1000.0):
        row = []
        for k in ratios:
            hits = 0
            for frames, senders, p, cells in kept:
                n = len(frames) * (k + 1)
                noise = np.arange(n) % (k + 1) != k
                mixed_p, mixed_cells = np.repeat(p, k + 1), np.repeat(cells, k + 1)
                mixed_p[noise] = 0.02
                mixed_cells[noise] = rng.integers(0, 2**62, int(noise.sum()))
                mixed_frames = np.repeat(frames, k + 1)
                mixed_frames["number"] = np.arange(n)
                table = EvidenceTable(lower=lower, upper=least)
                crossed = table.add(
                    mixed_frames,
                    np.repeat(senders, k + 1),
                    np.zeros(n, np.uint8),
                    mixed_p,
                    mixed_cells,
                    np.zeros(16, SENDER),
                )
                hits += any(crossing[2] for crossing in crossed)
            row.append(hits)
        print(f"{lower:>8.0f}" + "".join(f"{hits:>12}" for hits in row))


def _attackers(capture: Capture, setup: Setup) -> list[Packets]:
    """Return the judged packets of each malicious sender of a capture, five or more."""
    assert capture.entry is not None and setup.screen is not None
    with closing(assemble.capture_file(str(capture.path))) as file:
        source = Labelled(file, capture.entry)
        keep = Keep()
        gate = AsIfOpen(setup.screen(), Calibration(setup.policy, setup.bounds))
        classifier = LocalClassifier(setup.bundle)
        Pipeline(source, classifier, keep, gate=gate, limits=Limits(lockstep=True)).run()
        found: list[Packets] = []
        if not keep.batches or source.cut > CUT_SHARE * source.frames:
            return found
        frames, senders, outcomes, p, cells = (
            np.concatenate([getattr(batch, name) for batch in keep.batches])
            for name in ("frames", "senders", "outcomes", "probabilities", "cells")
        )
        labels = source.labels_of(frames["number"])
    frames["standing"] &= int(Standing.ANSWER)  # floods on their senders: who sent is labelled
    keys = canonical_senders(senders).view(f"V{SENDER.itemsize}").ravel()
    for key in np.unique(keys[(labels == Label.MALICIOUS) & (outcomes == Outcome.JUDGED)]):
        own = (keys == key) & (outcomes == Outcome.JUDGED)
        if own.sum() >= 5:
            found.append((frames[own], senders[own], p[own], cells[own]))
    return found


def speed() -> None:
    """Print ns a packet, 1,024 at a time, best of 7."""
    rng = np.random.default_rng(1)
    n = 1 << 16
    for name, who, many, forged in (
        ("one sender, 20 cells", 1, 20, False),
        ("one MAC, forged addresses, 1,000 cells", 1, 1000, True),
        ("20 senders, 50 cells", 20, 50, False),
        ("300 senders, 500 cells", 300, 500, False),
        ("4,000 senders, 5,000 cells", 4000, 5000, False),
        ("60,000 senders in a table of 4,096", 60_000, 5000, False),
    ):
        frames, senders = np.zeros(n, FRAME), np.zeros(n, SENDER)
        frames["number"] = np.arange(n)
        frames["timestamp_ns"] = np.linspace(0, 1e9, n).astype(np.int64)
        number = rng.integers(0, who, n)
        senders["mac"][:, 0] = 2
        for byte in range(3):
            senders["mac"][:, 5 - byte] = number >> 8 * byte
        senders["family"] = 4
        senders["address"][:, 0] = 10
        if forged:
            senders["address"][:, 1:4] = rng.integers(0, 255, (n, 3))
        cell = rng.integers(0, many, n)
        p = rng.random(many)[cell]
        cells = rng.integers(0, 2**63, many).astype(np.uint64)[cell]
        outcomes, floods = np.zeros(n, np.uint8), np.zeros(16, SENDER)
        table = EvidenceTable(upper=1e5)
        best = math.inf
        for _ in range(7):
            start = time.perf_counter()
            for at in range(0, n, 1024):
                part = slice(at, at + 1024)
                table.add(frames[part], senders[part], outcomes[part], p[part], cells[part], floods)
            best = min(best, time.perf_counter() - start)
        print(f"{name:42}{1e9 * best / n:8.1f} ns a packet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--write-bounds", type=Path, help="the shipped bounds, made anew")
    parser.add_argument("--rate", type=float, default=RATES[0])
    given = parser.parse_args()
    labels = given.data / "labels.json"
    policy = config.Policy()
    bundle = assemble.bundle(ROOT / "models" / "iot-top20")
    setup = Setup(bundle, policy, uncalibrated(policy, bundle, {}), lambda: build(config.Trigger()))

    print("Triggers, every capture\n")
    weights = priors(setup, labels)
    setup = replace(setup, bounds=uncalibrated(policy, bundle, weights))

    def run(setup: Setup, *, with_trained: bool = False) -> Offline:
        return over_captures(captures([], labels), setup, with_trained=with_trained)

    print("\nHighest sum of each sender, foreign networks, nats\n")
    shipped = run(setup)
    print(f"{'':34}{'n':>6} " + " ".join(f"{f'{s:.0%}':>9}" for s in SHARES) + f"{'above 0':>10}")
    distribution("ordinary", (r.peak for r in shipped.reached.values() if ordinary(r)))
    distribution("malicious", (r.peak for r in shipped.reached.values() if malicious(r)))
    neither = (r.peak for r in shipped.reached.values() if not ordinary(r) and not malicious(r))
    distribution("victims of attacks", neither)

    print("\nWho reaches which bound, foreign networks\n")
    print(f"{'':34}{'rate':>11}{'bound':>9}{'ordinary':>14}{'malicious':>13}{'networks':>11}")
    tell("as shipped", shipped, policy)
    bare = replace(setup, bounds=uncalibrated(policy, bundle, {}))
    tell("without priors", run(bare), policy)
    loose = structs.replace(policy, cell_weight=BIG)
    tell("without cell cap", run(replace(setup, policy=loose)), policy)
    tell("without either", run(replace(bare, policy=loose)), policy)
    tell("without screen", run(replace(bare, screen=None)), policy)
    everything = run(setup, with_trained=True)
    tell("as shipped, all networks", everything, policy)

    print("\nAttackers found at the structural bound while ordinary packets are mixed in, all\n")
    mixed(bare, labels)
    print("\nSpeed\n")
    speed()
    if given.write_bounds:
        peaks = peaks_of(shipped.reached, benign=ORDINARY_BITS, malicious=MALICIOUS_BIT)
        bounds = calibrated(setup, peaks, rate=given.rate, data=shipped.data)
        note = (
            "python -m tests.bench.evidence: ordinary senders of labelled captures of networks "
            "that the model was not trained on; priors from all of them. See docs/evidence.md"
        )
        write_bounds(structs.replace(bounds, note=note), given.write_bounds)


if __name__ == "__main__":
    main()
