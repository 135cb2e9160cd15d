"""A class of machine in, a control group that holds a process to it out; gone again afterwards.

Control groups of version 2 where their controllers are, else of version 1 (cgroups(7)). A group
carries its owner's process in its name, so that the next start removes what a dead one has left.
"""

import contextlib
import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import Network, orphaned
from ids_appliance.lab.namespaces import sweep as sweep_namespaces

ROOT: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 100_000
TRIES, PAUSE_S = 40, 0.05


@dataclass(frozen=True, slots=True)
class Class:
    """How much a gateway has."""

    cores: float
    memory_mib: int


CLASSES: Final = {"1core-1gb": Class(1.0, 1024)}


def _settings(room: Class) -> dict[Path, dict[str, str]]:
    """Return hierarchy -> file -> what is written. Raises LabError where nothing can be."""
    quota, memory = round(room.cores * PERIOD_US), str(room.memory_mib << 20)
    control = ROOT / "cgroup.subtree_control"
    if control.exists():
        if not {"cpu", "memory"} <= set((ROOT / "cgroup.controllers").read_text().split()):
            raise LabError("control groups: the kernel gives no cpu and memory controllers here")
        control.write_text("+cpu +memory")
        return {ROOT: {"cpu.max": f"{quota} {PERIOD_US}", "memory.max": memory}}
    cpu, ram = ROOT / "cpu", ROOT / "memory"
    if not (cpu / "cgroup.procs").exists() or not (ram / "cgroup.procs").exists():
        raise LabError("control groups: neither version 2 nor cpu and memory of version 1 here")
    times = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)}
    return {cpu: times, ram: {"memory.limit_in_bytes": memory}}


def sweep() -> None:
    """Remove what dead owners have left: their namespaces, else a gateway that has outlived its
    owner is still in the group, then the groups."""
    sweep_namespaces()
    for place in (ROOT, ROOT / "cpu", ROOT / "memory"):
        for group in place.glob("idslab*"):
            if orphaned(group.name):
                _remove(group)


def _remove(group: Path) -> None:
    """Remove a group once its last process has gone: a killed one takes a moment."""
    pause = threading.Event()
    for _ in range(TRIES):
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            pause.wait(PAUSE_S)
        else:
            return


@contextlib.contextmanager
def held(name: str) -> Iterator[tuple[str, ...]]:
    """Make a class's group; yield the words before a command that put it in there.

    Raises LabError: no such class, or no control groups."""
    if name not in CLASSES:
        raise LabError(f"there is no class {name!r}: {', '.join(CLASSES)}")
    sweep()
    made = []
    try:
        try:
            for place, files in _settings(CLASSES[name]).items():
                group = place / Network("cgroup-").full(name)
                group.mkdir()
                made.append(group)
                for file, text in files.items():
                    (group / file).write_text(text)
        except OSError as error:
            raise LabError(f"control groups: {error.filename}: {error.strerror}") from error
        enter = "".join(f"echo $$ > {group / 'cgroup.procs'}; " for group in made)
        yield ("sh", "-ec", enter + 'exec "$@"', "sh")
    finally:
        for group in made:
            _remove(group)
