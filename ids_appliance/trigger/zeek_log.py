"""A file that another process appends to in, its whole lines out: Zeek's trigger log.

Followed through rotation (another file has the name), truncation (Zeek starts anew and empties it)
and absence. What is in it is not trusted: a line, what is read at a time and how far behind a
reader may fall are bounded; nothing but a regular file is read, so that nothing can block.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_LINE: Final = 4096
"""Bytes of a line; a longer one is passed over, counted."""
MAX_READ: Final = 65_536
"""Bytes read at a time."""
MAX_BEHIND: Final = 1 << 20
"""Bytes unread from which on the oldest are given up: late triggers are worth nothing."""

MAX_COUNT: Final = 2**63 - 1


class LogTail:
    """Follow a file from its present end on; a file that appears later from its start on.

    Not for several threads. No method raises OSError: a file that cannot be read is absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._at = 0
        self._rest = b""
        self._passing_over = False
        self._first = True
        self.counts = dict.fromkeys(
            ("zeek_log_opened", "zeek_log_truncated", "zeek_lines_too_long", "zeek_bytes_given_up"),
            0,
        )

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that have come since the last call, at most MAX_READ bytes."""
        if self._fd < 0:
            self._open()
        data = self._read()
        # Only once all of the old file is read the new one's turn has come.
        if not data and self._replaced():
            self.close()
            self._open()
            data = self._read()
        yield from self._whole(data)

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._at, self._rest, self._passing_over = -1, 0, b"", False

    def _open(self) -> None:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        first, self._first = self._first, False
        try:
            fd = os.open(self._path, flags)
        except OSError:
            return
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            return
        self._fd = fd
        self.counts["zeek_log_opened"] += 1
        if first:  # what was there before us is over
            self._at = found.st_size
            self._passing_over = self._at > 0 and os.pread(fd, 1, self._at - 1) != b"\n"

    def _replaced(self) -> bool:
        if self._fd < 0:
            return False
        with contextlib.suppress(OSError):
            ours, named = os.fstat(self._fd), os.stat(self._path, follow_symlinks=False)
            return (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino)
        return False  # between two files: the next look will tell

    def _read(self) -> bytes:
        if self._fd < 0:
            return b""
        try:
            size = os.fstat(self._fd).st_size
            if size < self._at:
                self.counts["zeek_log_truncated"] += 1
                self._at, self._rest, self._passing_over = 0, b"", False
            if size - self._at > MAX_BEHIND:
                given_up = size - self._at - MAX_READ
                # A file's size is what its writer says it is, up to 2^63 - 1 each time.
                total = self.counts["zeek_bytes_given_up"] + given_up
                self.counts["zeek_bytes_given_up"] = min(total, MAX_COUNT)
                self._at, self._rest, self._passing_over = self._at + given_up, b"", True
            data = os.pread(self._fd, MAX_READ, self._at)
        except OSError:
            self.close()
            return b""
        self._at += len(data)
        return data

    def _whole(self, data: bytes) -> Iterator[bytes]:
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            if self._passing_over or len(line) > MAX_LINE:
                self.counts["zeek_lines_too_long"] += not self._passing_over
                self._passing_over = False
            elif line:
                yield line
        if len(rest) > MAX_LINE:
            self.counts["zeek_lines_too_long"] += not self._passing_over
            rest, self._passing_over = b"", True
        self._rest = rest
