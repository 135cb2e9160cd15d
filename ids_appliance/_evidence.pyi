from typing import Any, Final

import numpy as np
import numpy.typing as npt

STAT_NAMES: Final[tuple[str, ...]]

_Crossing = tuple[
    bytes, int, bool, float, int, tuple[tuple[int, float, int], ...], int, bytes
]

def quantise(probability: float, *, prior_logit: float = ..., clip: float = ...) -> int: ...
def canonical_senders(senders: npt.NDArray[Any]) -> npt.NDArray[Any]: ...

class EvidenceTable:
    @property
    def upper(self) -> float: ...
    @property
    def lower(self) -> float: ...
    def __init__(
        self,
        *,
        max_senders: int = ...,
        cells_per_sender: int = ...,
        clip: float = ...,
        cell_weight: float = ...,
        upper: float = ...,
        lower: float = ...,
        half_life_s: float = ...,
        prior_logit: float = ...,
    ) -> None: ...
    def add(
        self,
        frames: npt.NDArray[Any],
        senders: npt.NDArray[Any],
        outcomes: npt.NDArray[np.uint8],
        probabilities: npt.NDArray[np.float64],
        cells: npt.NDArray[np.uint64],
        floods: npt.NDArray[Any],
    ) -> list[_Crossing]: ...
    def add_judged(self, batch: object) -> list[_Crossing]: ...
    def set_floods(self, floods: npt.NDArray[Any]) -> None: ...
    def notice(self, sender: bytes, timestamp_ns: int, logodds: float) -> _Crossing | None: ...
    def new_window(self) -> None: ...
    def forget(self, sender: bytes) -> bool: ...
    def score(self, sender: bytes) -> dict[str, Any] | None: ...
    def peaks(
        self,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.uint64]]: ...
    def counters(self) -> dict[str, int]: ...
