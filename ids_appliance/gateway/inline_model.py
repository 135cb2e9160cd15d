"""A packet's bytes in, what the model says of it here out: the whole, and each member's word."""

from typing import Final

import numpy as np

from ids_appliance._features import COUNTER_NAMES, extract_l3
from ids_appliance.classify.bundle import Bundle
from ids_appliance.schema import N_COLUMNS

_COUNTERS: Final = len(COUNTER_NAMES)


class PacketModel:
    """One packet at a time, for what the pipeline has no answer to: deadlines and the log."""

    def __init__(self, bundle: Bundle) -> None:
        self.model_id = bundle.grid.model_id
        self._threshold = bundle.grid.threshold
        self._forest = bundle.forest
        self._rows = np.zeros((1, N_COLUMNS), np.uint16)
        self._counters = np.zeros(_COUNTERS, np.uint64)
        self._one = np.zeros(1)
        self._each = np.zeros((1, len(bundle.forest.members)))

    @property
    def members(self) -> tuple[str, ...]:
        """Kinds of the members that vote; one where it is one model."""
        return self._forest.members

    def probability(self, payload: bytes) -> float | None:
        """Return P(malicious) of a packet that the hook forward has shown; None: unparsable."""
        if not self._read(payload):
            return None
        self._forest.evaluate_rows(self._rows, self._one)
        return float(self._one[0])

    def malicious(self, payload: bytes) -> bool:
        """Return the verdict, as the pipeline gives it."""
        said = self.probability(payload)
        return said is not None and said > self._threshold

    def votes(self, payload: bytes) -> dict[str, float]:
        """Return each member's probability by its name; {} where nobody votes."""
        if len(self.members) < 2 or not self._read(payload):
            return {}
        self._forest.evaluate_rows_each(self._rows, self._each)
        return dict(zip(_apart(self.members), self._each[0].tolist(), strict=True))

    def _read(self, payload: bytes) -> bool:
        packet = np.frombuffer(payload, np.uint8)
        return extract_l3(packet, 0, self._rows[0], self._counters, forwarded=True)


def _apart(names: tuple[str, ...]) -> list[str]:
    """Number members of one kind, so that none hides another."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
