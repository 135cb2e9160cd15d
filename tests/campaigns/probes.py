"""How long packets need through a gateway: UDP with the time of sending in it."""

import socket
import struct
import threading
import time
from typing import Final

from ids_appliance.lab.namespaces import Network

PORT: Final = 9009
_STAMP: Final = struct.Struct("=q")
_TIMESTAMPNS: Final = 35  # SO_TIMESTAMPNS and SCM_TIMESTAMPNS (socket(7))


class Probes:
    """Packets from lan to `target` in wan, `pps` a second; a context manager.

    The receiver's kernel notes when they come, so that nothing is added by our own waking up.
    """

    def __init__(self, net: Network, target: str, *, pps: int) -> None:
        with net.inside("wan"):
            self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._in.bind((target, PORT))
            self._in.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        with net.inside("lan"):
            self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._out.connect((target, PORT))
        self._in.settimeout(0.5)
        self._pps = pps
        self._done = threading.Event()
        self.delays_us: list[float] = []
        self.sent = 0
        self._threads = [threading.Thread(target=run) for run in (self._receive, self._send)]

    def __enter__(self) -> "Probes":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._in.close()
        self._out.close()

    def _send(self) -> None:
        while not self._done.wait(1 / self._pps):
            self.sent += 1
            self._out.send(_STAMP.pack(time.time_ns()))

    def _receive(self) -> None:
        while True:
            try:
                data, more, _, _ = self._in.recvmsg(64, 64)
            except TimeoutError:
                if self._done.is_set():
                    return
                continue
            for level, kind, stamp in more:
                if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPNS) and len(data) == _STAMP.size:
                    seconds, ns = struct.unpack("=qq", stamp)
                    came = seconds * 10**9 + ns
                    self.delays_us.append((came - _STAMP.unpack(data)[0]) / 1000)
