"""Made-up packets in, judged batches out."""

from typing import Any

import numpy as np

from ids_appliance._evidence import canonical_senders
from ids_appliance.types import FRAME, SENDER, JudgedBatch, Outcome

PORT = 80


def lan_sender(n: int) -> Any:
    """Return the SENDER record of a device as it is seen."""
    record = np.zeros(1, SENDER)
    record["ifindex"], record["family"] = 2, 4
    record["mac"] = [2, 0, 0, 0, n >> 8, n & 255]
    record["address"][0, :4] = [192, 0, 2, n & 255]
    return record[0]


def lan_key(n: int) -> bytes:
    """Return the same device's canonical record."""
    return canonical_senders(np.array([lan_sender(n)], SENDER))[0].tobytes()


def flood_record() -> Any:
    """Return the record of a flood on 192.0.2.80, port 80."""
    record = np.zeros(1, SENDER)
    record["side"], record["family"], record["ifindex"] = 2, 4, PORT
    record["address"][0, :4] = [192, 0, 2, 80]
    return record[0]


def judged(packets: list[tuple[int, int, float]], *, standing: int = 0) -> JudgedBatch:
    """Return a batch of (sender, cell, probability) in one second, all judged."""
    n = len(packets)
    frames = np.zeros(n, FRAME)
    frames["number"] = np.arange(1, n + 1)
    frames["standing"] = standing
    p = np.array([p for _, _, p in packets], np.float64)
    return JudgedBatch(
        frames=frames,
        senders=np.array([lan_sender(s) for s, _, _ in packets], SENDER),
        outcomes=np.full(n, Outcome.JUDGED, np.uint8),
        probabilities=p,
        verdicts=(p > 0.5).astype(np.uint8),
        models=np.zeros(n, np.uint8),
        cells=np.array([c for _, c, _ in packets], np.uint64),
        model_ids=(bytes(16),),
    )
