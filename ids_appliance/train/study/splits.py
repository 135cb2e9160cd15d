"""Packets with their captures and origins in, folds out: what is left out of training together.

random    packets, stratified: what papers do; near twins stand on both sides
capture   whole captures, near twins together
origin    whole origins (one lab or network): what to expect on a network of one's own
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedKFold

from ids_appliance.schema import N_FEATURES
from ids_appliance.types import U16

Mask = npt.NDArray[np.bool_]
TWIN_SHARE: Final = 0.5
"""Captures that share so much of the smaller one's different packets are near twins."""


@dataclass(frozen=True, slots=True)
class Fold:
    """What is left out at a time."""

    name: str
    test: Mask
    """(n,) of the packets."""


def random_folds(classes: npt.NDArray[np.uint8], folds: int, *, seed: int) -> Iterator[Fold]:
    """Yield stratified folds of single packets."""
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(split.split(classes, classes), start=1):
        mask = np.zeros(len(classes), np.bool_)
        mask[test] = True
        yield Fold(f"random {number}", mask)


def group_folds(
    groups: npt.NDArray[Any], classes: npt.NDArray[np.uint8], *, together: int, name: str
) -> Iterator[Fold]:
    """Yield folds that leave whole groups out: each with an attack in it alone, the others,
    largest first, in `together` folds of nearly equal size (they say only who is wronged)."""
    names, index = np.unique(groups, return_inverse=True)
    sizes = np.bincount(index)
    attacked = np.bincount(index, weights=classes) > 0
    for number in np.flatnonzero(attacked).tolist():
        yield Fold(f"{name} {names[number]}", index == number)
    quiet = np.flatnonzero(~attacked)
    quiet = quiet[np.argsort(-sizes[quiet], kind="stable")]
    loads = np.zeros(min(together, len(quiet)), np.int64)
    place = np.full(len(names), -1)
    for number in quiet.tolist():
        place[number] = int(np.argmin(loads))
        loads[place[number]] += sizes[number]
    for fold in range(len(loads)):
        yield Fold(f"{name} ordinary {fold + 1}", place[index] == fold)


def twins(rows: U16, files: npt.NDArray[Any], *, share: float = TWIN_SHARE) -> npt.NDArray[np.intp]:
    """Return (n,) the number of each packet's cluster of captures that are near twins.

    Two captures belong together where they share at least `share` of the different packet records
    of the one that has fewer, addresses apart; who belongs to a third belongs to each other.
    """
    rows = rows[:, :N_FEATURES]
    _, file = np.unique(files, return_inverse=True)
    whole = np.ascontiguousarray(rows).view(f"V{rows.shape[1] * 2}").ravel()
    _, record = np.unique(whole, return_inverse=True)
    ones = np.ones(len(record), np.int64)
    has = coo_matrix((ones, (file, record))).tocsr()
    has.data[:] = 1  # a capture has a record or not, however often
    common = (has @ has.T).tocoo()
    own = np.asarray(has.sum(axis=1)).ravel()
    alike = common.data >= share * np.minimum(own[common.row], own[common.col])
    graph = coo_matrix((ones[: alike.sum()], (common.row[alike], common.col[alike])), common.shape)
    _, cluster = connected_components(graph, directed=False)
    return np.asarray(cluster[file], np.intp)
