"""Fitted pipelines in, plain trees and weights on integers out: what each library really computes.

A node asks on which side of a threshold the scaled value lies. Every integer that a feature can be
is pushed through the fitted scalers, then compared as the library compares: scikit-learn casts to
float32 and asks `<=` of a float64 threshold; XGBoost asks `<` of two float32; LightGBM `<=` of two
float64. The scalers are monotone, so a left side is always `integer < cut`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.errors import BundleError

_KINDS: Final = {
    "RandomForestClassifier": "forest",
    "LogisticRegression": "logistic",
    "XGBClassifier": "xgboost",
    "LGBMClassifier": "lightgbm",
}

Domain = npt.NDArray[np.float64]
"""What each value of a feature becomes in front of the model, from 0 on."""


@dataclass(frozen=True, slots=True)
class Split:
    """One node, cuts not yet numbered."""

    feature: int
    """Index into the features trained on; -1 in a leaf."""
    cut: int
    """Values below it go left."""
    value: float
    """In a leaf: P(malicious) of a forest, log-odds of a boosted tree."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model as plain numbers."""

    kind: str
    """A name of _forest.KINDS."""
    trees: list[list[Split]] = field(default_factory=list)
    """Each in preorder."""
    base: float = 0.0
    weights: dict[int, float] = field(default_factory=dict)
    """Index into the features trained on -> log-odds a unit; none are 0."""


@dataclass(frozen=True, slots=True)
class _Nodes:
    """A library's tree as parallel arrays, root first; left < 0 in a leaf."""

    left: Sequence[int]
    right: Sequence[int]
    feature: Sequence[int]
    threshold: Sequence[float]
    value: Sequence[float]


def kind_of(model: Any) -> str:
    """Return the family of a fitted model. Raises BundleError for one that is of none."""
    name = type(model).__name__
    if name not in _KINDS:
        raise BundleError(f"a {name} cannot be turned into a bundle")
    return _KINDS[name]


def read_member(model: Any, domains: Sequence[Domain]) -> Member:
    """Return a fitted model (a pipeline's last step) as plain numbers.

    domains: one per feature it was trained on. Raises BundleError for what it cannot represent.
    """
    kind = kind_of(model)
    if kind == "forest":
        # float32 values against a float64 threshold: numpy compares in float64, as the tree does.
        seen = [domain.astype(np.float32).astype(np.float64) for domain in domains]
        trees = [_flat(_sklearn(one.tree_), seen, "right") for one in model.estimators_]
        return Member(kind, trees)
    if kind == "xgboost":
        singles = [domain.astype(np.float32) for domain in domains]
        return Member(kind, [_flat(one, singles, "left") for one in _xgboost(model)])
    if kind == "lightgbm":
        return Member(kind, [_flat(one, domains, "right") for one in _lightgbm(model)])
    return _logistic(model, domains)


def _flat(nodes: _Nodes, domains: Sequence[Any], side: Any) -> list[Split]:
    # Preorder; a node that sends the whole domain one way is replaced by that child.
    out: list[Split] = []
    waiting = [0]
    while waiting:
        i = waiting.pop()
        left, right = int(nodes.left[i]), int(nodes.right[i])
        if left < 0:
            out.append(Split(-1, 0, float(nodes.value[i])))
            continue
        feature = int(nodes.feature[i])
        domain = domains[feature]
        cut = int(np.searchsorted(domain, domain.dtype.type(nodes.threshold[i]), side=side))
        if cut == 0:
            waiting.append(right)
        elif cut == len(domain):
            waiting.append(left)
        else:
            out.append(Split(feature, cut, 0.0))
            waiting += [right, left]
    return out


def _sklearn(tree: Any) -> _Nodes:
    left, right = tree.children_left, tree.children_right
    return _Nodes(left, right, tree.feature, tree.threshold, tree.value[:, 0, 1])


def _xgboost(model: Any) -> list[_Nodes]:
    saved = json.loads(bytes(model.get_booster().save_raw(raw_format="json")))["learner"]
    base = float(saved["learner_model_param"]["base_score"].strip("[]"))
    trees = saved["gradient_booster"]["model"]["trees"]
    if saved["objective"]["name"] != "binary:logistic" or base != 0.5:
        raise BundleError("XGBoost: only binary:logistic with base_score 0.5 can be represented")
    if any(any(tree["split_type"]) for tree in trees):
        raise BundleError("XGBoost: categorical splits cannot be represented")
    return [
        # A leaf's value stands where an inner node's threshold does; both are float32.
        _Nodes(
            tree["left_children"],
            tree["right_children"],
            tree["split_indices"],
            np.array(tree["split_conditions"], np.float32).tolist(),
            np.array(tree["split_conditions"], np.float32).tolist(),
        )
        for tree in trees
    ]


def _lightgbm(model: Any) -> list[_Nodes]:
    saved = model.booster_.dump_model()
    if saved["objective"] != "binary sigmoid:1" or saved["average_output"]:
        raise BundleError("LightGBM: only binary with sigmoid 1 can be represented")
    return [_nested(tree["tree_structure"]) for tree in saved["tree_info"]]


def _nested(root: dict[str, Any]) -> _Nodes:
    left: list[int] = []
    right: list[int] = []
    feature: list[int] = []
    threshold: list[float] = []
    value: list[float] = []
    waiting: list[tuple[dict[str, Any], int, list[int]]] = [(root, 0, [0])]
    while waiting:
        node, parent, link = waiting.pop()
        link[parent] = here = len(left)
        inner = "split_feature" in node
        if inner and (node["decision_type"], node["missing_type"]) != ("<=", "None"):
            raise BundleError("LightGBM: categories and missing values cannot be represented")
        left.append(0 if inner else -1)
        right.append(0 if inner else -1)
        feature.append(int(node.get("split_feature", -1)))
        threshold.append(float(node.get("threshold", 0.0)))
        value.append(float(node.get("leaf_value", 0.0)))
        if inner:
            waiting += [(node["right_child"], here, right), (node["left_child"], here, left)]
    return _Nodes(left, right, feature, threshold, value)


def _logistic(model: Any, domains: Sequence[Domain]) -> Member:
    base = float(model.intercept_[0])
    weights = {}
    for i, (weight, domain) in enumerate(zip(model.coef_[0].tolist(), domains, strict=True)):
        # Both scalers are straight lines: weight * scaled(v) = weight * (scaled(0) + slope * v).
        slope = float(domain[-1] - domain[0]) / (len(domain) - 1)
        base += weight * float(domain[0])
        if weight * slope:
            weights[i] = weight * slope
    return Member("logistic", base=base, weights=weights)
