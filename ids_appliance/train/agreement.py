"""A model in both its forms and packets in, how far they agree out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.classify.bundle import Bundle
from ids_appliance.train.evaluate import judge
from ids_appliance.train.families.vote import AT
from ids_appliance.types import F64, U16

NEAR: Final = 1e-9
"""Within this of where it is decided, another order of adding could decide otherwise."""

FARTHEST: Final = 1e-6
"""No two probabilities differ by more: XGBoost's have seven digits, the others' fifteen."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a bundle and the fitted pipeline it was compiled from compare."""

    packets: int
    bits: int
    """Packets whose probability differs in any bit."""
    farthest: float
    """Largest difference of two probabilities."""
    verdicts: int
    """Packets whose verdict differs."""
    near: npt.NDArray[np.int64]
    """Places of the packets within NEAR of the threshold (of a vote: of any member's as well)."""
    hidden: int
    """Packets whose verdict differs though they are not near: there may be none."""

    @property
    def exact(self) -> bool:
        """Whether the bundle may stand for the pipeline."""
        return not self.hidden and self.farthest <= FARTHEST


def compare(bundle: Bundle, pipeline: Any, features: Sequence[int], rows: U16) -> Agreement:
    """Judge packet records (n, 60) with both forms. A forest's bits are all equal, or the largest
    difference is infinite: it adds the same numbers in the same order."""
    ours = np.empty(len(rows))
    bundle.forest.evaluate_rows(rows, ours)
    theirs = judge(pipeline, list(features), rows)
    threshold = bundle.grid.threshold
    bits = int(np.count_nonzero(ours.view(np.uint64) != theirs.view(np.uint64)))
    differ = (ours > threshold) != (theirs > threshold)
    close = near(bundle, rows)
    farthest = float(np.abs(ours - theirs).max(initial=0.0))
    if bits and bundle.forest.members == ("forest",):
        farthest = np.inf
    return Agreement(
        len(rows),
        bits,
        farthest,
        int(np.count_nonzero(differ)),
        np.flatnonzero(close),
        int(np.count_nonzero(differ & ~close)),
    )


def near(bundle: Bundle, rows: U16) -> npt.NDArray[np.bool_]:
    """Return which packets lie within NEAR of where their verdict is decided."""
    each = np.empty((len(rows), len(bundle.forest.members)))
    bundle.forest.evaluate_rows_each(rows, each)
    close = _close(each.mean(axis=1), bundle.grid.threshold)
    if each.shape[1] > 1:
        close |= _close(each, AT).any(axis=1)
    return np.asarray(close)


def _close(probabilities: F64, threshold: float) -> Any:
    return np.abs(probabilities - threshold) <= NEAR
