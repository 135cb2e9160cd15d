"""Processes in, what they and the whole machine have used between two looks out (psutil)."""

from collections.abc import Mapping
from typing import Final

import psutil

from ids_appliance.bench.steps import Used

MIB: Final = 1 << 20


class Usage:
    """Looks at processes at construction and again at `read`.

    pids: by name. A process that has ended meanwhile is left out.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = self._look()
        self._machine = psutil.cpu_times()

    def _look(self) -> dict[str, tuple[float, float]]:
        found = {}
        for name, process in self._processes.items():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    found[name] = (times.user + times.system, process.memory_info().rss / MIB)
            except psutil.NoSuchProcess:
                continue
        return found

    def read(self, seconds: float) -> tuple[dict[str, Used], float, float]:
        """Return what each process used, and of all cores together in percent: everything, and
        softirqs alone."""
        after, machine = self._look(), psutil.cpu_times()
        used = {
            name: Used(100 * (cpu_s - self._before[name][0]) / max(seconds, 1e-3), resident)
            for name, (cpu_s, resident) in after.items()
        }
        gone = {key: now - before for key, now, before in _pairs(machine, self._machine)}
        # A guest's time is in `user` already (proc(5)); idle and waiting for disks is neither.
        total = sum(gone.values()) - gone.get("guest", 0) - gone.get("guest_nice", 0)
        idle = gone["idle"] + gone.get("iowait", 0)
        if total <= 0:
            return used, 0.0, 0.0
        return used, 100 * (1 - idle / total), 100 * gone.get("softirq", 0.0) / total


def _pairs(now: object, before: object) -> list[tuple[str, float, float]]:
    names: tuple[str, ...] = getattr(now, "_fields", ())
    return [(name, float(getattr(now, name)), float(getattr(before, name))) for name in names]
