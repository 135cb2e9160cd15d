"""An interface in, how many packets were judged out: the published gateway, built literally.

    python -m ids_appliance.bench.literal INTERFACE MIB RETIRE_MS [HOST PORT]

Each packet's features are computed in Python. With a node they go there as one JSON object a packet
over TCP, batched into few writes; without one scikit-learn judges here, a ring's batch at a time.
Everything that the design leaves open is tuned: the capture ring is ours, objects are written by a
template, replies are counted and not parsed. After `ready` it answers every line on standard input.
"""

import json
import os
import select
import socket
import sys
from contextlib import closing
from typing import Any, Final, Protocol

import numpy as np

from ids_appliance.bench.literal_features import Row, features
from ids_appliance.bench.literal_forest import FEATURES, NAMES, fitted
from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import FrameBatch

BACKLOG_BYTES: Final = 1 << 20
"""Unsent bytes from which on nothing more is read: the ring has to hold it, or drop it."""
ROWS: Final = 1024
"""Rows judged in one call here: more are no cheaper each."""
PATIENCE_S: Final = 0.03
"""Nothing for so long, longer than a block of the ring may wait, and what waits is judged."""
_LINE: Final = '{"seq": %d, ' + ", ".join(f'"{name}": %d' for name in NAMES) + "}\n"


class Judge(Protocol):
    """Whoever judges rows."""

    judged: int

    def take(self, rows: list[Row]) -> None:
        """Judge rows, now or later."""

    def idle(self) -> None:
        """Do what is to be done when nothing comes."""


class Here:
    """scikit-learn in this process; a call costs some milliseconds, however few rows it is for."""

    def __init__(self) -> None:
        self.judged = 0
        self._pipeline: Any = fitted()
        self._rows: list[Row] = []
        self._predict([[0] * N_FEATURES])  # the first call sets things up

    def take(self, rows: list[Row]) -> None:
        """Judge. Few rows wait for more."""
        self._rows += rows
        if len(self._rows) >= ROWS:
            self.judged += self._predict(self._rows)
            self._rows = []

    def idle(self) -> None:
        """Judge what waits."""
        if self._rows:
            self.judged += self._predict(self._rows)
            self._rows = []

    def _predict(self, rows: list[Row]) -> int:
        matrix = np.array(rows, float)[:, FEATURES]
        return int(len(self._pipeline.predict_proba(matrix)[:, 1] > 0.5))


class There:
    """A node at the other end of a TCP connection."""

    def __init__(self, host: str, port: int) -> None:
        self.judged = 0
        self._seq = 0
        self._unsent = bytearray()
        self._link = socket.create_connection((host, port))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link.setblocking(False)

    def take(self, rows: list[Row]) -> None:
        """Judge."""
        chosen = [[row[i] for i in FEATURES] for row in rows]
        lines = [_LINE % (seq, *row) for seq, row in enumerate(chosen, self._seq)]
        self._seq += len(rows)
        self._unsent += "".join(lines).encode()
        self._exchange()
        while len(self._unsent) > BACKLOG_BYTES:
            select.select([self._link], [self._link], [])
            self._exchange()

    def idle(self) -> None:
        """Judge. Replies are still coming."""
        self._exchange()

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _exchange(self) -> None:
        """Send what can be sent, and count replies."""
        try:
            while self._unsent:
                del self._unsent[: self._link.send(self._unsent)]
        except BlockingIOError:
            pass
        try:
            while got := self._link.recv(1 << 18):
                self.judged += got.count(b"\n")
        except BlockingIOError:
            pass


def rows_of(batch: FrameBatch) -> list[Row]:
    """Return the features of a batch's packets, one by one."""
    data = batch.data.data
    found = []
    places = zip(batch.frames["offset"].tolist(), batch.frames["caplen"].tolist(), strict=True)
    for begin, size in places:
        row = features(bytes(data[begin : begin + size]))
        if row is not None:
            found.append(row)
    return found


def main(arguments: list[str]) -> None:
    """Be the process; ends with its standard input."""
    interface, mib, retire_ms, *node = arguments
    judge: Judge = There(node[0], int(node[1])) if node else Here()
    options = RingOptions(blocks=max(2, int(mib) * 4), retire_ms=int(retire_ms))
    with closing(RingSource(interface, options, timeout_s=PATIENCE_S)) as source:
        print("ready", flush=True)
        for batch in source.batches():
            if batch is not None:
                judge.take(rows_of(batch))
                continue
            judge.idle()
            if select.select([0], [], [], 0)[0]:
                if not os.read(0, 4096):
                    return
                print(json.dumps({"judged": judge.judged} | source.counters()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
