"""Records in, one capture file out: complete under its name, or not there at all."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ids_appliance.errors import CaptureError
from ids_appliance.monitor.ownership import Caller, abandoned, create
from ids_appliance.monitor.stream import Records


class OneFile:
    """Writes to a temporary name beside `path` and renames it when it is complete."""

    def __init__(self, path: Path, caller: Caller) -> None:
        """Raises CaptureError: nothing can be written there."""
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        if path.is_dir():
            raise CaptureError(f"{path} is a directory: name a file in it")
        try:
            for left in path.parent.glob(f".{_literal(path.name)}.*.part"):
                if abandoned(left):  # by one that was killed
                    left.unlink()
            self._fd = create(self._part, caller)
        except OSError as error:
            raise CaptureError(f"cannot write {path}: {error.strerror}") from error
        self._digest = hashlib.sha256()
        self._size = 0
        self._kept = False
        self.frames = 0
        self.discarded = 0
        """Frames that came after the disk was full."""
        self.problem = ""
        """Why no more can be written, for people; empty while it can."""

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._size

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._digest.hexdigest()

    def put(self, stream: Records, records: bytes, ends: Sequence[int]) -> None:
        """Write whole records; once the disk takes no more, count them."""
        data = records if self._size else stream.head + records
        if self.problem or not self._write(data):
            self.discarded += len(ends)
            return
        self.frames += len(ends)

    def begin(self, stream: Records) -> None:
        """Write the file header, so that a capture without frames is one, too."""
        if not self._size and not self.problem:
            self._write(stream.head)

    def tick(self) -> None:
        """Nothing happens by itself."""

    def _write(self, data: bytes) -> bool:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as error:
            self.problem = error.strerror or str(error)
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)  # what ends in the middle of a frame is damaged
                os.lseek(self._fd, self._size, os.SEEK_SET)
            return False
        self._digest.update(data)
        self._size += len(data)
        return True

    def finish(self) -> None:
        """Give it its name. Raises CaptureError: the disk refuses at the last moment."""
        try:
            os.fsync(self._fd)
            os.replace(self._part, self.path)
        except OSError as error:
            raise CaptureError(f"cannot finish {self.path}: {error.strerror}") from error
        self._kept = True

    def close(self) -> None:
        """Remove what is not finished; safe to call twice."""
        if not self._kept:
            with contextlib.suppress(OSError):
                self._part.unlink()
            self._kept = True
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _literal(name: str) -> str:
    """Return a name for glob that means itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
