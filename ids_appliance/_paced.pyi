import numpy as np
import numpy.typing as npt

BATCH: int

class Paced:
    n: int
    packets: int
    refused: int
    given_up: int
    bytes: int
    def __init__(self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None: ...
    def send(self, fd: int, pps: float, start_ns: int, until: int, arrears: int) -> bool: ...
