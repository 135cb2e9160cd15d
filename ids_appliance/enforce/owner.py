"""The comment on our tables in, which gateway they belong to out, and whether it still runs."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MARK: Final = re.compile(
    r'comment "ids-appliance schema (\d+) pid (\d+) start (\d+) boot ([0-9a-f-]*)"'
)


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that set up the tables."""

    schema: int
    pid: int
    start: int
    """Its start, clock ticks since boot (proc(5), stat field 22): a pid alone is given anew."""
    boot: str
    interfaces: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the comment of the set `owner`; under the kernel's 128 bytes."""
        return (
            f"ids-appliance schema {self.schema} pid {self.pid} start {self.start} boot {self.boot}"
        )

    def alive(self) -> bool:
        """Return whether that very process runs. One in a container we cannot see does not."""
        return self.boot == _boot() and self.start == _started(self.pid)


def this_process(schema: int) -> Owner:
    """Return ourselves."""
    pid = os.getpid()
    return Owner(schema, pid, _started(pid), _boot())


def owner_of(listing: str) -> Owner | None:
    """Return whose table it is by its set `owner`, as `list set` prints it; None if not ours."""
    found = _MARK.search(listing)
    if found is None:
        return None
    names = tuple(re.findall(r'"([^"]+)"', listing.partition("elements = {")[2]))
    return Owner(int(found[1]), int(found[2]), int(found[3]), found[4], names)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _started(pid: int) -> int:
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return int(stat.rpartition(")")[2].split()[19])
