"""Batches of frames in, differences between the compiled record and the twin out."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from ids_appliance import _features
from ids_appliance.schema import N_COLUMNS
from ids_appliance.types import SENDER, FrameBatch, Records
from tests.reference import packet as twin

NAMES = _features.COUNTER_NAMES
FAMILIES = {0: 0, 4: 4, 16: 6}  # by the address's length
OUTCOMES = {0: "judged", 1: "unparsable", 2: "own", 3: "echo"}


class Comparison:
    """Running totals of one campaign against one gateway's identity."""

    def __init__(self, host: twin.Host | None = None) -> None:
        self.host = host or twin.Host()
        self._identity = _features.HostIdentity(
            self.host.macs,
            self.host.addresses,
            all_ports=self.host.all_ports,
            routers=self.host.routers,
            networks=[
                (index, net.network_address.packed, net.prefixlen)
                for index, net in self.host.networks
            ],
        )
        self.totals: Counter[str] = Counter()
        """Frames by outcome, and how often each counter went up."""
        self.differences: list[str] = []
        """What differed, one text per frame, at most 20 of them."""

    def take(self, batch: FrameBatch, frames: list[bytes]) -> None:
        """Judge a batch by the compiled code and `frames`, the same frames, by the twin."""
        table = batch.frames
        n = len(table)
        if n != len(frames):
            self.differences.append(f"the source has {n} frames where there are {len(frames)}")
            return
        rows, senders = np.zeros((n, N_COLUMNS), np.uint16), np.zeros(n, SENDER)
        outcomes, counters = np.zeros(n, np.uint8), np.zeros(len(NAMES), np.uint64)
        _features.extract(batch.data, table, self._identity, rows, senders, outcomes, counters)
        expected = [
            twin.judge(frame, linktype, direction, self.host)
            for frame, linktype, direction in zip(
                frames, table["linktype"].tolist(), table["direction"].tolist(), strict=True
            )
        ]
        raised = Counter(name for judged in expected for name in judged.raised)
        wanted = np.array([judged.row or (0,) * N_COLUMNS for judged in expected], np.uint16)
        unequal = (rows != wanted.reshape(n, N_COLUMNS)).any(axis=1)
        unequal |= outcomes != np.array([judged.outcome for judged in expected], np.uint8)
        names = b"".join(map(sender_bytes, expected))
        who = np.frombuffer(names, np.uint8).reshape(n, -1)
        # The first four bytes are the interface, which the twin does not look at.
        unequal |= (senders.view(np.uint8).reshape(n, -1)[:, 4:] != who).any(axis=1)
        self._note(unequal, frames, table)
        if counters.tolist() != [n] + [raised[name] for name in NAMES[1:]]:
            self.differences.append(f"counters {counters.tolist()}, twin {dict(raised)}")
        self.totals["frames"] += n
        self.totals.update(raised)
        for outcome, count in zip(*np.unique(outcomes, return_counts=True), strict=True):
            self.totals[OUTCOMES[int(outcome)]] += int(count)

    def _note(self, unequal: npt.NDArray[np.bool_], frames: list[bytes], table: Records) -> None:
        for i in np.flatnonzero(unequal)[: 20 - len(self.differences)].tolist():
            self.differences.append(f"link type {table['linktype'][i]}: {frames[i].hex()}")


def sender_bytes(judged: twin.Judged) -> bytes:
    """Return a SENDER record's bytes from `side` on."""
    head = bytes([judged.side, FAMILIES[len(judged.address)]])
    return head + (judged.mac or bytes(6)) + judged.address.ljust(16, b"\0")


def report(comparison: Comparison) -> str:
    """Return the totals and the differences, for people."""
    lines = [f"{name:>20} {count:>10,}" for name, count in sorted(comparison.totals.items())]
    lines.append(f"{'differences':>20} {len(comparison.differences):>10,}")
    return "\n".join(lines + comparison.differences)
