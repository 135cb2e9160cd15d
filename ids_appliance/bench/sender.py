"""A pool of frames and a rate in, paced frames on an interface out; a process of its own.

    python -m ids_appliance.bench.sender INTERFACE POOL.npz RATE SECONDS

It sends up to 64 frames a call (sendmmsg(2), ext/paced.pyx) past the queueing discipline, and keeps
the pace by the clock, not by gaps: what one call was late is made good by the next. Whoever is more
than `ARREARS_S` behind is not this rate's sender any more, so the rest is given up and the rate is
not achieved; a catch-up burst would otherwise count as the gateway's loss.

On standard output: `ready`, then after any line on standard input the frames, then one JSON object
with what was sent. trafgen waits between two packets, and on a busy machine waits longer than it
was told (a quarter of 10,000 packets a second, where this one sent all); hping3 sends 10,000 a
second at best.
"""

import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ids_appliance._paced import BATCH, Paced

ARREARS_S: Final = 0.02
ARREARS: Final = 768
"""Frames: what waits between two CPUs holds 1,000 (net.core.netdev_max_backlog)."""
_SOL_PACKET, _QDISC_BYPASS = 263, 20  # packet(7)


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


def transmit(where: socket.socket, frames: Paced, *, pps: float, seconds: float) -> Sent:
    """Send the frames again and again from now on, for so long.

    They come prepared: 262,144 of them take 10 ms, by which a sender would begin late.
    """
    start_ns = time.monotonic_ns()
    total = max(1, round(pps * seconds))
    arrears = max(4 * BATCH, min(int(pps * ARREARS_S), ARREARS))
    descriptor = where.fileno()
    while not frames.send(descriptor, pps, start_ns, total, arrears):
        pass  # a signal may be looked at
    took_s = (time.monotonic_ns() - start_ns) / 1e9
    return Sent(pps, took_s, frames.packets, frames.refused, frames.given_up, frames.bytes)


def main(arguments: list[str]) -> None:
    """Be the process."""
    interface, path, pps, seconds = arguments
    with np.load(Path(path), allow_pickle=False) as pool:
        frames = Paced(pool["data"], pool["ends"])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as where:
        where.bind((interface, 0))
        where.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        where.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        print("ready", flush=True)
        if not os.read(0, 1):
            return  # whoever ordered it has gone
        sent = transmit(where, frames, pps=float(pps), seconds=float(seconds))
    print(json.dumps(asdict(sent)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
