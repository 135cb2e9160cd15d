"""The gateway's ports in, one capture file in order of time out.

routed, vlan: tcpdump on every captured interface, as the gateway's own ring would see it (before
netdev ingress, so that what it drops is still there), each packet once: where it arrives; the files
are merged by time. bridge: tcpdump on the bridge itself, promiscuous, which sees every frame once,
but not what a port drops.
"""

import contextlib
import heapq
import re
import signal
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY
from ids_appliance.lab.network import Lab

MAGIC: Final = 0xA1B23C4D  # classic pcap, nanoseconds, our byte order
_HEAD: Final = struct.Struct("=IHHiIII")
_RECORD: Final = struct.Struct("=IIII")
_DROPPED: Final = re.compile(r"(\d+) packets? dropped by kernel")


class Recording:
    """tcpdump at the gateway from construction to `stop`."""

    def __init__(self, lab: Lab, path: Path, *, snap: int = 0) -> None:
        """Record so many bytes of each frame; 0: all."""
        self.path = path
        self._parts: list[tuple[Path, Path, subprocess.Popen[bytes]]] = []
        for interface in lab.interfaces:
            part = lab.directory / f"{path.name}-{interface}"
            report = part.with_name(part.name + ".log")
            words = ["tcpdump", "-i", interface, "-n", "-s", f"{snap}", "-B", "65536", "-Z", "root"]
            words += ["--time-stamp-precision=nano", "-w", str(part), _once(lab)]
            with report.open("wb") as said:
                process = lab.popen(GATEWAY, words, stderr=said)
            self._parts.append((part, report, process))
        for part, report, process in self._parts:
            _await_start(part, report, process)

    def stop(self) -> int:
        """End it, write the merged file, return how many frames the kernel had to drop."""
        dropped = 0
        for _, _, process in self._parts:
            process.send_signal(signal.SIGINT)
        for _, report, process in self._parts:
            process.wait()
            found = _DROPPED.search(report.read_text())
            if found is None:
                raise LabError(f"tcpdump ended early: {report.read_text().strip()}")
            dropped += int(found[1])
        merge([part for part, _, _ in self._parts], self.path)
        return dropped


def _once(lab: Lab) -> str:
    """Return the filter without what arrived at one captured interface and leaves by another."""
    if lab.layout.bridged:
        return ""
    ours = " or ".join(f"ether src {lab.mac(GATEWAY, i).hex(':')}" for i in lab.interfaces)
    nets = [lab.net("iot"), lab.net("home")]
    inside = " or ".join(f"src net {net.v4} or src net {net.v6}" for net in nets)
    own = " or ".join(f"src host {address}" for address in lab.addresses(GATEWAY))
    return f"not (({ours}) and ({inside}) and not ({own}))"


def _await_start(part: Path, report: Path, process: subprocess.Popen[bytes]) -> None:
    while not (part.exists() and "listening on" in report.read_text()):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
            raise LabError(f"tcpdump did not start: {report.read_text().strip()}")


def merge(parts: Sequence[Path], path: Path) -> None:
    """Write the records of several classic pcap files (nanoseconds, Ethernet) in order of time."""
    with path.open("wb") as file:
        file.write(_HEAD.pack(MAGIC, 2, 4, 0, 0, 262_144, 1))
        # Stable: equal times keep the order of the files.
        for _, record in heapq.merge(*map(records, parts), key=lambda one: one[0]):
            file.write(record)


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (nanoseconds since the epoch, record with its head) of a file that tcpdump wrote."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size or _HEAD.unpack(head)[0] != MAGIC:
            raise LabError(f"{path.name} is not what tcpdump was to write")
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            seconds, nanos, length, _ = _RECORD.unpack(head)
            yield seconds * 1_000_000_000 + nanos, head + file.read(length)


def first_time_ns(path: Path) -> int:
    """Return the time of a merged capture's first frame; 0 if it is empty."""
    return next((time for time, _ in records(path)), 0)
