"""How large a forest pays: bytes of the bundle, microseconds a new cell, and what it finds on
origins that it has not learnt from.

    python -m tests.campaigns.size_curve --data DIR [--json FILE] [--picture FILE]

Every repository's captures; origins are dealt into folds by a digest of their names. Inside each
fold a forest on all 60 features ranks them once; then forests of each width and depth are fitted,
and a smaller number of trees is the first so many of the larger forest (scikit-learn draws each
tree's seed in turn, so that is the forest that it would have fitted). Bytes and microseconds are
those of a forest fitted on everything. `make models` trains what ships.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from ids_appliance._cells import CellTable
from ids_appliance.classify.bundle import Bundle, make_bundle, save_bundle
from ids_appliance.telemetry.pictures import drawing, save
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.families.making import make
from ids_appliance.train.fit import weigh
from ids_appliance.train.labels import Label
from ids_appliance.train.sampling import spread
from ids_appliance.train.study.learning import judge
from ids_appliance.types import F64, U16

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
SHAPES: Final[dict[tuple[int, int], tuple[int, ...]]] = {
    (20, 8): (50,),
    (20, 32): (10, 50),
    (20, 128): (5, 10, 25, 50, 100),
    (20, 512): (50,),
    (10, 128): (50,),
    (60, 128): (50,),
}
"""(features, leaves) -> numbers of trees."""
SHIPPED: Final = (20, 128, 50)
THRESHOLD: Final = 0.5
RATE: Final = 0.01
"""Share of the ordinary packets that may be flagged where a threshold is chosen for it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size of forest and what it is worth."""

    features: int
    leaves: int
    trees: int
    bundle_bytes: int
    us_batch_1: float
    us_batch_256: float
    found: float
    """Mean over origins of the malicious packets found, origin left out."""
    flagged: float
    """Mean over origins of the ordinary packets flagged."""
    roc_area: float
    """Of all packets left out, each origin and class weighing alike."""
    found_at_rate: float
    """As `found`, where the threshold flags `RATE` of the ordinary packets, origins alike."""


def fold_of(origin: str, folds: int) -> int:
    """Return the fold that an origin is left out with."""
    return int.from_bytes(hashlib.sha256(origin.encode()).digest()[:4], "big") % folds


def forests(packets: Packets, *, jobs: int) -> Iterator[tuple[tuple[int, int, int], Bundle]]:
    """Yield (features, leaves, trees) and the forest fitted on the packets, for all SHAPES."""
    chosen, share = weigh("origin", packets.rows, packets.classes, packets.groups)
    rows, classes = packets.rows[chosen], packets.classes[chosen]

    def fitted(features: list[int], trees: int, leaves: int) -> Any:
        pipeline = make("forest", trees=trees, leaves=leaves, seed=0, jobs=jobs)
        matrix = rows[:, features].astype(np.float64)
        with threadpool_limits(1, user_api="blas"):
            pipeline.fit(matrix, classes, randomforestclassifier__sample_weight=share)
        pipeline[-1].n_jobs = 1
        return pipeline

    everything = list(range(rows.shape[1]))
    ranking = fitted(everything, SHIPPED[2], SHIPPED[1])
    order = np.argsort(-np.round(ranking[-1].feature_importances_, 12), kind="stable")
    for (width, leaves), numbers in SHAPES.items():
        features = sorted(order[:width].tolist())
        whole = ranking if (width, leaves, numbers) == (60, 128, (50,)) else None
        pipeline = whole or fitted(features, max(numbers), leaves)
        trees = pipeline[-1].estimators_
        for number in numbers:
            pipeline[-1].estimators_ = trees[:number]
            pipeline[-1].n_estimators = number
            bundle = make_bundle(compile_pipeline(pipeline, features), THRESHOLD, card={})
            yield (width, leaves, number), bundle


def left_out(packets: Packets, *, folds: int, jobs: int) -> dict[tuple[int, int, int], F64]:
    """Return per size (n,) P(malicious) by the forest that has not seen a packet's origin."""
    fold = np.array([fold_of(name, folds) for name in packets.groups.tolist()])
    said: dict[tuple[int, int, int], F64] = {}
    for number in range(folds):
        test = fold == number
        for size, bundle in forests(packets.take(~test), jobs=jobs):
            said.setdefault(size, np.zeros(len(fold)))[test] = judge(bundle, packets.rows[test])
        print(f"fold {number + 1} of {folds}", flush=True)
    return said


def worth(packets: Packets, said: F64) -> dict[str, float]:
    """Return what probabilities of packets left out come to, every origin weighing alike."""
    _, origin = np.unique(packets.groups, return_inverse=True)
    key = origin * 2 + packets.classes
    share = 1.0 / np.bincount(key)[key]
    bad = packets.classes == 1

    def mean(own: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]) -> float:
        return float((share * flagged)[own].sum() / share[own].sum())

    order = np.argsort(-said[~bad], kind="stable")
    passed = np.cumsum(share[~bad][order]) / share[~bad].sum()
    # The lowest threshold above which at most RATE of the ordinary weight lies.
    place = int(np.searchsorted(passed, RATE))
    threshold = said[~bad][order][min(place, len(order) - 1)]
    return {
        "found": mean(bad, said > THRESHOLD),
        "flagged": mean(~bad, said > THRESHOLD),
        "roc_area": float(roc_auc_score(packets.classes, said, sample_weight=share)),
        "found_at_rate": mean(bad, said > threshold),
    }


def cost(bundle: Bundle, rows: U16) -> dict[str, float]:
    """Return a bundle's bytes on the disk and the processor's time for a new cell."""
    with TemporaryDirectory() as scratch:
        save_bundle(bundle, Path(scratch) / "model", card_md="")
        size = (Path(scratch) / "model" / "arrays.npz").stat().st_size
    grid = bundle.grid
    cells = CellTable(grid.model_id, grid.features, grid.cuts).encode(rows)
    told: dict[str, float] = {"bundle_bytes": size}
    for batch in (1, 256):
        parts = [cells[i : i + batch] for i in range(0, len(cells) - batch + 1, batch)]
        out, best = np.empty(batch), float("inf")
        for _ in range(7):
            start = time.thread_time()
            for part in parts:
                bundle.forest.evaluate(part, out)
            best = min(best, time.thread_time() - start)
        told[f"us_batch_{batch}"] = round(best / (len(parts) * batch) * 1e6, 3)
    return told


def read(data: Path, most: int) -> Packets:
    """Return at most so many ordinary and malicious packets of each capture."""
    corpus = read_corpus(data).narrow(60)
    usable = corpus.labels <= Label.MALICIOUS
    usable &= spread(corpus.file, usable, most)
    names = np.array(corpus.families)[corpus.family]
    classes = (corpus.labels[usable] == Label.MALICIOUS).astype(np.uint8)
    return Packets(corpus.rows[usable], classes, corpus.group[usable], names[usable])


def table(points: list[Point]) -> list[str]:
    """Return the table, as Markdown."""
    lines = [
        "| features | leaves | trees | bundle, kB | us a new cell at batch 1, 256 | found | "
        "flagged | found at 1 % flagged | ROC area |",
        "|---" * 9 + "|",
    ]
    for p in sorted(points, key=lambda p: p.bundle_bytes):
        shape = (p.features, p.leaves, p.trees)
        cells = [str(p.features), str(p.leaves), str(p.trees) + " (ships)" * (shape == SHIPPED)]
        cells += [f"{p.bundle_bytes / 1000:.0f}", f"{p.us_batch_1:.2f}, {p.us_batch_256:.2f}"]
        cells += [f"{p.found:.1%}", f"{p.flagged:.1%}", f"{p.found_at_rate:.1%}"]
        lines.append("| " + " | ".join([*cells, f"{p.roc_area:.3f}"]) + " |")
    return lines


def picture(points: list[Point], path: Path) -> bool:
    """Draw ROC area and found against bytes; False without matplotlib."""
    pyplot = drawing()
    if pyplot is None:
        return False
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for ax, (name, label) in zip(
        axes,
        (("bundle_bytes", "bytes of the bundle"), ("us_batch_256", "us a new cell, batch 256")),
        strict=True,
    ):
        for p in points:
            ships = (p.features, p.leaves, p.trees) == SHIPPED
            colour = "#e45756" if ships else "#4c78a8"
            ax.plot(getattr(p, name), p.roc_area, "o", color=colour)
            text = f"{p.features} x {p.leaves} x {p.trees}"
            at = (getattr(p, name), p.roc_area)
            ax.annotate(text, at, xytext=(3, 4), textcoords="offset points", fontsize=6)
        ax.set(xscale="log", xlabel=label)
    axes[0].set_ylabel("ROC area, origins left out")
    save(pyplot, figure, path)
    return True


def options(document: str, *, folds: int, most: int) -> argparse.ArgumentParser:
    """Return the options of whoever leaves origins out in folds; document: of the module."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=document, formatter_class=raw)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--folds", type=int, default=folds)
    parser.add_argument("--max-per-capture", type=int, default=most)
    parser.add_argument("--jobs", type=int, default=1)
    return parser


def main() -> None:
    parser = options(__doc__, folds=8, most=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    packets = read(given.data, given.max_per_capture)
    said = left_out(packets, folds=given.folds, jobs=given.jobs)
    some = packets.rows[np.random.default_rng(1).permutation(len(packets.rows))[:4096]]
    points = []
    for size, bundle in forests(packets, jobs=given.jobs):
        told: dict[str, Any] = cost(bundle, some) | worth(packets, said[size])
        points.append(Point(*size, **told))
    print("\n".join(table(points)))
    if given.json:
        given.json.write_text(json.dumps([asdict(p) for p in points], indent=1) + "\n")
    if given.picture:
        picture(points, given.picture)


if __name__ == "__main__":
    main()
