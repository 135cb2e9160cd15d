"""New cells: the shipped forest, and one of its size against the others' runtimes of the same."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from ids_appliance.bench.literal_forest import FEATURES
from ids_appliance.classify.bundle import Bundle, load_bundle, make_bundle
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.families.making import make
from tests.bench import spine
from tests.bench.budgets.contest import LEAVES, TREES
from tests.bench.budgets.others import Others
from tests.bench.budgets.rows import Figure

BATCHES = (1, 16, 256)
LIMITS = {1: 1.0, 256: 0.5}
"""us a cell of the shipped forest."""
CLOSE = 2e-5
"""Others add up in float32: so near have their probabilities to be."""
RIVALS = ("onnxruntime", "tl2cgen", "scikit-learn")
PRUNED = 4096


def measure(others: Others, captures: dict[str, Path]) -> list[Figure]:
    """Return us a cell at each batch size; nobody is timed whose results differ."""
    every = np.concatenate([spine.parse(spine.read(path)) for path in captures.values()])
    rng = np.random.default_rng(1)
    rows = every[rng.permutation(len(every))]
    shipped = load_bundle(spine.SHIPPED)
    cells = spine.cells_of(rows[:PRUNED], shipped)
    figures = [
        Figure(
            "new",
            f"shipped forest, batch {batch}",
            spine.time_forest(cells, shipped, batch),
            "us a cell",
            LIMITS.get(batch),
        )
        for batch in BATCHES
    ]
    figures += _against(others, rows, "forest", RIVALS)
    return figures + _against(others, rows, "lightgbm", ("lleaves", "lightgbm"))


def _against(others: Others, rows: Any, family: str, rivals: tuple[str, ...]) -> list[Figure]:
    """Return ours and, of each rival, how many times faster we are."""
    classes = (rows[:, 6] == 2) ^ (np.random.default_rng(0).random(len(rows)) < 0.1)
    matrix = rows[:, list(FEATURES)].astype(float)
    scaled = make_pipeline(StandardScaler(), MinMaxScaler()).fit_transform(matrix)
    # A forest compares what was made float32, boosted trees what they are given.
    given = scaled.astype(np.float32 if family == "forest" else float)
    problem = others.problem(
        family,
        train=given,
        classes=classes,
        test=given[:PRUNED],
        batches=np.array(BATCHES),
    )
    bundle = _ours(family, matrix, classes)
    cells = spine.cells_of(rows[:PRUNED], bundle)
    expected = np.empty(len(cells))
    bundle.forest.evaluate(cells, expected)
    times = {batch: spine.time_forest(cells, bundle, batch) for batch in BATCHES}
    found = []
    for rival in rivals:
        made = others.run("forest", rival, problem)
        if made is None:
            continue
        apart = float(np.abs(made.results["probabilities"] - expected).max())
        if apart > CLOSE:
            others.left_out[rival] = f"{rival}: probabilities differ by {apart:.2g}: not timed"
            continue
        for batch in BATCHES:
            theirs = made.said["us"][str(batch)]
            found.append(
                Figure(
                    "new",
                    f"same {family}, batch {batch}: {rival} / ours",
                    theirs / times[batch],
                    "times",
                    None if rival == "lightgbm" else 1.0,
                    ">=",
                    anchor=f"{rival} {made.said['version']}: {theirs:.3g} us, "
                    f"ours: {times[batch]:.3g} us",
                    ratio=theirs / times[batch],
                    note=f"probabilities within {apart:.1g}",
                )
            )
    return found


def _ours(family: str, matrix: Any, classes: Any) -> Bundle:
    """Return what our compiler makes of a family fitted on the same packets, seed and size."""
    leaves = LEAVES
    pipeline = make(family, trees=TREES, leaves=leaves, seed=0)
    if family == "lightgbm":
        pipeline[-1].set_params(force_row_wise=True)
    pipeline.fit(matrix, classes)
    return make_bundle(
        compile_pipeline(pipeline, list(FEATURES)), 0.5, card={"created_by": "bench"}
    )
