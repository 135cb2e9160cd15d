"""One labelled capture in, its packets as chunks of records with labels out, in constant memory."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import IdsError
from ids_appliance.schema import N_COLUMNS
from ids_appliance.train.labels import Entry, Labeller
from ids_appliance.types import SENDER, U8, U16, U64, Outcome

CUT_SHARE: Final = 0.1
"""A capture of which more frames than this are cut short has no payload to learn from."""

WRONG: Final = ("missing", "damaged", "mislabelled")
"""Statuses of a file that is not what its labels say it is."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file of a corpus."""

    entry: Entry
    status: str
    """used, skipped, missing, damaged (used as far as it can be read), cut, or mislabelled (its
    labels cannot be used)."""
    detail: str
    frames: int = 0
    judged: int = 0
    sha256: str = ""
    """Of the uncompressed file as it was read."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive packets of one capture that can be judged."""

    rows: U16
    """(n, 68) packet records."""
    labels: U8
    """(n,) of Label."""
    family: U8
    """(n,) index into the families of where the chunk comes from."""
    frames: U64
    """(n,) number of the frame in its capture, the first is 0."""

    def select(self, which: Any) -> "Chunk":
        """Return the packets that a slice (no copy), a mask or an index array names."""
        return Chunk(self.rows[which], self.labels[which], self.family[which], self.frames[which])


def hopeless(root: Path, entry: Entry) -> FileReport | None:
    """Return the report of a file that no packet can be read from, for what its entry says."""
    if entry.problem:
        return FileReport(entry, "mislabelled", entry.problem)
    if entry.kind != "pcap":
        return FileReport(entry, "skipped", f"{entry.kind} records, not a capture")
    if not (root / entry.file).is_file():
        return FileReport(entry, "missing", "no such file")
    return None


@dataclass(frozen=True, slots=True)
class Counted:
    """How far a capture has been read."""

    frames: int
    judged: int
    cut: int
    """Frames captured in part only."""


class CaptureReader:
    """Reads one capture once: `chunks` to its end, then `report`."""

    def __init__(self, root: Path, entry: Entry) -> None:
        labeller = Labeller(entry)
        self.families: tuple[str, ...] = tuple(dict.fromkeys(labeller.families))
        """Names of what `Chunk.family` numbers."""
        self.counted = Counted(0, 0, 0)
        self._entry, self._path, self._labeller = entry, root / entry.file, labeller
        self._place = np.array([self.families.index(n) for n in labeller.families], np.uint8)
        self._problem = ""

    def chunks(self, *, after: Counted | None = None) -> Iterator[Chunk]:
        """Yield the packets, at most some thousand at a time.

        after: what `counted` was after a chunk; the packets up to that one are read over, fast.
        """
        try:
            capture = CaptureFile(self._path)
        except IdsError as error:
            self._problem = str(error)
            return
        faults = np.zeros(len(COUNTER_NAMES), np.uint64)
        at = 0
        try:
            for batch in capture.batches():
                n = len(batch.frames)
                at += n
                if after is not None and at <= after.frames:
                    if at == n:
                        self._labeller.label(batch)  # times in rules count from the first frame
                    self.counted = after
                    continue
                rows = np.empty((n, N_COLUMNS), np.uint16)
                outcomes = np.empty(n, np.uint8)
                extract(
                    batch.data,
                    batch.frames,
                    HostIdentity(),
                    rows,
                    np.empty(n, SENDER),
                    outcomes,
                    faults,
                )
                labels, decided = self._labeller.label(batch)
                judged = np.flatnonzero(outcomes == Outcome.JUDGED)
                numbers = (at - n + judged).astype(np.uint64)
                cut = int(np.count_nonzero(batch.frames["caplen"] < batch.frames["wirelen"]))
                was = self.counted
                self.counted = Counted(at, was.judged + len(judged), was.cut + cut)
                yield Chunk(rows[judged], labels[judged], self._place[decided[judged]], numbers)
            self._problem = capture.problem or ""
        finally:
            capture.close()

    def report(self) -> FileReport:
        """Say what became of the file, once `chunks` has come to its end."""
        entry, counted = self._entry, self.counted
        if not counted.frames:
            detail = _without_path(self._problem, self._path) or "no frame in it"
            return FileReport(entry, "damaged", detail)
        sha256 = content_sha256(self._path)
        report = FileReport(entry, "used", "", counted.frames, counted.judged, sha256)
        if self._problem:
            report = replace(
                report, status="damaged", detail=_without_path(self._problem, self._path)
            )
        elif entry.sha256 and entry.sha256 != sha256:
            detail = "its SHA-256 is not the one in labels.json: labels may not fit"
            report = replace(report, status="damaged", detail=detail)
        if counted.cut > CUT_SHARE * counted.frames:
            detail = f"{counted.cut} of {counted.frames} frames were cut short: no payload in them"
            report = replace(report, status="cut", detail=detail)
        return report


def _without_path(problem: str, path: Path) -> str:
    # Reports travel in cards: where the data lay on this machine is nobody's business.
    return problem.replace(str(path), path.name)


def content_sha256(path: Path) -> str:
    """Return the SHA-256 of a capture, decompressed; "" where it cannot be read to its end."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (OSError, EOFError, zlib.error):
        return ""
    return digest.hexdigest()
