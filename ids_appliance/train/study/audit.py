"""Features one by one and group by group: what each knows alone, and what is lost without it.

A feature that is good alone in the random split and bad on other origins is a shortcut: it knows
labs, addresses' habits or tools, and not attacks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeClassifier

from ids_appliance.schema import FEATURE_NAMES
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.fit import weigh
from ids_appliance.train.study.splits import Fold
from ids_appliance.types import F64, U16

LEAVES: Final = 8
VALUES: Final = 65_536

GROUPS: Final[Mapping[str, tuple[int, ...]]] = {
    name: tuple(i for i, f in enumerate(FEATURE_NAMES) if f.startswith(starts))
    for name, starts in {
        "ports": ("src_port", "dst_port", "is_dns", "is_dhcp", "is_http", "is_ssh", "is_smtp")
        + ("is_irc", "is_telnet"),
        "ttl": ("ttl",),
        "payload": ("payload_",),
        "sizes": ("length", "header_length", "payload_len"),
    }.items()
}
"""What an ablation leaves out together."""


def blank(packets: Packets, features: Sequence[int]) -> Packets:
    """Return packets that say nothing by some features: a constant is never asked for."""
    rows = packets.rows.copy()
    rows[:, list(features)] = 0
    return Packets(rows, packets.classes, packets.groups, packets.families)


def alone(packets: Packets, folds: Iterable[Fold], *, step: Callable[[], None]) -> list[float]:
    """Return per column the F1 of the class malicious of a small tree on that feature alone, over
    all folds together; weights as training by origin has them. step: called after each fold."""
    n = packets.rows.shape[1]
    hit, flagged, real = np.zeros(n), np.zeros(n), 0
    malicious = packets.classes == 1
    for fold in folds:
        train = np.flatnonzero(~fold.test)
        chosen, share = weigh(
            "origin", packets.rows[train], packets.classes[train], packets.groups[train]
        )
        places = train[chosen]
        classes = packets.classes[places]
        test = np.flatnonzero(fold.test)
        for feature in range(n):
            table = _verdicts(packets.rows[places, feature], classes, share)
            said = table[packets.rows[test, feature]]
            hit[feature] += np.count_nonzero(said & malicious[test])
            flagged[feature] += np.count_nonzero(said)
        real += int(malicious[test].sum())
        step()
    return [
        float(2 * h / (f + real)) if f + real else 0.0 for h, f in zip(hit, flagged, strict=True)
    ]


def _verdicts(
    values: npt.NDArray[np.uint16], classes: npt.NDArray[np.uint8], share: F64
) -> npt.NDArray[np.bool_]:
    """Return (65536,) the verdict for every value, of a tree on this one feature: values are few,
    so packets are summed per value first."""
    sums = [
        np.bincount(values[classes == one], weights=share[classes == one], minlength=VALUES)
        for one in (0, 1)
    ]
    there = np.flatnonzero(sums[0] + sums[1])
    points: U16 = np.repeat(there, 2).astype(np.uint16)
    weights = np.column_stack([sums[0][there], sums[1][there]]).ravel()
    labels = np.tile([0, 1], len(there))
    kept = weights > 0
    tree = DecisionTreeClassifier(max_leaf_nodes=LEAVES, random_state=0)
    tree.fit(points[kept, None].astype(np.float64), labels[kept], sample_weight=weights[kept])
    every = np.arange(VALUES, dtype=np.float64)[:, None]
    return np.asarray(tree.predict(every) == 1)
