"""Who called in, files that belong to them out: with sudo the caller, not root, owns a capture."""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

MODE: Final = 0o600
"""A capture holds what people have said to each other."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom new files are given to."""

    uid: int
    gid: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Return who called: behind sudo its caller (sudo(8): SUDO_UID, SUDO_GID), else us."""
        uid, gid = environment.get("SUDO_UID", ""), environment.get("SUDO_GID", "")
        if os.geteuid() == 0 and uid.isdecimal() and gid.isdecimal():
            return cls(int(uid), int(gid))
        return cls(os.geteuid(), os.getegid())

    def give(self, descriptor: int) -> None:
        """Give an open file to the caller. Raises OSError."""
        if (self.uid, self.gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, self.uid, self.gid)

    def give_path(self, path: Path) -> None:
        """Give a file or directory that was just made to the caller. Raises OSError."""
        if (self.uid, self.gid) != (os.geteuid(), os.getegid()):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def create(path: Path, caller: Caller) -> int:
    """Open a new file for writing, locked for as long as it is open. Raises OSError.

    Neither an existing file nor a link is followed, for the directory may be anybody's."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, MODE)
    try:
        # Whoever finds the file unlocked knows that its writer has died.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        caller.give(fd)
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return fd


def abandoned(path: Path) -> bool:
    """Return whether the process that was writing an unfinished file is not there any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)
