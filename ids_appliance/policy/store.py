"""A snapshot in, the state file out: whole or not at all, for us alone; and back after a restart.

How much time has passed since it was saved: by the kernel's boot clock while it is the same boot;
else by the wall clock where that is plausible, else none. A small computer without a battery-backed
clock may wake up in the past: then bans last a little longer, never for ever.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.errors import StateError
from ids_appliance.policy.kept import Instant, Snapshot

NAME: Final = "decisions.json"
VERSION: Final = 1
MAX_BYTES: Final = 64 * 2**20
MAX_DAMAGED: Final = 9
EARLIEST_NS: Final = 1_704_067_200 * 10**9
"""2024-01-01: a clock before this was never set."""
LONGEST_S: Final = 5 * 365 * 86_400.0
"""A gateway that seems to have been off for longer has a wrong clock."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is saved or loaded; made by gateway.surroundings."""

    wall_ns: int
    boot_id: str
    """/proc/sys/kernel/random/boot_id (random(4)): another one after each boot."""
    boot_ns: int
    """CLOCK_BOOTTIME: since the boot, suspension included (clock_gettime(2))."""


class StateFile(Snapshot, kw_only=True):
    """The file's contents."""

    version: int
    saved_wall_ns: Instant
    saved_boot_ns: Instant
    boot_id: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found at the start."""

    snapshot: Snapshot | None
    """None: there was no file, or it was set aside."""
    elapsed_s: float = 0.0
    note: str = ""
    """One line for people, where something is not as it should be."""


class Store:
    """The state file in a directory of ours. Its calls wait for the disk: not for the loop."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    def save(self, snapshot: Snapshot, moment: Moment) -> None:
        """Replace the file: written beside it, forced to the disk, renamed. Raises StateError."""
        fields = {name: getattr(snapshot, name) for name in Snapshot.__struct_fields__}
        made = StateFile(
            **fields,
            version=VERSION,
            saved_wall_ns=max(0, moment.wall_ns),
            saved_boot_ns=max(0, moment.boot_ns),
            boot_id=moment.boot_id,
        )
        beside = self.path.with_name(f".{NAME}.new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(beside, flags, 0o600), "wb") as file:
                file.write(msgspec.json.encode(made))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)  # or the rename may be lost with the power
            finally:
                os.close(directory)
        except OSError as error:
            raise StateError(
                f"decisions cannot be saved to {self.path}: {error.strerror}; after a restart they "
                "would be forgotten"
            ) from error

    def load(self, moment: Moment) -> Loaded:
        """Return what was saved; a file that is none of ours is set aside, with one line.

        Raises StateError: there is a file, and it can be neither read nor set aside.
        """
        try:
            data = self._read()
            kept = msgspec.json.decode(data, type=StateFile)
            if kept.version != VERSION:
                raise _Damaged(f"it is of version {kept.version}, we know {VERSION}")
        except FileNotFoundError:
            return Loaded(None)
        except (_Damaged, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            aside = self._set_aside()
            why = " ".join(str(error).split())[:120]
            return Loaded(None, note=f"{self.path} is damaged ({why}): set aside as {aside.name}")
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror}") from error
        elapsed_s, doubt = elapsed(kept, moment)
        return Loaded(kept, elapsed_s, doubt)

    def _read(self) -> bytes:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except OSError as error:
            if self.path.is_symlink():
                raise _Damaged("it is a symbolic link") from error
            raise
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise _Damaged("it is not a file")
        with open(descriptor, "rb") as file:
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
                raise _Damaged("others may write to it")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _Damaged(f"it is larger than {MAX_BYTES >> 20} MiB")
        return data

    def _set_aside(self) -> Path:
        """Rename the file; the first name that is free, the last one if none is."""
        names = [self.path.with_name(f"{NAME}.damaged-{n}") for n in range(1, MAX_DAMAGED + 1)]
        aside = next((name for name in names if not os.path.lexists(name)), names[-1])
        try:
            self.path.rename(aside)
        except OSError as error:
            raise StateError(
                f"{self.path} is damaged and cannot be set aside: {error.strerror}"
            ) from error
        return aside


class _Damaged(Exception):
    """The file is none of ours; the message says why."""


def elapsed(kept: StateFile, moment: Moment) -> tuple[float, str]:
    """Return the seconds since a file was saved, and what is doubtful about that, or ""."""
    if kept.boot_id and kept.boot_id == moment.boot_id:
        return max(0.0, (moment.boot_ns - kept.saved_boot_ns) / 1e9), ""
    since = (moment.wall_ns - kept.saved_wall_ns) / 1e9
    if moment.wall_ns < EARLIEST_NS or since < 0:
        return 0.0, "the clock is behind the state file: decisions go on with all the time they had"
    if since > LONGEST_S:
        years = since / (365 * 86_400)
        return 0.0, (
            f"the clock says {years:.0f} years have passed since decisions were saved: not "
            "believed, they go on with all the time they had"
        )
    return since, ""
