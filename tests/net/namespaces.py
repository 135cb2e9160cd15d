"""The lab's namespaces, as tests use them: skipped where the machine cannot make any."""

import time
from collections.abc import Callable

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab import namespaces
from ids_appliance.lab.namespaces import Network, run, sweep

NEEDED = ("ethtool", "tcpdump")


def require(*tools: str) -> None:
    """Skip where the machine cannot do this."""
    try:
        namespaces.require(*NEEDED, *tools)
    except LabError as error:
        pytest.skip(str(error))


def wait_for(look: Callable[[], object], *, seconds: float = 60) -> None:
    """Call `look`, which itself waits a little for something, until it returns something true.

    seconds: only there to end what would hang, so it is far more than a busy machine takes.
    """
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "it did not happen in time"


__all__ = ["Network", "require", "run", "sweep", "wait_for"]
