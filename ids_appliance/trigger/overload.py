"""Pressure and a batch in, the frames to give up out: in the order that `on_overload` states."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ids_appliance._evidence import canonical_senders
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import SENDER, U8, U64, FrameBatch, Outcome, Records, Standing

LEVELS: Final = (0.5, 0.75, 0.9)
"""Pressure from which on the first, second and third class of frames is given up."""
MAX_CLEARED: Final = 4_096
"""Cleared senders known; those past it count as unnamed."""
_SUSPECT: Final = int(Standing.SUSPECT | Standing.FLOOD)
_WORDS: Final = SENDER.itemsize // 4

Class = Literal["cleared", "unnamed", "suspect"]


class Overload:
    """What is given up while the pipeline is under pressure.

    pressure: 0 (idle) to 1 (full), asked for each run of frames. host: who the gateway is, so that
    senders beyond it are told from those on its own side; only to recognise cleared ones.
    """

    def __init__(self, order: Sequence[Class], pressure: Callable[[], float]) -> None:
        self._order = tuple(order)
        self._pressure = pressure
        # Keyed, so that nobody can choose an address that passes for a cleared sender.
        self._key = np.frombuffer(os.urandom(8 * _WORDS), np.uint64) | np.uint64(1)
        self._cleared: U64 = np.empty(0, np.uint64)
        self.host = HostIdentity()
        self.counts = {f"shed_{name}": 0 for name in ("cleared", "unnamed", "suspect")}

    def set_cleared(self, senders: Iterable[bytes]) -> None:
        """Replace the set of canonical senders that the evidence has cleared."""
        records = b"".join(list(senders)[:MAX_CLEARED])
        self._cleared = np.sort(self._hashes(np.frombuffer(records, SENDER)))

    def shed(self, batch: FrameBatch, outcomes: U8) -> None:
        """Turn WAITING into SHED for the frames to give up; `outcomes` is changed in place."""
        pressure = self._pressure()
        if pressure < LEVELS[0]:
            return
        given_up = self._order[: sum(pressure >= at for at in LEVELS)]
        at = np.flatnonzero(outcomes == Outcome.WAITING)
        if not len(at):
            return
        suspect = (batch.frames["standing"][at] & _SUSPECT) != 0
        cleared = np.zeros(len(at), np.bool_)
        if len(self._cleared) and ("cleared" in given_up) != ("unnamed" in given_up):
            cleared = self._is_cleared(FrameBatch(batch.data, batch.frames[at])) & ~suspect
        classes = {"cleared": cleared, "unnamed": ~cleared & ~suspect, "suspect": suspect}
        for name in given_up:
            outcomes[at[classes[name]]] = Outcome.SHED
            self.counts[f"shed_{name}"] += int(np.count_nonzero(classes[name]))

    def _is_cleared(self, batch: FrameBatch) -> npt.NDArray[np.bool_]:
        n = len(batch.frames)
        senders = np.zeros(n, SENDER)
        rows, outcomes = np.empty((n, N_FEATURES), np.uint16), np.empty(n, np.uint8)
        counters = np.zeros(len(COUNTER_NAMES), np.uint64)
        frames = np.ascontiguousarray(batch.frames)
        extract(batch.data, frames, self.host, rows, senders, outcomes, counters)
        hashes = self._hashes(canonical_senders(senders))
        where = np.minimum(np.searchsorted(self._cleared, hashes), len(self._cleared) - 1)
        found: npt.NDArray[np.bool_] = self._cleared[where] == hashes
        return found

    def _hashes(self, senders: Records) -> U64:
        words = np.ascontiguousarray(senders).view(np.uint32).reshape(len(senders), _WORDS)
        hashes: U64 = (words * self._key).sum(axis=1, dtype=np.uint64)
        return hashes
