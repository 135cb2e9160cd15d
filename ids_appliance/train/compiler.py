"""A fitted pipeline or vote in, the arrays of a bundle out: the same verdicts on integers.

Pipeline: StandardScaler, MinMaxScaler and a model of train/families. The grid is cut wherever a
node of any member asks (families/reading.py says what that is in integers), so a node becomes
(feature, code), exactly. A feature with a weight in a linear member is cut at every value: its
codes are its values, and packets share a cell only if they share those.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance._forest import ARRAYS, KINDS, MEMBER_ARRAYS
from ids_appliance.errors import BundleError
from ids_appliance.schema import COLUMNS
from ids_appliance.train.families.reading import Domain, Member, Split, read_member

LEAF: Final = 255

Arrays = dict[str, npt.NDArray[Any]]


def compile_pipeline(pipeline: Any, features: Sequence[int]) -> Arrays:
    """Return the arrays (format 1: a forest alone, else format 2) of a fitted pipeline or vote.

    features: indices into schema.COLUMNS of the pipeline's columns, strictly increasing. The
    classes are 0 and 1, 1 malicious. Features that no member can tell apart are left out of the
    arrays. Raises BundleError for a pipeline that is none of the above, or whose scalers are not
    monotone.
    """
    pipelines = getattr(pipeline, "members", (pipeline,))
    members = [_member(one, features) for one in pipelines]
    cuts = _cuts(members, features)
    asked = [i for i in range(len(features)) if cuts[i]]
    columns: dict[str, list[Any]] = {
        "features": [features[i] for i in asked],
        "cut_counts": [len(cuts[i]) for i in asked],
        "cuts": [cut for i in asked for cut in cuts[i]],
        **_nodes([tree for member in members for tree in member.trees], cuts, asked),
    }
    dtypes = ARRAYS
    if len(members) > 1 or members[0].kind != "forest":
        dtypes = ARRAYS | MEMBER_ARRAYS
        linear = [member for member in members if member.kind == "logistic"]
        columns |= {
            "member_kinds": [KINDS.index(member.kind) for member in members],
            "member_trees": [len(member.trees) for member in members],
            "member_bases": [member.base for member in members],
            "weights": [member.weights.get(i, 0.0) for member in linear for i in asked],
        }
    return {name: np.array(columns[name], dtype) for name, dtype in dtypes.items()}


def scaled_domains(pipeline: Any, features: Sequence[int]) -> list[Domain]:
    """Return, per feature, what each of its values becomes in front of the model.

    Raises BundleError if a larger value can become a smaller one.
    """
    widest = max(COLUMNS[i].domain for i in features)
    domain = np.stack(
        [np.minimum(np.arange(widest), COLUMNS[i].domain - 1) for i in features], axis=1
    ).astype(np.float64)
    scaled = np.asarray(pipeline[:-1].transform(domain), np.float64)
    if not np.isfinite(scaled.astype(np.float32)).all() or (np.diff(scaled, axis=0) < 0).any():
        raise BundleError("the scalers are not monotone: cells would not be exact")
    return [
        np.ascontiguousarray(scaled[: COLUMNS[i].domain, column])
        for column, i in enumerate(features)
    ]


def _member(pipeline: Any, features: Sequence[int]) -> Member:
    model = pipeline[-1]
    if list(model.classes_) != [0, 1]:
        raise BundleError(f"the model's classes are {list(model.classes_)}, not [0, 1]")
    if list(features) != sorted(set(features)) or model.n_features_in_ != len(features):
        raise BundleError("the pipeline was fitted on other features")
    return read_member(model, scaled_domains(pipeline, features))


def _cuts(members: Sequence[Member], features: Sequence[int]) -> list[Sequence[int]]:
    found: list[set[int]] = [set() for _ in features]
    for member in members:
        for tree in member.trees:
            for split in tree:
                if split.feature >= 0:
                    found[split.feature].add(split.cut)
    weighted = {i for member in members for i in member.weights}
    return [
        range(1, COLUMNS[feature].domain) if i in weighted else sorted(found[i])
        for i, feature in enumerate(features)
    ]


def _nodes(
    trees: Sequence[Sequence[Split]], cuts: Sequence[Sequence[int]], asked: Sequence[int]
) -> dict[str, list[Any]]:
    numbered = {
        (feature, cut): (place, code)
        for place, feature in enumerate(asked)
        for code, cut in enumerate(cuts[feature])
    }
    starts, node_feature, node_code, node_right, leaves = [0], [], [], [], []
    for tree in trees:
        for split, right in zip(tree, _right_children(tree), strict=True):
            place, code = (LEAF, 0) if split.feature < 0 else numbered[split.feature, split.cut]
            node_feature.append(place)
            node_code.append(code)
            node_right.append(right)
            if split.feature < 0:
                leaves.append(split.value)
        starts.append(len(node_feature))
    return {
        "tree_starts": starts,
        "node_feature": node_feature,
        "node_code": node_code,
        "node_right": node_right,
        "leaves": leaves,
    }


def _right_children(tree: Sequence[Split]) -> list[int]:
    # In preorder a right child follows the last node of the left subtree.
    right = [0] * len(tree)
    open_: list[int] = []
    for i, split in enumerate(tree):
        if split.feature >= 0:
            open_.append(i)
        elif open_ and i + 1 < len(tree):
            right[open_.pop()] = i + 1
    return right
