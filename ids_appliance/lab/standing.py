"""The lab that `lab up` keeps, as other commands find it: by the names of its namespaces."""

import os
import re
import select
import signal
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import PREFIX, alive, present

TAG: Final = "up"
PATIENCE_S: Final = 30.0
_NAME: Final = re.compile(rf"{PREFIX}(\d+)\.(\d+)-{TAG}-(.+)")


def _found() -> dict[str, tuple[int, str]]:
    """Return host -> (its keeper's process id, its namespace) of the lab that is up."""
    names = [m for m in map(_NAME.fullmatch, present()) if m and alive(m[1], m[2])]
    return {m[3]: (int(m[1]), m[0]) for m in names}


def refuse_second() -> None:
    """Raise LabError if a lab is up already."""
    for keeper, _ in _found().values():
        raise LabError(f"a lab is up already (process {keeper}): ids-appliance lab down")


def namespace(host: str) -> str:
    """Return the namespace of a host of the lab that is up. Raises LabError."""
    found = _found()
    if not found:
        raise LabError("no lab is up: start one with `ids-appliance lab up`")
    if host not in found:
        raise LabError(f"there is no host {host!r}: {', '.join(sorted(found))}")
    return found[host][1]


def end() -> bool:
    """Let the keeper take its lab down, and wait for it; return whether there was one."""
    keepers = {keeper for keeper, _ in _found().values()}
    for keeper in keepers:
        handle = os.pidfd_open(keeper)
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], PATIENCE_S)[0]:
                raise LabError(f"process {keeper} does not take its lab down")
        finally:
            os.close(handle)
    return bool(keepers)
