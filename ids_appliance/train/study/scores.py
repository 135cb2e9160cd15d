"""Probabilities of packets that were not learnt from in, figures of a split out."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from ids_appliance.train.evaluate import Judged, Packets, measure
from ids_appliance.train.fit import distinct
from ids_appliance.train.study.intervals import bootstrap
from ids_appliance.types import F64

Figures = dict[str, Any]
BINS: Final = 10
POINTS: Final = 200
"""Of a curve that is kept."""


def figures(packets: Packets, judged: Judged, *, threshold: float) -> Figures:
    """Return what a split says: as `evaluate.measure`, once more with equal packets of an origin
    and class counted once, and how far probabilities can be believed."""
    once = distinct(packets.rows, packets.classes, packets.groups)
    few = Judged(judged.forest[once], judged.majority[once], judged.size_rule[once])
    return {
        "packets": measure(packets, judged, threshold),
        "distinct": measure(packets.take(once), few, threshold),
        "calibration": calibration(packets.classes[once], few.forest),
        "origins": by_origin(packets, judged.forest > threshold),
    }


def by_origin(packets: Packets, verdicts: npt.NDArray[np.bool_]) -> Figures:
    """Return the mean over origins of the malicious packets found and of the ordinary ones flagged,
    each with the interval that drawing other origins would give (bootstrap, 95 %)."""
    _, origin = np.unique(packets.groups, return_inverse=True)
    out: Figures = {}
    for name, value in (("found", 1), ("flagged", 0)):
        own = packets.classes == value
        of = np.bincount(origin[own])
        hits = np.bincount(origin[own], weights=verdicts[own], minlength=len(of))
        shares = (hits[of > 0] / of[of > 0]).tolist()
        low, high = bootstrap(shares)
        mean = float(np.mean(shares)) if shares else None
        out[name] = {"origins": len(shares), "mean": mean, "low": low, "high": high}
    return out


def calibration(classes: npt.NDArray[np.uint8], probabilities: F64) -> Figures:
    """Return Brier score, areas, thinned curves, and per bin of probability how often it was right.

    Of different packets: a flood's million equal ones would be the whole figure otherwise.
    """
    if len(set(np.unique(classes).tolist())) < 2:
        return {}
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    of = np.bincount(bins, minlength=BINS)
    said = np.bincount(bins, weights=probabilities, minlength=BINS)
    came = np.bincount(bins, weights=classes, minlength=BINS)
    fpr, tpr, _ = roc_curve(classes, probabilities)
    precision, recall, _ = precision_recall_curve(classes, probabilities)
    return {
        "brier": float(brier_score_loss(classes, probabilities)),
        "roc_auc": float(roc_auc_score(classes, probabilities)),
        "average_precision": float(average_precision_score(classes, probabilities)),
        "reliability": [
            {"packets": int(n), "said": s / n, "came": c / n}
            for n, s, c in zip(of.tolist(), said.tolist(), came.tolist(), strict=True)
            if n
        ],
        "roc": _thin(fpr, tpr),
        "precision_recall": _thin(recall[::-1], precision[::-1]),
    }


def _thin(x: F64, y: F64) -> list[list[float]]:
    places = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(int))
    return [[round(float(x[i]), 5), round(float(y[i]), 5)] for i in places]
