"""This machine in, findings out: kernel, rights, rules, capture, clock, memory.

Everything is tried rather than looked up where that leaves no trace. What this user may not look at
is said to be unknown, not to be wrong.
"""

import ctypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.enforce.probe import probe
from ids_appliance.errors import EnforceError, InterfaceError, PermissionMissing

State = Literal["ok", "unknown", "warn", "fail"]

OLDEST: Final = (5, 10)
"""Long-term kernel that the whole ruleset was written for; probes say what an older one can."""
PLAUSIBLE_S: Final = 1_735_689_600
"""2025-01-01: a clock before that was never set."""
RESIDENT_KIB: Final = 80 * 1024
"""What the gateway's process itself may take (ring excluded)."""

_NET_ADMIN: Final = 12
_CAPABILITIES: Final = {
    _NET_ADMIN: ("CAP_NET_ADMIN", "rules in the kernel"),
    13: ("CAP_NET_RAW", "capturing frames"),
}
_STA_UNSYNC: Final = 0x40


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    state: State
    text: str
    remedy: str = ""
    """What to do, where something is to be done."""


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2) as far as it is read, then room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def examine(wall_s: float) -> Iterator[Finding]:
    """Yield what there is to say about the machine; `wall_s`: its clock, seconds since 1970."""
    yield kernel(os.uname().release)
    status = _read("/proc/self/status")
    yield from capabilities(status)
    yield from rules(status)
    yield capture()
    yield conntrack()
    yield clock(wall_s, synchronised())
    yield memory(_read("/proc/meminfo"), RESIDENT_KIB)
    yield Finding("tools", "ok", "no other programs are needed, but for tc with [tc] rates")


def kernel(release: str) -> Finding:
    """Judge the kernel's release."""
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version >= OLDEST:
        return Finding("kernel", "ok", f"Linux {release}")
    oldest = ".".join(map(str, OLDEST))
    return Finding(
        "kernel",
        "warn",
        f"Linux {release} is older than {oldest}, with which this was tried",
        "read what `nftables` says below; update the system",
    )


def capabilities(status: str) -> Iterator[Finding]:
    """Judge the rights of this process by its /proc/self/status."""
    held = _held(status)
    for bit, (name, use) in _CAPABILITIES.items():
        if held >> bit & 1:
            yield Finding("rights", "ok", f"{name}: {use}")
        else:
            yield Finding(
                "rights",
                "warn",
                f"{name} is missing here: {use}",
                "run this as the gateway runs (root, or a service with that capability)",
            )


def _held(status: str) -> int:
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def rules(status: str) -> Iterator[Finding]:
    """Try what the ruleset needs of the kernel; nothing is taken over."""
    if not _held(status) >> _NET_ADMIN & 1:
        # A root without it, as in a container, would be told that the kernel has nothing.
        yield Finding("nftables", "unknown", "could not be looked at without CAP_NET_ADMIN")
        return
    try:
        found = probe()
    except PermissionMissing as error:
        yield Finding("nftables", "unknown", f"could not be looked at: {error}")
        return
    except EnforceError as error:
        yield Finding("nftables", "fail", str(error), "install libnftables1")
        return
    try:
        found.demand()
    except EnforceError as error:
        yield Finding("nftables", "fail", str(error))
        return
    yield Finding("nftables", "ok", "ingress chains, sets with timeouts, limits, conntrack")
    if found.synproxy:
        yield Finding("synproxy", "ok", "the kernel can answer SYNs for a flooded victim")
    else:
        yield Finding(
            "synproxy",
            "warn",
            found.missing["synproxy"],
            "modprobe nft_synproxy; without it new connections are limited during floods",
        )


def capture() -> Finding:
    """Try a small ring on the loopback interface."""
    try:
        RingSource("lo", RingOptions(blocks=2)).close()
    except PermissionMissing as error:
        return Finding("capture", "unknown", f"could not be looked at: {error}")
    except InterfaceError as error:
        return Finding("capture", "fail", f"AF_PACKET ring: {error}", "modprobe af_packet")
    return Finding("capture", "ok", "AF_PACKET rings (TPACKET_V3)")


def conntrack(directory: str = "/proc/sys/net/netfilter") -> Finding:
    """Judge how full the table of connections is."""
    count, most = (_read(f"{directory}/nf_conntrack_{name}").strip() for name in ("count", "max"))
    if not (count.isdigit() and most.isdigit() and int(most)):
        return Finding(
            "conntrack",
            "unknown",
            "not loaded yet, or not to be seen from here; our rules load it",
        )
    text = f"{int(count):,} of {int(most):,} connections"
    if int(count) > 0.8 * int(most):
        return Finding(
            "conntrack", "warn", text, f"sysctl -w net.netfilter.nf_conntrack_max={2 * int(most)}"
        )
    return Finding("conntrack", "ok", text)


def clock(wall_s: float, in_step: bool | None) -> Finding:
    """Judge the clock: durations survive a wrong one, certificates and event times do not."""
    if wall_s < PLAUSIBLE_S:
        return Finding(
            "clock",
            "fail",
            "the clock was never set: certificates seem not yet valid, event times are wrong",
            "set it (timedatectl), and let systemd-timesyncd or chrony keep it",
        )
    if in_step is None:
        return Finding("clock", "unknown", "whether it is synchronised cannot be told here")
    if not in_step:
        return Finding(
            "clock",
            "warn",
            "not synchronised: event times may be off",
            "let systemd-timesyncd or chrony keep it",
        )
    return Finding("clock", "ok", "synchronised")


def synchronised() -> bool | None:
    """Return what the kernel's time discipline says (adjtimex(2)); None where it says nothing."""
    timex = _Timex()
    try:
        said = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if said < 0 else not timex.status & _STA_UNSYNC


def memory(meminfo: str, need_kib: int) -> Finding:
    """Judge the memory that is free for us."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE)
    if found is None:
        return Finding("memory", "unknown", "how much is available cannot be told here")
    free = int(found[1])
    text = f"{free >> 10:,} MiB available, up to {need_kib >> 10:,} MiB needed"
    if free < need_kib:
        return Finding("memory", "fail", text, "stop something else, or set a smaller ring.mib")
    if free < 2 * need_kib:
        return Finding("memory", "warn", text, "leave some room for traffic of others")
    return Finding("memory", "ok", text)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace")
    except OSError:
        return ""
