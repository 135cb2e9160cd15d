"""Bundles, families and captures in, proof out: they judge as the libraries do that made them.

    python -m tests.parity [--data ../shared/data] [models/iot-top20 models/iot-all60]
    python -m tests.parity --family each --features top20 --features all --json figures.json

Shipped bundles: trains each one's pipeline again from the options in its card, checks that this
gives the very model id that ships. Families: trains each on the repositories that may be shipped.
Then compares the bundle's probability and verdict of every packet of every capture (also of those
that were not trained on) with `predict_proba` of the library on the integers as float64, one job.
Exit code 1 if a verdict differs that is not within 1e-9 of the threshold, or a bit of a forest's.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from ids_appliance._cells import CellTable
from ids_appliance.classify.bundle import load_bundle, make_bundle
from ids_appliance.train.agreement import compare as agree
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.families import FAMILIES
from ids_appliance.train.fit import Recipe, fit
from ids_appliance.train.terms import SHIPPED
from ids_appliance.train.training import Options, gather, train

ROOT = Path(__file__).resolve().parent.parent
BATCHES = (1, 16, 256)


def retrain(card, data):
    """Return the model that the card's options give on `data`, without its evaluation."""
    told = card["options"]
    recipe = {k: told[k] for k in ("features", "trees", "leaves", "seed", "weight")}
    options = Options(
        data,
        Recipe(**recipe, family=told.get("family", "forest")),
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
    """Return the number of packets that a shipped bundle judges otherwise than its library."""
    bundle = load_bundle(path)
    trained = retrain(bundle.card, data)
    ours, shipped = trained.bundle.grid.model_id.hex(), bundle.grid.model_id.hex()
    if ours != shipped:
        print(f"{path}: training again gives model {ours}, but {shipped} ships")
        return len(rows)
    found = agree(bundle, trained.pipeline, trained.features, rows)
    print(
        f"{path}: model {shipped} trained again to the same id; {found.packets:,} packets, "
        f"{found.bits} probabilities and {found.verdicts} verdicts differ; {len(found.near)} "
        f"packets within 1e-9 of {bundle.grid.threshold}"
    )
    return 0 if found.exact else max(1, found.hidden)


def cells_of(bundle, rows):
    grid = bundle.grid
    return CellTable(grid.model_id, grid.features, grid.cuts).encode(rows)


def microseconds_a_cell(bundle, cells):
    """Return, by batch size, the processor's time for a new cell, best of several rounds."""
    cells = cells[np.random.default_rng(1).permutation(len(cells))[:4096]]
    found = {}
    for batch in BATCHES:
        parts = [cells[i : i + batch] for i in range(0, len(cells) - batch + 1, batch)]
        out, best = np.empty(batch), float("inf")
        for _ in range(9):
            start = time.thread_time()
            for part in parts:
                bundle.forest.evaluate(part, out)
            best = min(best, time.thread_time() - start)
        found[batch] = round(best / (len(parts) * batch) * 1e6, 3)
    return found


def campaign(recipe, packets, rows):
    """Return the figures of one recipe: trained twice, compared on all `rows`."""
    start = time.perf_counter()
    pipeline, features = fit(recipe, packets.rows, packets.classes, packets.groups)
    took = time.perf_counter() - start
    bundle = make_bundle(compile_pipeline(pipeline, features), 0.5, card={})
    again = compile_pipeline(*fit(recipe, packets.rows, packets.classes, packets.groups))
    found = agree(bundle, pipeline, features, rows)
    cells = cells_of(bundle, rows)
    kinds = np.unique(np.ascontiguousarray(cells).view(f"V{cells.shape[1]}"))
    return {
        "family": recipe.family,
        "features": recipe.features,
        "model": bundle.grid.model_id.hex(),
        "same_when_repeated": all(
            again[name].tobytes() == array.tobytes() for name, array in bundle.arrays.items()
        ),
        "packets": found.packets,
        "bits_differ": found.bits,
        "farthest": found.farthest,
        "verdicts_differ": found.verdicts,
        "near_threshold": len(found.near),
        "exact": found.exact,
        "cells": len(kinds),
        "cell_bytes": bundle.forest.key_bytes,
        "nodes": bundle.forest.n_nodes,
        "bundle_bytes": sum(array.nbytes for array in bundle.arrays.values()),
        "fit_s": round(took, 1),
        "us_a_new_cell": microseconds_a_cell(bundle, cells),
    }


def show(found):
    """Print one line of the table."""
    us = " / ".join(f"{value:.2f}" for value in found["us_a_new_cell"].values())
    print(
        f"{found['family']:9} {found['features']:6} {found['packets']:>9,} packets  "
        f"verdicts differ {found['verdicts_differ']}  near {found['near_threshold']}  "
        f"bits differ {found['bits_differ']:,} (at most {found['farthest']:.1e})  "
        f"cells {found['cells']:,} of {found['cell_bytes']} bytes  us a new cell {us}  "
        f"repeated: {'same' if found['same_when_repeated'] else 'ANOTHER MODEL'}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data")
    )
    parser.add_argument("--family", action="append", choices=[*FAMILIES, "each"], default=[])
    parser.add_argument("--features", action="append", choices=["top20", "all"], default=[])
    parser.add_argument("--json", type=Path, help="write the families' figures here")
    given = parser.parse_args()
    data = Path(given.data)
    corpus = read_corpus(data, keep_cut=True)
    wrong = 0
    if given.bundles or not given.family:
        bundles = given.bundles or sorted(p.parent for p in (ROOT / "models").glob("*/card.json"))
        wrong += sum(compare(path, data, corpus.rows) for path in bundles)
    if given.family:
        packets = gather(Options(data, terms=SHIPPED)).packets
        families = FAMILIES if "each" in given.family else given.family
        found = []
        for family in families:
            for features in given.features or ["top20"]:
                recipe = Recipe(family=family, features=features)
                found.append(campaign(recipe, packets, corpus.rows))
                show(found[-1])
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")
        wrong += sum(not (one["exact"] and one["same_when_repeated"]) for one in found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
