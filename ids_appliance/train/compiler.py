"""A fitted scikit-learn pipeline in, the arrays of a bundle out: the same probability on integers.

Pipeline: StandardScaler, MinMaxScaler, RandomForestClassifier. Every value that a feature can have
is pushed through the fitted scalers as scikit-learn itself would (float64), cast to float32 as the
forest does, and compared with `<=` to each node's float64 threshold. The scalers are monotone, so a
node's left side is `value < cut` for one integer cut: a node becomes (feature, code), exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance._forest import ARRAYS
from ids_appliance.errors import BundleError
from ids_appliance.schema import FEATURES

LEAF: Final = 255

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Split:
    """One node, cuts not yet numbered."""

    feature: int
    """Index into the features trained on; -1 in a leaf."""
    cut: int
    probability: float
    """P(malicious) in a leaf."""


def compile_pipeline(pipeline: Any, features: Sequence[int]) -> Arrays:
    """Return the arrays (_forest.ARRAYS) of a fitted pipeline.

    features: indices into schema.FEATURES of the pipeline's columns, strictly increasing. The
    pipeline's classes are 0 and 1, 1 malicious. Features that no node can tell apart are left out
    of the arrays. Raises BundleError for a pipeline that is none of the above, or whose scalers
    are not monotone.
    """
    forest = pipeline[-1]
    if list(forest.classes_) != [0, 1]:
        raise BundleError(f"the forest's classes are {list(forest.classes_)}, not [0, 1]")
    if list(features) != sorted(set(features)) or forest.n_features_in_ != len(features):
        raise BundleError("the pipeline was fitted on other features")
    values = scaled_domains(pipeline, features)
    trees = [_tree(estimator.tree_, values) for estimator in forest.estimators_]

    cuts: list[set[int]] = [set() for _ in features]
    for tree in trees:
        for split in tree:
            if split.feature >= 0:
                cuts[split.feature].add(split.cut)
    asked = [i for i in range(len(features)) if cuts[i]]
    numbered = {
        (feature, cut): (place, code)
        for place, feature in enumerate(asked)
        for code, cut in enumerate(sorted(cuts[feature]))
    }
    starts, node_feature, node_code, node_right, leaves = [0], [], [], [], []
    for tree in trees:
        for split, right in zip(tree, _right_children(tree), strict=True):
            place, code = (LEAF, 0) if split.feature < 0 else numbered[split.feature, split.cut]
            node_feature.append(place)
            node_code.append(code)
            node_right.append(right)
            if split.feature < 0:
                leaves.append(split.probability)
        starts.append(len(node_feature))
    columns = {
        "features": [features[i] for i in asked],
        "cut_counts": [len(cuts[i]) for i in asked],
        "cuts": [cut for i in asked for cut in sorted(cuts[i])],
        "tree_starts": starts,
        "node_feature": node_feature,
        "node_code": node_code,
        "node_right": node_right,
        "leaves": leaves,
    }
    return {name: np.array(columns[name], dtype) for name, dtype in ARRAYS.items()}


def scaled_domains(pipeline: Any, features: Sequence[int]) -> list[npt.NDArray[np.float32]]:
    """Return, per feature, what each of its values becomes in front of the forest.

    Raises BundleError if a larger value can become a smaller one.
    """
    widest = max(FEATURES[i].domain for i in features)
    domain = np.stack(
        [np.minimum(np.arange(widest), FEATURES[i].domain - 1) for i in features], axis=1
    ).astype(np.float64)
    scaled = np.asarray(pipeline[:-1].transform(domain), np.float64).astype(np.float32)
    if not np.isfinite(scaled).all() or (np.diff(scaled, axis=0) < 0).any():
        raise BundleError("the scalers are not monotone: cells would not be exact")
    return [
        np.ascontiguousarray(scaled[: FEATURES[i].domain, column])
        for column, i in enumerate(features)
    ]


def _tree(tree: Any, values: Sequence[npt.NDArray[np.float32]]) -> list[_Split]:
    # Preorder; a node that sends the whole domain one way is replaced by that child.
    out: list[_Split] = []
    waiting = [0]
    probabilities = tree.value[:, 0, 1]
    while waiting:
        i = waiting.pop()
        left, right = int(tree.children_left[i]), int(tree.children_right[i])
        if left < 0:
            out.append(_Split(-1, 0, float(probabilities[i])))
            continue
        feature = int(tree.feature[i])
        domain = values[feature]
        # float32 values against a float64 threshold: numpy compares in float64, as the tree does.
        cut = int(np.searchsorted(domain.astype(np.float64), tree.threshold[i], side="right"))
        if cut == 0:
            waiting.append(right)
        elif cut == len(domain):
            waiting.append(left)
        else:
            out.append(_Split(feature, cut, 0.0))
            waiting += [right, left]
    return out


def _right_children(tree: Sequence[_Split]) -> list[int]:
    # In preorder a right child follows the last node of the left subtree.
    right = [0] * len(tree)
    open_: list[int] = []
    for i, split in enumerate(tree):
        if split.feature >= 0:
            open_.append(i)
        elif open_ and i + 1 < len(tree):
            right[open_.pop()] = i + 1
    return right
