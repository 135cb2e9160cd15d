"""A directory of labelled captures in, packet records with label, family and origin out."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import IdsError, LabelError
from ids_appliance.schema import N_FEATURES
from ids_appliance.train.labels import Entry, Labeller, read_labels
from ids_appliance.types import SENDER, U8, U16, Outcome

CUT_SHARE: Final = 0.1
"""A capture of which more frames than this are cut short has no payload to learn from."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file of labels.json."""

    entry: Entry
    status: str
    """used, skipped, missing, damaged (used as far as it can be read) or cut."""
    detail: str
    frames: int = 0
    judged: int = 0
    sha256: str = ""
    """Of the uncompressed file as it was read."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Packets that can be judged, in the order of labels.json and of the files."""

    rows: U16
    """(n, 60) packet records."""
    labels: U8
    """(n,) of Label."""
    family: U8
    """(n,) index into families."""
    file: U16
    """(n,) index into reports."""
    families: tuple[str, ...]
    reports: tuple[FileReport, ...]

    @property
    def group(self) -> npt.NDArray[np.str_]:
        """(n,) origin of each packet."""
        return np.array([report.entry.group for report in self.reports])[self.file]

    def select(self, which: npt.NDArray[Any]) -> "Corpus":
        """Return only the packets that a mask or an index array names."""
        return replace(
            self,
            rows=self.rows[which],
            labels=self.labels[which],
            family=self.family[which],
            file=self.file[which],
        )


def read_corpus(
    root: Path,
    *,
    leave_out: Sequence[str] = (),
    on_damage: str = "go-on",
    keep_cut: bool = False,
    progress: Callable[[str], None] = lambda file: None,
) -> Corpus:
    """Read every capture of root/labels.json and label its packets.

    leave_out: patterns of files, origins or repositories not to read. on_damage: "stop" raises for
    a missing, damaged or changed file, "go-on" uses what can be read and says so in the report.
    keep_cut: also use captures whose payload was cut away. progress: called before each file.
    Raises LabelError for labels that are not usable, or if nothing is left.
    """
    families: dict[str, int] = {}
    parts: list[tuple[U16, U8, U8, U16]] = []
    reports: list[FileReport] = []
    for entry in read_labels(root / "labels.json"):
        progress(entry.file)
        report, packets = _read_file(root, entry, leave_out, keep_cut)
        if on_damage == "stop" and report.status in ("missing", "damaged"):
            raise LabelError(f"{entry.file} is {report.status}: {report.detail}")
        if packets is not None:
            rows, labels, names, decided = packets
            index = np.array([families.setdefault(n, len(families)) for n in names], np.uint8)
            place = np.full(len(rows), len(reports), np.uint16)
            parts.append((rows, labels, index[decided], place))
        reports.append(report)
    if not parts:
        raise LabelError(f"{root} holds no capture that can be used")
    rows, labels, family, file = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Corpus(rows, labels, family, file, tuple(families), tuple(reports))


def _read_file(
    root: Path, entry: Entry, leave_out: Sequence[str], keep_cut: bool
) -> tuple[FileReport, tuple[U16, U8, tuple[str, ...], U8] | None]:
    if entry.kind != "pcap":
        return FileReport(entry, "skipped", f"{entry.kind} records, not a capture"), None
    for pattern in leave_out:
        if any(fnmatch(name, pattern) for name in (entry.file, entry.group, entry.repo)):
            return FileReport(entry, "skipped", f"left out by {pattern!r}"), None
    path = root / entry.file
    if not path.is_file():
        return FileReport(entry, "missing", "no such file"), None
    try:
        capture = CaptureFile(path)
    except IdsError as error:
        return FileReport(entry, "damaged", str(error)), None
    labeller = Labeller(entry)
    counters = np.zeros(len(COUNTER_NAMES), np.uint64)
    parts: list[tuple[U16, U8, U8]] = []
    frames = cut = 0
    try:
        for batch in capture.batches():
            n = len(batch.frames)
            rows = np.empty((n, N_FEATURES), np.uint16)
            outcomes = np.empty(n, np.uint8)
            extract(
                batch.data,
                batch.frames,
                HostIdentity(),
                rows,
                np.empty(n, SENDER),
                outcomes,
                counters,
            )
            labels, decided = labeller.label(batch)
            judged = outcomes == Outcome.JUDGED
            parts.append((rows[judged], labels[judged], decided[judged]))
            frames += n
            cut += int(np.count_nonzero(batch.frames["caplen"] < batch.frames["wirelen"]))
    finally:
        capture.close()
    if not parts:
        return FileReport(entry, "damaged", capture.problem or "no frame in it"), None
    rows, labels, decided = (np.concatenate(column) for column in zip(*parts, strict=True))
    report = FileReport(entry, "used", "", frames, len(rows), content_sha256(path))
    if capture.problem:
        report = replace(report, status="damaged", detail=capture.problem.rpartition("/")[2])
    elif entry.sha256 and entry.sha256 != report.sha256:
        detail = "its SHA-256 is not the one in labels.json: labels may not fit"
        report = replace(report, status="damaged", detail=detail)
    if cut > CUT_SHARE * frames and not keep_cut:
        detail = f"{cut} of {frames} frames were cut short: no payload to learn from"
        return replace(report, status="cut", detail=detail), None
    return report, (rows, labels, labeller.families, decided)


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
