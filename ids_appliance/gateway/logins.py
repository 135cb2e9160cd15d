"""Who is logged in on this machine over the network: addresses of authenticated sessions.

Not whoever opens port 22: a session exists for logind, or in utmp, only after the login has been
accepted; and only while the kernel has an established connection from that address does it count,
so that a stale record protects nobody. What is read:

  /run/systemd/sessions/*   logind's, what sd_session_get_remote_host(3) reads; REMOTE=1
  /run/utmp                 utmp(5), where there is no logind; USER_PROCESS with an address
  /proc/net/tcp, tcp6       connections of this machine, state 01

All three are readable for everybody, so an unprivileged gateway finds the same. A system that has
neither logind nor utmp names nobody: then administrators' networks protect, and MACs by hand.
"""

import ipaddress
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_SESSIONS: Final = 64
MAX_FILE: Final = 4 * 2**20
MAX_SESSION_FILE: Final = 8192
_UTMP: Final = struct.Struct("=h2xi32s4s32s256shhiii16s20x")
"""struct utmp of Linux with glibc, the same on x86-64 and arm64 (utmp(5), bits/utmp.h)."""
_USER_PROCESS: Final = 7
_ESTABLISHED: Final = "01"


@dataclass(frozen=True, slots=True)
class Records:
    """Where the system keeps its records; replaced in tests."""

    sessions: Path = Path("/run/systemd/sessions")
    utmp: Path = Path("/run/utmp")
    connections: tuple[Path, ...] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def logged_in(records: Records | None = None) -> list[bytes]:
    """Return the addresses (4 or 16 bytes) of logged-in peers, each once, sorted."""
    records = records or Records()
    claimed = {*_of_logind(records.sessions), *_of_utmp(records.utmp)}
    if not claimed:
        return []
    return sorted(claimed & _connected(records.connections))[:MAX_SESSIONS]


def _of_logind(directory: Path) -> Iterable[bytes]:
    try:
        files = sorted(directory.iterdir())[: 4 * MAX_SESSIONS]
    except OSError:
        return
    for file in files:
        if not file.is_file():  # fifos that hold a session open lie here too
            continue
        text = _read(file, MAX_SESSION_FILE).decode("utf-8", "replace")
        given = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
        if given.get("REMOTE") == "1" and given.get("STATE") in ("active", "online"):
            yield from _address(given.get("REMOTE_HOST", ""))


def _of_utmp(path: Path) -> Iterable[bytes]:
    data = _read(path, MAX_FILE)
    for record in _UTMP.iter_unpack(data[: len(data) // _UTMP.size * _UTMP.size]):
        kind, address = record[0], record[11]
        if kind == _USER_PROCESS and any(address):
            # An IPv4 address fills the first four bytes only (utmp(5), ut_addr_v6).
            yield from _packed(address if any(address[4:]) else address[:4])


def _connected(paths: Iterable[Path]) -> set[bytes]:
    """Return the peers of established connections of this machine."""
    found: set[bytes] = set()
    for path in paths:
        for line in _read(path, MAX_FILE).decode("ascii", "replace").splitlines()[1:]:
            fields = line.split()
            if len(fields) < 4 or fields[3] != _ESTABLISHED:
                continue
            peer = fields[2].partition(":")[0]
            if re.fullmatch(r"([0-9A-F]{8}){1,4}", peer):
                found |= set(_packed(_host_order(bytes.fromhex(peer))))
    return found


def _host_order(raw: bytes) -> bytes:
    """Return an address that /proc/net prints as words in the machine's own byte order."""
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    return b"".join(struct.pack("=I", int.from_bytes(word, "big")) for word in words)


def _address(text: str) -> Iterable[bytes]:
    try:
        yield from _packed(ipaddress.ip_address(text.partition("%")[0]).packed)
    except ValueError:
        return  # a name: sshd with UseDNS; whose address that was then, nobody can say now


def _packed(address: bytes) -> Iterable[bytes]:
    """Yield an address, IPv4 inside IPv6 as IPv4 (RFC 4291 2.5.5.2); loopback is nobody's."""
    if len(address) == 16:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
        address = mapped.packed if mapped is not None else address
    if len(address) in (4, 16) and not ipaddress.ip_address(address).is_loopback:
        yield address


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""
