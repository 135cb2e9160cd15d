"""A capture file in, batches of frames out: pcap or pcapng, plain or gzip, in constant memory."""

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from ids_appliance._capfile import MIN_CHUNK, Splitter
from ids_appliance.errors import CaptureError
from ids_appliance.types import FRAME, U8, FrameBatch

GZIP_MAGIC: Final = b"\x1f\x8b"
_WBITS_GZIP: Final = 31  # zlib: a gzip header and trailer are expected and checked


class _Bytes(Protocol):
    """Something that fills a buffer."""

    damage: str | None
    """What is wrong with the bytes read so far, in words; None if nothing."""

    def fill(self, room: memoryview) -> int:
        """Write at least one byte into `room` (not empty) and return how many; 0 at the end."""


class _Plain:
    """A file's bytes as they are, after those already read from it."""

    def __init__(self, file: io.FileIO, head: bytes) -> None:
        self.damage: str | None = None
        self._file = file
        self._head = memoryview(head)

    def fill(self, room: memoryview) -> int:
        if self._head:
            n = min(len(room), len(self._head))
            room[:n] = self._head[:n]
            self._head = self._head[n:]
            return n
        if self._file.closed:
            return 0
        try:
            return self._file.readinto(room) or 0
        except OSError as error:
            # A disk or a network file system that fails under way: what was read still counts.
            self.damage = f"cannot be read on ({error.strerror})"
            return 0


class _Gunzip:
    """The decompressed bytes of another reader's; several gzip members are one stream (RFC 1952).

    Memory: one read of `step` bytes and what they decompress to, taken in pieces of the room.
    """

    def __init__(self, inner: _Bytes, *, step: int = 1 << 16) -> None:
        self.damage: str | None = None
        self.corrupt = False
        self._inner = inner
        self._buffer = memoryview(bytearray(step))
        self._input: bytes = b""
        self._member = zlib.decompressobj(_WBITS_GZIP)
        self._inside = True  # a member, not between two
        self._more = False  # the member may have output without further input

    def fill(self, room: memoryview) -> int:
        while self.damage is None:
            if not self._input and not self._more:
                n = self._inner.fill(self._buffer)
                self.damage = self._inner.damage
                if n == 0:
                    if self._inside and not self.damage:
                        self.damage = "ends in the middle of its gzip data"
                    return 0
                self._input = bytes(self._buffer[:n])
            if not self._inside:
                # Between members: zeros are padding (tapes, some writers), all else must be gzip.
                self._input = self._input.lstrip(b"\0")
                if not self._input:
                    continue
                self._inside = True
            try:
                data = self._member.decompress(self._input, len(room))
            except zlib.error:
                self.damage = "has damaged gzip data"
                self.corrupt = True
                return 0
            self._input = self._member.unconsumed_tail
            self._more = len(data) == len(room)
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = zlib.decompressobj(_WBITS_GZIP)
                self._inside = self._more = False
            if data:
                room[: len(data)] = data
                return len(data)
        return 0


class CaptureFile:
    """A `Source` of a file's frames, in the file's order; implements `types.Source`.

    path: a file, a FIFO, or "-" for standard input; pcap or pcapng, told by its first bytes, plain
    or gzip, likewise. chunk_bytes: what is read at a time, raised to 512 KiB where it is less.
    Raises CaptureError: not there, no permission, a directory, not a capture, cut off inside its
    header. A file that is damaged further on is no error: the frames before the damage are
    delivered, `problem` says what happened and a counter goes up.
    """

    def __init__(
        self, path: str | Path, *, chunk_bytes: int = 1 << 20, batch_frames: int = 4096
    ) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.problem: str | None = None
        """One line for people if the file ended early; final once `batches` has ended."""
        self._file = self._open(path)
        self._splitter = Splitter()
        self._room: U8 = np.empty(max(chunk_bytes, MIN_CHUNK), np.uint8)
        self._frames = np.empty(max(batch_frames, 1), FRAME)
        self._start = self._filled = 0
        self._bytes_read = 0
        self._ended = False
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _open(self, path: str | Path) -> io.FileIO:
        try:
            if str(path) == "-":
                return io.FileIO(0, closefd=False)
            if os.path.isdir(path):
                raise CaptureError(f"{self.name} is a directory: name a capture file in it")
            return io.FileIO(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CaptureError(f"{self.name} cannot be opened: {reason}") from error

    def _begin(self) -> None:
        head = bytearray()
        while len(head) < 2:
            try:
                more = self._file.read(2 - len(head))
            except OSError as error:
                raise CaptureError(f"{self.name} cannot be read: {error.strerror}") from error
            if not more:
                break
            head += more
        self._input: _Bytes = _Plain(self._file, bytes(head))
        if head == GZIP_MAGIC:
            self._input = _Gunzip(self._input)
        while self._splitter.recognised is None and self._fill():
            self._start = self._splitter.recognise(self._room[: self._filled])
        if self._splitter.recognised:
            return
        if self._filled == 0 and self._input.damage is None:
            raise CaptureError(f"{self.name} is empty: a capture has at least a header")
        if self._splitter.recognised is None:
            why = self._input.damage or "is cut off inside its header"
            raise CaptureError(f"{self.name} {why}: no frame can be read from it")
        raise CaptureError(f"{self.name} is not a pcap or pcapng capture (nor one inside gzip)")

    def _fill(self) -> bool:
        """Move what is left to the front and read on; False at the end of the input."""
        left = self._filled - self._start
        if self._start:
            self._room[:left] = self._room[self._start : self._filled]
            self._start, self._filled = 0, left
        n = self._input.fill(self._room[left:].data)
        self._filled += n
        self._bytes_read += n
        return n > 0

    def batches(self) -> Iterator[FrameBatch]:
        """Yield batches of at most `batch_frames` frames, each valid until the next is asked for.

        A second call goes on where the first has stopped. The file is closed at its end.
        """
        while not self._file.closed and not self._ended:
            n, consumed = self._splitter.split(self._room[self._start : self._filled], self._frames)
            if n:
                begin = self._start
                self._start += consumed
                yield FrameBatch(self._room[begin : self._filled], self._frames[:n])
                continue
            self._start += consumed
            if self._splitter.ended:
                self._finish()
            elif not self._fill() and not self._file.closed:
                self._finish()

    def _finish(self) -> None:
        nonsense = self._splitter.ended
        self._splitter.finish(self._filled - self._start)
        self._ended = True
        self._file.close()
        after = f"after frame {self._splitter.frames}"
        if self._input.damage:
            self.problem = f"{self.name} {self._input.damage} {after}"
        elif nonsense:
            self.problem = f"{self.name} has a record that makes no sense {after}: ended there"
        elif self._splitter.counters()["truncated_file"]:
            self.problem = f"{self.name} ends in the middle of a record {after}"

    def counters(self) -> dict[str, int]:
        """Return totals by name: `delivered` frames, `bytes_read` (decompressed), the faults
        `truncated_file`, `corrupt_gzip`, `bad_record` (0 or 1 each), `unknown_interface` frames,
        and `skipped_blocks` of pcapng that hold no frame."""
        totals = self._splitter.counters()
        corrupt = isinstance(self._input, _Gunzip) and self._input.corrupt
        totals["corrupt_gzip"] = int(corrupt)
        if self._input.damage and not corrupt:
            totals["truncated_file"] = 1
        totals["bytes_read"] = self._bytes_read
        return totals

    def close(self) -> None:
        """Release the file; `batches` then ends. Safe to call twice."""
        self._file.close()
