"""A family's name and size in, an unfitted pipeline out: scalers, then the library's own model.

Everything that could make two fits differ is fixed: seeds, one thread where a library adds up in
the order in which threads finish, one method of growing trees.
"""

from typing import Any, Final

from lightgbm import LGBMClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from xgboost import XGBClassifier

from ids_appliance.errors import BundleError

BOOSTED_SHARE: Final = 4
"""A boosted tree gets a quarter of a forest tree's leaves: it corrects those before it, and large
ones learn single packets by heart."""


def make(family: str, *, trees: int, leaves: int, seed: int, jobs: int = 1) -> Pipeline:
    """Return an unfitted pipeline of a family of VOTERS: standardise, normalise, model.

    trees, leaves: of the tree models; leaves as for a forest. jobs: cores for the forest, the only
    one whose result does not depend on it. Raises BundleError for an unknown family.
    """
    return make_pipeline(
        StandardScaler(), MinMaxScaler(), _model(family, trees, leaves, seed, jobs)
    )


def _model(family: str, trees: int, leaves: int, seed: int, jobs: int) -> Any:
    if family == "forest":
        return RandomForestClassifier(trees, max_leaf_nodes=leaves, random_state=seed, n_jobs=jobs)
    if family == "logistic":
        # Newton's method: a dozen steps whatever the weights, where others stop early.
        return LogisticRegression(solver="newton-cholesky", max_iter=100)
    few = max(2, leaves // BOOSTED_SHARE)
    if family == "xgboost":
        return XGBClassifier(
            n_estimators=trees,
            max_leaves=few,
            max_depth=0,
            grow_policy="lossguide",
            tree_method="hist",
            learning_rate=0.3,
            # Fixed, so that the sum begins at 0 exactly and not at a logarithm of the library's.
            base_score=0.5,
            n_jobs=1,
            random_state=seed,
        )
    if family == "lightgbm":
        return LGBMClassifier(
            n_estimators=trees,
            num_leaves=few,
            learning_rate=0.1,
            deterministic=True,
            force_row_wise=True,
            n_jobs=1,
            random_state=seed,
            verbose=-1,
        )
    raise BundleError(f"{family!r} is no family of models")
