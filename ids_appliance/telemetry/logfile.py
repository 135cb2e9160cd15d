"""Whole lines in, files of bounded size and number out; a full disk costs lines, nothing else."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from ids_appliance.errors import EventLogError

_TAIL: Final = 65_536
"""Bytes looked through for the end of the last whole line."""


class LogFile:
    """Append lines to PATH; at the limit PATH becomes PATH.1, PATH.1 becomes PATH.2, and so on.

    `path` None: standard output, never rotated. For one thread at a time.
    """

    def __init__(self, path: Path | None, *, limit_bytes: int, keep: int) -> None:
        self.path = path
        self._limit = limit_bytes
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._torn = False
        self.rotations = 0
        self.problem = ""
        """What went wrong last, for people; empty after a success."""
        try:
            self._open()
        except OSError as error:
            raise EventLogError(
                f"event log {path or 'on standard output'}: {error.strerror or error}; set "
                "events.file to a file in a directory that this user may write to"
            ) from error

    def write(self, lines: bytes) -> int:
        """Append whole lines; return how many bytes of them are kept, always whole lines.

        Never raises OSError: `problem` says what it was."""
        try:
            self._follow()
            if self._fd < 0:
                self._open()
            if self.path is not None and 0 < self._size and self._size + len(lines) > self._limit:
                self._rotate()
        except OSError as error:
            # Not even where only the rotation failed: a file without bounds fills the disk.
            self.problem = error.strerror or str(error)
            return 0
        return self._append(lines)

    def _append(self, lines: bytes) -> int:
        end = b"\n" if self._torn else b""
        data = end + lines
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as error:
            self.problem = error.strerror or str(error)
        else:
            self.problem = ""
        if not done:
            return 0
        whole = data.rfind(b"\n", 0, done) + 1
        if whole < done and self._cut(self._size + whole):
            done = whole
        self._torn = whole < done
        self._size += done
        return max(0, whole - len(end))

    def _cut(self, size: int) -> bool:
        """Remove the torn line at the end; False where that cannot be done."""
        if self.path is None:
            return False
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            return False
        return True

    def reopen(self) -> None:
        """Open PATH anew with the next write: somebody else has moved it away."""
        if self.path is not None:
            self.close()

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1

    def _open(self) -> None:
        if self.path is None:
            self._fd = os.dup(1)
            return
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # O_NONBLOCK: a pipe that nobody reads is refused instead of waited for.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self.path, flags, 0o640)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("not a regular file")
            size = _whole_lines(fd, found.st_size)
            if size < found.st_size:  # the last run ended in the middle of a line
                os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._size, self._torn = fd, size, False

    def _follow(self) -> None:
        """Close the file if PATH names another one now, or none."""
        if self.path is None or self._fd < 0:
            return
        here = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            self.close()
            return
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            self.close()

    def _rotate(self) -> None:
        assert self.path is not None
        for number in range(self._keep, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer if number > 1 else self.path, older)
        self.close()
        self._open()
        self.rotations += 1


def _whole_lines(fd: int, size: int) -> int:
    """Return the size up to the end of the last whole line."""
    start = max(0, size - _TAIL)
    tail = os.pread(fd, size - start, start)
    end = tail.rfind(b"\n") + 1
    return start + end if end or not start else size
