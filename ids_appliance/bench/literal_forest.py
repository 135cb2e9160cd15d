"""Nothing in; the pipeline with which the literally built systems judge out, fitted anew.

Standardise, normalise, a forest of the shipped size (50 trees of 128 leaves, 20 features), fitted
with one seed on the demo's packets. What it finds does not matter here, what it costs does: classes
that are partly random give every tree its 128 leaves.
"""

from contextlib import closing
from typing import Any, Final

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.bench.mixes import ORDINARY
from ids_appliance.capture.file import CaptureFile
from ids_appliance.schema import FEATURE_NAMES, N_FEATURES
from ids_appliance.types import SENDER, U16, Outcome

FEATURES: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 20, 40, 41, 48, 49)
"""Columns of the pipeline, as many as the published system used online."""
NAMES: Final = tuple(FEATURE_NAMES[i] for i in FEATURES)


def fitted() -> Any:
    """Return the pipeline; the same every time."""
    rows = _rows()
    rng = np.random.default_rng(0)
    classes = (rows[:, 6] == 2) ^ (rng.random(len(rows)) < 0.1)
    pipeline = make_pipeline(
        StandardScaler(),
        MinMaxScaler(),
        RandomForestClassifier(50, max_leaf_nodes=128, random_state=0, n_jobs=1),
    )
    return pipeline.fit(rows[:, list(FEATURES)].astype(float), classes)


def _rows() -> U16:
    parts = []
    counters = np.zeros(len(COUNTER_NAMES), np.uint64)
    with closing(CaptureFile(ORDINARY)) as source:
        for batch in source.batches():
            n = len(batch.frames)
            rows, outcomes = np.empty((n, N_FEATURES), np.uint16), np.empty(n, np.uint8)
            senders = np.empty(n, SENDER)
            extract(batch.data, batch.frames, HostIdentity(), rows, senders, outcomes, counters)
            parts.append(rows[outcomes == Outcome.JUDGED])
    return np.concatenate(parts)
