"""Packet records and labels in, fitted pipelines out: scalers, model, weights and the top 20."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from ids_appliance.schema import HEADER_FEATURES, N_COLUMNS, N_FEATURES
from ids_appliance.train.families import VOTERS
from ids_appliance.train.families.making import make
from ids_appliance.train.families.vote import Vote
from ids_appliance.types import F64, U16

TOP: Final = 20
ALL: Final = tuple(range(N_FEATURES))

Classes = npt.NDArray[np.uint8]
Groups = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a model becomes, given the packets."""

    features: str = "top20"
    """all; top20: the 20 that a forest on all of them finds most important, for all families; or
    header: length, protocol and the octets of IPv4 addresses."""
    trees: int = 50
    """Of a tree model; logistic regression has none."""
    leaves: int = 128
    """Of a forest's tree at most; a boosted tree gets a quarter."""
    seed: int = 0
    weight: str = "origin"
    """packet, record, balanced or origin: what counts alike. See `weigh`."""
    jobs: int = 2
    """Processes' worth of work at once; does not change the result."""
    family: str = "forest"
    """One of families.FAMILIES."""

    @property
    def width(self) -> int:
        """Columns of the record that its packets are to have: addresses only where they are asked
        for, because packets that differ in nothing else count as equal."""
        return N_COLUMNS if self.features == "header" else N_FEATURES


def fit(
    recipe: Recipe, rows: U16, classes: Classes, groups: Groups
) -> tuple[Pipeline | Vote, list[int]]:
    """Return the fitted pipeline, or vote of pipelines, and the features (indices) that are its
    columns.

    rows: (n, recipe.width); columns beyond that are not looked at, as a ranking that sees addresses
    chooses them. classes: (n,) 1 malicious, 0 not; groups: (n,) origins.
    """
    rows = rows[:, : recipe.width]
    if recipe.features == "header":
        features = list(HEADER_FEATURES)
        columns = rows[:, features]
        chosen, share = weigh(recipe.weight, columns, classes, groups)
        return _fit_family(recipe, columns[chosen], (classes[chosen], share)), features
    chosen, share = weigh(recipe.weight, rows, classes, groups)
    rows, classes = rows[chosen], classes[chosen]
    features = list(ALL)
    if recipe.features == "top20":
        features = top_features(_fit_one("forest", recipe, rows, (classes, share)))
    return _fit_family(recipe, rows[:, features], (classes, share)), features


def _fit_family(recipe: Recipe, columns: U16, told: tuple[Classes, F64]) -> Pipeline | Vote:
    if recipe.family == "vote":
        return Vote([_fit_one(one, recipe, columns, told) for one in VOTERS])
    return _fit_one(recipe.family, recipe, columns, told)


def top_features(pipeline: Pipeline) -> list[int]:
    """Return the TOP most important features of a pipeline on all 60, in the record's order."""
    importance = pipeline[-1].feature_importances_
    # Rounded, so that the last bits of a sum do not decide between equals: the earlier one wins.
    return sorted(int(i) for i in np.argsort(-np.round(importance, 12), kind="stable")[:TOP])


def weigh(
    scheme: str, rows: U16, classes: Classes, groups: Groups
) -> tuple[npt.NDArray[np.int64], F64]:
    """Return which packets to train on, and the weight of each, mean 1.

    packet: all, alike. record: of equal packets of one origin and class one, so that a flood of
    40,000 does not outvote everything else. balanced: as record, both classes weigh alike. origin:
    as balanced, and in each class every origin weighs alike, however much was captured there.
    """
    if scheme == "packet":
        return np.arange(len(rows)), np.ones(len(rows))
    chosen = distinct(rows, classes, groups)
    classes = classes[chosen]
    share = np.ones(len(chosen))
    if scheme == "origin":
        _, origin = np.unique(groups[chosen], return_inverse=True)
        origin_class = origin * 2 + classes
        share /= np.bincount(origin_class)[origin_class]
    if scheme in ("balanced", "origin"):
        for one in (0, 1):
            share[classes == one] /= max(share[classes == one].sum(), 1e-300)
    return chosen, np.asarray(share * (len(share) / share.sum()), np.float64)


def distinct(rows: U16, classes: Classes, groups: Groups) -> npt.NDArray[np.int64]:
    """Return the places of the first of all equal packets of one origin and class, in order."""
    _, origin = np.unique(groups, return_inverse=True)
    key = np.column_stack([rows, (origin * 2 + classes).astype(np.uint16)])
    key = np.ascontiguousarray(key)
    _, first = np.unique(key.view(f"V{key.shape[1] * 2}").ravel(), return_index=True)
    return np.sort(first)


def _fit_one(family: str, recipe: Recipe, rows: U16, told: tuple[Classes, F64]) -> Pipeline:
    classes, share = told
    pipeline = make(
        family, trees=recipe.trees, leaves=recipe.leaves, seed=recipe.seed, jobs=recipe.jobs
    )
    *scalers, (model, _) = pipeline.steps
    # The matrix is ours alone: scaled in place, it is there once and not three times. What is
    # computed is the same; afterwards the pipeline leaves its callers' matrices as they are.
    pipeline.set_params(**{f"{name}__copy": False for name, _ in scalers})
    # More threads would add a linear model's sums in other orders.
    with threadpool_limits(1, user_api="blas"):
        pipeline.fit(rows.astype(np.float64), classes, **{f"{model}__sample_weight": share})
    pipeline.set_params(**{f"{name}__copy": True for name, _ in scalers})
    # The reference is one job: others add the trees' votes in the order in which they finish.
    pipeline[-1].n_jobs = 1
    return pipeline
