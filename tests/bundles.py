"""Seeds in, small model bundles out: random trees on random cuts, made in milliseconds."""

import numpy as np

from ids_appliance.classify.bundle import Bundle, make_bundle
from ids_appliance.schema import COLUMNS, FEATURES

LEAF = 255


def random_arrays(seed=0, *, n_trees=10, n_leaves=32, features=None, max_cuts=300):
    """Return arrays of a random forest; with max_cuts > 255 some codes take two bytes."""
    rng = np.random.default_rng(seed)
    if features is None:
        features = sorted(rng.choice(len(FEATURES), 12, replace=False).tolist() + [])
    cuts = []
    for i in features:
        domain = COLUMNS[i].domain
        n = int(rng.integers(1, min(domain - 1, max_cuts) + 1))
        cuts.append(np.sort(rng.choice(np.arange(1, domain), n, replace=False)).astype("<u2"))
    trees = [_random_tree(rng, n_leaves, [len(c) for c in cuts]) for _ in range(n_trees)]
    nodes = [node for tree in trees for node in tree]
    starts = np.cumsum([0] + [len(tree) for tree in trees]).astype("<u4")
    n_found = sum(node[0] == LEAF for node in nodes)
    return {
        "features": np.array(features, "<u1"),
        "cut_counts": np.array([len(c) for c in cuts], "<u4"),
        "cuts": np.concatenate(cuts).astype("<u2"),
        "tree_starts": starts,
        "node_feature": np.array([n[0] for n in nodes], "<u1"),
        "node_code": np.array([n[1] for n in nodes], "<u2"),
        "node_right": np.array([n[2] for n in nodes], "<u4"),
        "leaves": rng.random(n_found),
    }


def random_members(seed=0, *, kinds=(0, 1, 2, 3), n_trees=4, n_leaves=20, features=None):
    """Return arrays of a model with members of `kinds` (indices into _forest.KINDS)."""
    rng = np.random.default_rng(seed)
    arrays = random_arrays(
        seed, n_trees=n_trees * len(kinds), n_leaves=n_leaves, features=features or [2, 5, 6, 40]
    )
    linear = kinds.count(1)
    if linear:  # a weighted feature is cut at every value
        counts = [COLUMNS[i].domain - 1 for i in arrays["features"].tolist()]
        arrays["cut_counts"] = np.array(counts, "<u4")
        arrays["cuts"] = np.concatenate([np.arange(1, n + 1) for n in counts]).astype("<u2")
    # A linear member has no trees: its share goes to nobody.
    trees = [0 if kind == 1 else n_trees for kind in kinds]
    starts = arrays["tree_starts"][: sum(trees) + 1]
    end = int(starts[-1])
    own = arrays["node_feature"][:end] == LEAF
    arrays |= {name: arrays[name][:end] for name in ("node_feature", "node_code", "node_right")}
    leaves = arrays["leaves"][: int(own.sum())].copy()
    for place, kind in enumerate(kinds):
        first, last = sum(trees[:place]), sum(trees[: place + 1])
        inside = slice(*(int(own[: starts[i]].sum()) for i in (first, last)))
        if kind == 2:
            leaves[inside] = (leaves[inside] - 0.5).astype(np.float32)
        elif kind == 3:
            leaves[inside] -= 0.5
    weights = rng.normal(0, 1e-3, linear * len(arrays["features"]))
    return arrays | {
        "tree_starts": starts,
        "leaves": leaves,
        "member_kinds": np.array(kinds, "<u1"),
        "member_trees": np.array(trees, "<u4"),
        "member_bases": np.array([0.0 if kind == 0 else 0.125 for kind in kinds]),
        "weights": weights,
    }


def random_bundle(seed=0, **shape) -> Bundle:
    """Return a bundle of `random_arrays`; equal seeds and shapes give equal models."""
    card = {"created_by": "tests", "about": f"random, seed {seed}"}
    return make_bundle(random_arrays(seed, **shape), 0.5, card=card)


def _random_tree(rng, n_leaves, cut_counts):
    nodes = []

    def grow(leaves):
        here = len(nodes)
        if leaves == 1:
            nodes.append((LEAF, 0, 0))
            return
        f = int(rng.integers(len(cut_counts)))
        nodes.append(None)
        left = int(rng.integers(1, leaves))
        grow(left)
        nodes[here] = (f, int(rng.integers(cut_counts[f])), len(nodes))
        grow(leaves - left)

    grow(int(rng.integers(1, n_leaves + 1)))
    return nodes


def random_rows(seed, n):
    """Return (n, 60) random records inside every feature's domain."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, f.domain, n) for f in FEATURES], axis=1).astype(np.uint16)
