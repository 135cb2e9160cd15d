from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

ARRAYS: dict[str, str]
MEMBER_ARRAYS: dict[str, str]
KINDS: tuple[str, ...]
TABLE_LIMIT: int

class Forest:
    n_features: int
    n_trees: int
    n_nodes: int
    n_leaves: int
    key_bytes: int
    table_bytes: int
    members: tuple[str, ...]
    def __init__(
        self, arrays: Mapping[str, npt.NDArray[Any]], *, table_limit: int = ...
    ) -> None: ...
    def evaluate(self, cells: npt.NDArray[np.uint8], out: npt.NDArray[np.float64]) -> None: ...
    def evaluate_rows(self, rows: npt.NDArray[np.uint16], out: npt.NDArray[np.float64]) -> None: ...
    def evaluate_each(self, cells: npt.NDArray[np.uint8], out: npt.NDArray[np.float64]) -> None: ...
    def evaluate_rows_each(
        self, rows: npt.NDArray[np.uint16], out: npt.NDArray[np.float64]
    ) -> None: ...
