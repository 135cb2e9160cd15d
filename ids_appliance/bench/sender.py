"""A pool of frames and a rate in, paced frames on an interface out; a process of its own.

    python -m ids_appliance.bench.sender INTERFACE POOL.npz RATE SECONDS

It sends 64 frames a call (sendmmsg(2)) past the queueing discipline, and keeps the pace by the
clock, not by gaps: what one call was late is made good by the next. Whoever is more than
`ARREARS_S` behind is not this rate's sender any more, so the rest is given up and the rate is not
achieved; a catch-up burst would otherwise count as the gateway's loss.

On standard output: `ready`, then after any line on standard input the frames, then one JSON object
with what was sent. trafgen waits between two packets, and on a busy machine waits longer than it
was told (a quarter of 10,000 packets a second, where this one sent all); hping3 sends 10,000 a
second at best.
"""

import ctypes
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

BATCH: Final = 64
ARREARS_S: Final = 0.02
_SOL_PACKET, _QDISC_BYPASS = 263, 20  # packet(7)
_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct mmsghdr (sendmmsg(2)): a message header and how much of it was sent."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("n_vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    ]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender has done."""

    requested_pps: float
    seconds: float
    packets: int
    """Frames handed to the interface."""
    refused: int
    """Of these, frames that the interface would not take: lost before the gateway."""
    given_up: int
    """Frames that were due but not sent, because the sender was too far behind."""
    bytes: int

    @property
    def achieved(self) -> float:
        """Share of the requested frames that were sent."""
        due = self.packets + self.given_up
        return self.packets / due if due else 0.0


class Messages:
    """Frames of a pool as the kernel wants them for sendmmsg(2).

    data: all frames' bytes. ends: where each ends, ascending, (n,).
    """

    def __init__(self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None:
        n = len(ends)
        self.n = n
        self._data = np.ascontiguousarray(data)
        starts = np.concatenate(([0], ends[:-1]))
        self.sizes = ends - starts
        vectors = np.zeros((n, 2), np.uint64)
        vectors[:, 0] = self._data.ctypes.data + starts
        vectors[:, 1] = self.sizes
        self._vectors = vectors
        size = ctypes.sizeof(_Header)
        headers = np.zeros((n, size), np.uint8)
        at = _Header.vectors.offset
        headers[:, at : at + 8] = (
            (vectors.ctypes.data + 16 * np.arange(n, dtype=np.uint64)).view(np.uint8).reshape(n, 8)
        )
        headers[:, _Header.n_vectors.offset] = 1
        self._headers = headers
        self.address = headers.ctypes.data
        self.stride = size


def transmit(
    where: socket.socket, pool: Messages, *, pps: float, seconds: float, start_ns: int
) -> Sent:
    """Send the pool again and again from `start_ns` (time.monotonic_ns) on, for so long."""
    total = max(1, round(pps * seconds))
    arrears = max(4 * BATCH, int(pps * ARREARS_S))
    descriptor, send = where.fileno(), _libc.sendmmsg
    packets = refused = given_up = position = n_bytes = 0
    done = 0  # of `total`: sent, or given up
    while done < total:
        due = min(total, int((time.monotonic_ns() - start_ns) * pps / 1e9)) - done
        if due <= 0:
            time.sleep(2e-5)
            continue
        if due > arrears:
            given_up += due - arrears
            done += due - arrears
            due = arrears
        many = min(due, BATCH, pool.n - position)
        address = ctypes.c_void_p(pool.address + position * pool.stride)
        took = send(descriptor, address, many, 0)
        if took <= 0:
            # ENOBUFS: the other end's queue is full. The frame counts as offered and lost.
            took = 1
            refused += 1
        packets += took
        done += took
        n_bytes += int(pool.sizes[position : position + took].sum())
        position = (position + took) % pool.n
    took_s = (time.monotonic_ns() - start_ns) / 1e9
    return Sent(pps, took_s, packets, refused, given_up, n_bytes)


def main(arguments: list[str]) -> None:
    """Be the process."""
    interface, path, pps, seconds = arguments
    with np.load(Path(path), allow_pickle=False) as pool:
        messages = Messages(pool["data"], pool["ends"])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as where:
        where.bind((interface, 0))
        where.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        where.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        print("ready", flush=True)
        if not os.read(0, 1):
            return  # whoever ordered it has gone
        sent = transmit(
            where,
            messages,
            pps=float(pps),
            seconds=float(seconds),
            start_ns=time.monotonic_ns(),
        )
    print(json.dumps(asdict(sent)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
