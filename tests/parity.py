"""Shipped bundles and captures in, proof out: equal to scikit-learn, bit for bit.

    python -m tests.parity [--data ../shared/data] [models/iot-top20 models/iot-all60]

Trains each bundle's pipeline again from the options in its card, checks that this gives the very
model id that ships, and compares the bundle's probability of every packet of every capture (also
of those that were not trained on) with `Pipeline.predict_proba` on the integers as float64, one
job, and every verdict. Exit code 1 if a single bit differs.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.evaluate import judge
from ids_appliance.train.fit import Recipe
from ids_appliance.train.terms import SHIPPED
from ids_appliance.train.training import Options, gather, train

ROOT = Path(__file__).resolve().parent.parent


def retrain(card, data):
    """Return the model that the card's options give on `data`, without its evaluation."""
    told = card["options"]
    recipe = {k: told[k] for k in ("features", "trees", "leaves", "seed", "weight")}
    options = Options(
        data,
        Recipe(**recipe),
        threshold=told["threshold"],
        folds=0,
        related=told["related"],
        leave_out=tuple(told["leave_out"]),
        keep_cut=told["keep_cut"],
        terms=SHIPPED if told["only_shippable"] else None,
        max_per_capture=told["max_per_capture"],
    )
    return train(options, gather(options))


def compare(path, data, rows):
    """Return the number of packets whose probability or verdict differs."""
    bundle = load_bundle(path)
    trained = retrain(bundle.card, data)
    ours, shipped = trained.bundle.grid.model_id.hex(), bundle.grid.model_id.hex()
    if ours != shipped:
        print(f"{path}: training again gives model {ours}, but {shipped} ships")
        return len(rows)
    probabilities = np.empty(len(rows))
    bundle.forest.evaluate_rows(rows, probabilities)
    reference = judge(trained.pipeline, trained.features, rows)
    threshold = bundle.grid.threshold
    bits = int(np.count_nonzero(probabilities.view(np.uint64) != reference.view(np.uint64)))
    verdicts = int(np.count_nonzero((probabilities > threshold) != (reference > threshold)))
    near = int(np.count_nonzero(np.abs(reference - threshold) <= 1e-9))
    print(
        f"{path}: model {shipped} trained again to the same id; {len(rows):,} packets, {bits} "
        f"probabilities and {verdicts} verdicts differ; {near} packets within 1e-9 of {threshold}"
    )
    return bits + verdicts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data")
    )
    given = parser.parse_args()
    corpus = read_corpus(Path(given.data), keep_cut=True)
    bundles = given.bundles or sorted(p.parent for p in (ROOT / "models").glob("*/card.json"))
    return 1 if sum(compare(path, Path(given.data), corpus.rows) for path in bundles) else 0


if __name__ == "__main__":
    sys.exit(main())
