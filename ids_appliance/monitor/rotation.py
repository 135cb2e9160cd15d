"""Records in, a ring of finished capture files out: bounded in size, age and number.

A file is NAME-NUMBER-TIME.pcap, TIME that of its first frame (UTC); unfinished it ends in .part.
When the disk runs short the ring shrinks: the oldest files give way early, and where none is left
frames are counted instead of written, until there is room again. Both are told, once an episode.
"""

import bisect
import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from ids_appliance.errors import CaptureError
from ids_appliance.monitor.checksums import Checksums, sha256
from ids_appliance.monitor.ownership import Caller, create
from ids_appliance.monitor.salvage import salvage
from ids_appliance.monitor.stream import HEAD_BYTES, Records

SMALLEST_BYTES: Final = 1 << 20
"""On a full disk a file is finished at this size already, so that it can give way to the next."""


class Tell(Protocol):
    """Takes an event: what happened, for people, and figures."""

    def __call__(self, what: str, detail: str, **figures: int | str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a ring keeps."""

    file_bytes: int
    files: int
    every_s: float
    """0: no limit of age."""
    keep_free_bytes: int


class Ring:
    """The capture files of one interface in one directory."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        limits: Limits,
        caller: Caller,
        tell: Tell,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds that only grow. Finishes what a killed capture has left.

        Raises CaptureError: another capture writes there, or nothing can be written."""
        self._name = re.sub(r"[^\w.]", "_", name)
        self._limits = limits
        self._caller = caller
        self._tell = tell
        self._clock = clock
        self.directory = directory
        self.frames = self.discarded = self.size = 0
        """Frames written, frames that found no room, bytes of all finished files ever."""
        self.finished = self.gave_way = 0
        """Files finished; files that gave way to a full disk, not to the ring's own limits."""
        self._fd = -1
        self._digest = hashlib.sha256()
        self._bytes = self._frames = 0
        self._began = 0.0
        self._first_ns = 0
        self._short = self._discarding = False
        self._told_discarded = 0
        try:
            self._open()
        except OSError as error:
            raise CaptureError(f"cannot write in {directory}: {error.strerror}") from error

    def _open(self) -> None:
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o750, parents=True)
            self._caller.give_path(self.directory)
        self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise CaptureError(
                f"another capture writes into {self.directory}: give this one its own directory"
            ) from None
        self._sums = Checksums(self.directory, self._caller)
        for part in self.directory.glob(f"{self._name}-*.pcap.part"):
            if (kept := salvage(part)) is not None:
                self._sums.set(kept.name, sha256(kept))
        form = re.compile(re.escape(self._name) + r"-(\d{6,})-\d{8}T\d{6}Z\.pcap")
        found = [p for p in self.directory.iterdir() if form.fullmatch(p.name)]
        # By number, which may have grown a digit.
        number = {p: int(form.fullmatch(p.name)[1]) for p in found}  # type: ignore[index]
        self._files = sorted(found, key=number.__getitem__)
        self._number = max(number.values(), default=0)
        for path in self._files:
            if path.name not in self._sums.lines:
                self._sums.set(path.name, sha256(path))
        for gone in self._sums.lines.keys() - {path.name for path in self._files}:
            if form.fullmatch(gone):
                self._sums.drop(gone)
        self._trim()
        self._save()

    def begin(self, stream: Records) -> None:
        """Take records of a stream from now on; a file has one header only."""
        self._finish()

    def put(self, stream: Records, records: bytes, ends: Sequence[int]) -> None:
        """Write whole records, each in one file."""
        self.tick()
        done = at = 0
        while done < len(ends):
            room = self._limits.file_bytes - self._bytes
            if self._bytes == 0:
                room -= HEAD_BYTES
            # At least one: a frame greater than a file has a file of its own.
            upto = max(bisect.bisect_right(ends, at + room), done + (self._frames == 0))
            if upto > done:
                self._write(stream, records[at : ends[upto - 1]], upto - done)
                at = ends[upto - 1]
                done = upto
            if done < len(ends) or self._bytes >= self._limits.file_bytes:
                self._finish()

    def tick(self) -> None:
        """Finish a file that is old enough."""
        age = self._limits.every_s
        if age and self._frames and self._clock() - self._began >= age:
            self._finish()

    def finish(self) -> None:
        """Finish the present file."""
        self._finish()
        self._report_discarded()

    def close(self) -> None:
        """Finish, and let others write into the directory; safe to call twice."""
        if self._lock >= 0:
            self.finish()
            os.close(self._lock)
        self._lock = -1

    def _part(self) -> Path:
        when = datetime.fromtimestamp(self._first_ns // 10**9, UTC)
        return self.directory / f"{self._name}-{self._number:06d}-{when:%Y%m%dT%H%M%SZ}.pcap.part"

    def _write(self, stream: Records, records: bytes, frames: int) -> None:
        while True:
            if not self._room(len(records)):
                self._discard(frames, "as much room as others are left")
                return
            try:
                self._append(stream, records)
                break
            except OSError as error:
                why = error.strerror or str(error)
                if not self._give_way(why):
                    self._discard(frames, why)
                    return
        self._frames += frames
        self.frames += frames
        self._report_discarded()

    def _append(self, stream: Records, records: bytes) -> None:
        """Write all of it to the present file, or nothing. Raises OSError."""
        if self._fd < 0:
            self._first_ns = stream.time_ns(records)
            self._number += 1
            self._fd = create(self._part(), self._caller)
            self._began = self._clock()
        data = records if self._bytes else stream.head + records
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError:
            os.ftruncate(self._fd, self._bytes)  # half a frame would damage the file
            os.lseek(self._fd, self._bytes, os.SEEK_SET)
            raise
        self._digest.update(data)
        self._bytes += len(data)

    def _room(self, wanted: int) -> bool:
        """Make room on the disk; False where there is too little even without old files."""
        while (free := self._free()) < self._limits.keep_free_bytes + wanted:
            if not self._give_way(f"{free >> 20} MiB are free"):
                return False
        # One file's room comes and goes while the disk is full: that is no end of it.
        enough = 2 * self._limits.keep_free_bytes + 4 * self._limits.file_bytes
        if self._short and (free > enough or len(self._files) >= self._limits.files):
            self._short = False
            self._tell("capture_ring_grows", "the disk has room again: the ring grows to its size")
        return True

    def _free(self) -> int:
        disk = os.statvfs(self._lock)
        return disk.f_bavail * disk.f_frsize

    def _give_way(self, why: str) -> bool:
        """Remove the oldest file, or finish the present one so that it can; False: none left."""
        if not self._files and self._bytes >= min(SMALLEST_BYTES, self._limits.file_bytes):
            self._finish()
        if not self._files:
            return False
        self._remove(self._files.pop(0))
        self.gave_way += 1
        if not self._short:
            self._short = True
            self._tell(
                "capture_ring_shrinks",
                f"the disk of {self.directory} is short of room ({why}): old captures give way",
                files=len(self._files),
            )
        return True

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
        self._sums.drop(path.name)

    def _discard(self, frames: int, why: str) -> None:
        self.discarded += frames
        if not self._discarding:
            self._discarding = True
            self._tell(
                "capture_discards",
                f"no room in {self.directory} ({why}): frames are counted, not kept",
            )

    def _report_discarded(self) -> None:
        lost = self.discarded - self._told_discarded
        if lost:
            self._told_discarded = self.discarded
            self._discarding = False
            self._tell("capture_discarded", f"{lost} frames found no room on the disk", frames=lost)

    def _finish(self) -> None:
        if self._fd < 0:
            return
        part = self._part()
        os.close(self._fd)
        self._fd = -1
        if self._frames:
            whole = part.with_suffix("")
            os.replace(part, whole)
            self._files.append(whole)
            self._sums.set(whole.name, self._digest.hexdigest())
            self.finished += 1
            self.size += self._bytes
        else:
            part.unlink()
        self._digest = hashlib.sha256()
        self._bytes = self._frames = 0
        self._trim()
        self._save()

    def _trim(self) -> None:
        while len(self._files) > self._limits.files:
            self._remove(self._files.pop(0))

    def _save(self) -> None:
        try:
            self._sums.save()
        except OSError as error:
            # The captures are worth more than their list, which the next file's end brings anew.
            self._tell("capture_checksums", f"SHA256SUMS cannot be written: {error.strerror}")
