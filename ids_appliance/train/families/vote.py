"""Fitted pipelines in, their majority vote out: what the compiled vote is compared with."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.types import F64

AT: Final = 0.5
"""A member votes "malicious" if its own probability is above this."""


class Vote:
    """Several pipelines that judge together; half against half, their mean probability decides.

    Its probability is the mean of theirs, moved to the side of 0.5 that the vote is on where it
    lies on the other: then it is 0.5, or the next number above.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = tuple(members)
        self.classes_ = np.array([0, 1])

    def predict_each(self, rows: npt.NDArray[Any]) -> F64:
        """Return (n, members): each member's P(malicious), in their order."""
        columns = [np.asarray(one.predict_proba(rows)[:, 1], np.float64) for one in self.members]
        return np.stack(columns, axis=1)

    def predict_proba(self, rows: npt.NDArray[Any]) -> F64:
        """Return (n, 2), as scikit-learn's models do."""
        malicious = count(self.predict_each(rows))
        return np.stack([1.0 - malicious, malicious], axis=1)


def count(each: F64) -> F64:
    """Return the vote's probability of each row of (n, members) probabilities."""
    n = each.shape[1]
    mean = np.zeros(len(each))
    for column in each.T:  # in their order, as the compiled one adds
        mean += column
    mean /= n
    votes = 2 * np.count_nonzero(each > AT, axis=1)
    mean[(votes > n) & (mean <= AT)] = np.nextafter(AT, 1.0)
    mean[(votes < n) & (mean > AT)] = AT
    return mean
