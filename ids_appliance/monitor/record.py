"""What is about to be made in, a file that survives being killed out; and back for the clean-up.

Written before anything is made and removed after everything is gone: what it names may be there,
and nothing else of ours is, save what carries our mark.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.errors import MonitorError

VERSION: Final = 1
MAX_BYTES: Final = 1 << 20


class Joined(msgspec.Struct, frozen=True):
    """One host."""

    bridge_end: str
    host_end: str
    inside: str
    namespace: str
    """Name under /var/run/netns."""
    made: bool
    """The namespace is ours, and goes with the monitor."""
    container: bool
    """It is a container's: only the name under /var/run/netns is ours."""


class Before(msgspec.Struct, frozen=True):
    """The uplink as it was before its addresses moved."""

    interface: str
    addresses: tuple[str, ...]
    """Lines of `ip -batch` that give them back, without the device (addr replace ...)."""
    routes: tuple[str, ...]
    disable_ipv6: str
    """Its sysctl; empty where there is no IPv6."""
    up: bool
    token: str
    """Tells this move from an earlier one, for the watchdog."""
    confirmed: bool = False


class Record(msgspec.Struct, frozen=True):
    """The file's contents."""

    version: int
    name: str
    boot_id: str
    ovs_run_dir: str
    bridge: str
    addresses: tuple[str, ...] = ()
    """Of the bridge."""
    hosts: tuple[Joined, ...] = ()
    uplink: Before | None = None


class Records:
    """The file of one monitor in a directory, and the lock that all of them share."""

    def __init__(self, directory: str, name: str) -> None:
        self.directory = Path(directory)
        self.path = self.directory / f"{name}.json"
        self.name = name

    def socket(self, token: str) -> Path:
        """Return where the watchdog of that move of the uplink listens."""
        return self.directory / f"{self.name}.{token}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out until left; waits for those that are at it."""
        while True:
            try:
                self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
                held = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise MonitorError(f"{self.directory} cannot be used: {error.strerror}") from error
            fcntl.flock(held, fcntl.LOCK_EX)
            if _same(held, self.directory):
                break
            os.close(held)  # whoever was here before has removed it
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.directory.rmdir()  # only where nothing is left in it
            os.close(held)

    def read(self) -> Record | None:
        """Return what was recorded; None if nothing was. Raises MonitorError."""
        try:
            with self.path.open("rb") as file:
                found = msgspec.json.decode(file.read(MAX_BYTES), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MonitorError(
                f"{self.path} cannot be read ({' '.join(str(error).split())[:80]}): look at it, "
                "then remove it; what carries the monitor's mark is found without it"
            ) from error
        if found.version != VERSION:
            raise MonitorError(f"{self.path} is of version {found.version}, not {VERSION}")
        if found.boot_id != boot_id() and found.uplink is not None:
            # The system has configured its interfaces anew; what was before is no more.
            return msgspec.structs.replace(found, uplink=None)
        return found

    def write(self, record: Record) -> None:
        """Replace the file, whole or not at all. Raises MonitorError."""
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(beside, flags, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(record)))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            raise MonitorError(f"{self.path} cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        """Forget; everything of it is gone."""
        self.path.with_name(f".{self.path.name}.new").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _same(held: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(held), there)


def boot_id() -> str:
    """Return what tells this run of the kernel from others (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
