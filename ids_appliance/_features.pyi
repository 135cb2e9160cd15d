from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

COUNTER_NAMES: Final[tuple[str, ...]]
PROTOCOLS: Final[tuple[str, ...]]

class HostIdentity:
    def __init__(
        self,
        macs: Iterable[bytes] = ...,
        addresses: Iterable[bytes] = ...,
        *,
        all_ports: bool = ...,
        routers: Iterable[bytes] = ...,
        networks: Iterable[tuple[int, bytes, int]] = ...,
    ) -> None: ...
    def packed(self) -> bytes: ...

def extract(
    data: npt.NDArray[np.uint8],
    frames: npt.NDArray[Any],
    host: HostIdentity,
    rows: npt.NDArray[np.uint16],
    senders: npt.NDArray[Any],
    outcomes: npt.NDArray[np.uint8],
    counters: npt.NDArray[np.uint64],
) -> None: ...
def extract_l3(
    packet: npt.NDArray[np.uint8] | bytes | bytearray | memoryview,
    ethertype: int,
    row: npt.NDArray[np.uint16],
    counters: npt.NDArray[np.uint64],
    *,
    forwarded: bool = ...,
) -> bool: ...

class Protocols:
    def count(self, data: npt.NDArray[np.uint8], frames: npt.NDArray[Any]) -> None: ...
    def totals(self) -> tuple[list[int], list[int]]: ...
