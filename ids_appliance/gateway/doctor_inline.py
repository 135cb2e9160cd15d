"""A configuration in, findings out about the queue in which packets wait for their verdict.

Nothing is changed: whose the rule and the queue are, how full it is, what found it full.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ids_appliance.capture.nfqueue import holder, kernel_counts
from ids_appliance.config import Config
from ids_appliance.enforce.nft import Nft, NftError
from ids_appliance.enforce.owner import Owner, owner_of
from ids_appliance.enforce.queue_rule import TABLE
from ids_appliance.errors import EnforceError, PermissionMissing
from ids_appliance.gateway.machine import Finding

PACKAGE: Final = "netfilterqueue"
NEARLY_FULL: Final = 0.8
"""Part of inline.length from which on the gateway cannot keep up, or hangs."""


def inline(config: Config) -> Iterator[Finding]:
    """Yield what there is to say about [inline]; nothing where it is off."""
    settings = config.inline
    if not settings.enabled:
        return
    try:
        if settings.reader == "package":
            importlib.import_module(PACKAGE)
    except ImportError:
        yield Finding(
            "inline",
            "fail",
            "the package NetfilterQueue is not installed, or its library is missing",
            "apt-get install libnetfilter-queue-dev python3-dev gcc, then "
            f"{sys.executable} -m pip install 'ids-appliance[gateway]'; or leave inline.reader at "
            '"batch"',
        )
    try:
        there, owner = _rule()
    except PermissionMissing as error:
        yield Finding("inline", "unknown", f"its rule could not be looked at: {error}")
        return
    except EnforceError as error:
        yield Finding("inline", "fail", f"its rule could not be looked at: {error}", "see nftables")
        return
    for number in range(settings.queue, settings.queue + settings.queues):
        yield _queue(number, settings.length, there, owner)


def _rule() -> tuple[bool, Owner | None]:
    """Return whether there is a table of our name, and whose it is. Raises EnforceError."""
    nft = Nft()
    if TABLE not in nft.run("list tables inet").split():
        return False, None
    try:
        return True, owner_of(nft.run(f"list set inet {TABLE} owner"))
    except NftError as error:
        if not error.missing:
            raise
        return True, None


def _queue(number: int, length: int, there: bool, owner: Owner | None) -> Finding:
    port = holder(number)
    alive = owner is not None and owner.alive()
    if there and owner is None:
        line = f"table inet {TABLE} is there and not ours: a gateway would refuse to start"
        return Finding("inline", "fail", line, "rename or delete it")
    if port and not alive:
        line = f"queue {number} is held by another program ({_who(port)})"
        return Finding("inline", "fail", line, "stop it, or set inline.queue to a free number")
    if not port and owner is not None and alive:
        line = f"gateway {owner.pid} has its rule, and nobody reads queue {number}: packets pass it"
        return Finding("inline", "warn", line, "systemctl restart ids-appliance")
    if not port and owner is not None:
        line = f"the rule of a gateway that has died ({owner.pid}) stands: packets pass unjudged"
        return Finding("inline", "warn", line, "start the gateway, or `ids-appliance panic`")
    if not port or owner is None:
        return Finding("inline", "ok", f"queue {number} is free; nobody holds packets")
    counts = kernel_counts(number)
    waiting, full, unsent = (counts[f"queue_{name}"] for name in ("waiting", "full", "unsent"))
    text = f"queue {number} of gateway {owner.pid}: {waiting:,} of {length:,} packets wait"
    if waiting >= NEARLY_FULL * length:
        remedy = "look at its processor; `ids-appliance status` says whether it answers"
        return Finding("inline", "warn", f"{text}: it hangs, or cannot keep up", remedy)
    if full or unsent:
        lost = f"{full:,} found it full, {unsent:,} could not be handed over"
        return Finding("inline", "warn", f"{text}; {lost}", "a larger inline.length, or fail_open")
    return Finding("inline", "ok", f"{text}, none was dropped by the queue")


def _who(port: int) -> str:
    """Name a netlink port: a process' first socket has its pid, others a number of chance."""
    try:
        name = Path("/proc", str(port), "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return f"netlink port {port}"
    return f"{name}, pid {port}"
