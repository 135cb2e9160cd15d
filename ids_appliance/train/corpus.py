"""Labelled captures or their tables in, packet records with label, family and origin out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.errors import LabelError
from ids_appliance.train.extract import CUT_SHARE, WRONG, FileReport, content_sha256
from ids_appliance.train.labels import Label
from ids_appliance.train.parts import INDEX, Part, Reader, read_index
from ids_appliance.train.readers import catalogue
from ids_appliance.train.sampling import spread
from ids_appliance.types import U8, U16

__all__ = ["CUT_SHARE", "Corpus", "FileReport", "content_sha256", "find_parts", "read_corpus"]

AT_ONCE: Final = 8_000_000
"""Packets that are read into memory at most, 1 GB of records; of more, some can be drawn."""

Packets = tuple[U16, U8, U8]
"""Rows, labels, and the family as an index into a reader's families."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Packets that can be judged, in the order of the labels and of the files."""

    rows: U16
    """(n, 68) packet records, or of fewer columns (`narrow`)."""
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

    def narrow(self, columns: int) -> "Corpus":
        """Return only the first so many columns of the records."""
        return replace(self, rows=np.ascontiguousarray(self.rows[:, :columns]))

    def select(self, which: npt.NDArray[Any]) -> "Corpus":
        """Return only the packets that a mask or an index array names."""
        return replace(
            self,
            rows=self.rows[which],
            labels=self.labels[which],
            family=self.family[which],
            file=self.file[which],
        )


class Gatherer:
    """Puts the packets of one file after another into a corpus."""

    def __init__(self) -> None:
        self._families: dict[str, int] = {}
        self._packets: list[tuple[U16, U8, U8, U16]] = []
        self._reports: list[FileReport] = []
        self._rows = 0

    def add(self, report: FileReport, families: Sequence[str], packets: Packets | None) -> None:
        """Add one file; packets: None if it gives none.

        Raises LabelError past 65,535 files or AT_ONCE packets.
        """
        if len(self._reports) == np.iinfo(np.uint16).max:
            raise LabelError("more than 65,535 captures: merge some, or leave some out")
        if packets is not None:
            rows, labels, family = packets
            self._rows += len(rows)
            if self._rows > AT_ONCE:
                raise LabelError(
                    f"more than {AT_ONCE:,} packets do not fit into memory: draw some of them, as "
                    "`train` does with --rows 300000 and `evaluate` with --max-per-capture 3000"
                )
            place = [self._families.setdefault(n, len(self._families)) for n in families]
            file = np.full(len(rows), len(self._reports), np.uint16)
            self._packets.append((rows, labels, np.array(place, np.uint8)[family], file))
        self._reports.append(report)

    def corpus(self, root: Path) -> Corpus:
        """Return it all. Raises LabelError if no file gave a packet."""
        if not self._packets:
            raise LabelError(f"{root} holds no capture that can be used")
        rows, labels, family, file = (
            np.concatenate(column) for column in zip(*self._packets, strict=True)
        )
        return Corpus(rows, labels, family, file, tuple(self._families), tuple(self._reports))


def find_parts(root: Path, *, on_error: str = "skip") -> list[Part]:
    """Return what there is to read in a directory of captures, or of tables made from them.

    on_error: as for `readers.catalogue`. Raises LabelError if it is neither.
    """
    if (root / INDEX).is_file():
        return read_index(root)
    return [Part(root, entry) for entry in catalogue(root, on_error=on_error).entries]


def read_corpus(
    root: Path,
    *,
    leave_out: Sequence[str] = (),
    on_error: str = "skip",
    keep_cut: bool = False,
    most: int = 0,
    progress: Callable[[str], None] = lambda file: None,
) -> Corpus:
    """Read every packet of a directory of captures, or of tables, into memory.

    leave_out: patterns of files, origins or repositories not to read. on_error: "stop" raises for
    wrong labels and for a missing, damaged or changed file, "skip" uses what can be read and says
    so in the report. keep_cut: also use captures whose payload was cut away. most: ordinary and
    malicious packets of each capture that are kept, evenly spread, and none else; 0: all packets.
    progress: called before each file. Raises LabelError for labels that are not usable, or if
    nothing is left.
    """
    gathered = Gatherer()
    for part in find_parts(root, on_error=on_error):
        progress(part.entry.file)
        reader = left_out(part, leave_out) or part.open()
        if isinstance(reader, FileReport):
            stop_if_wrong(reader, on_error)
            gathered.add(reader, (), None)
            continue
        report, packets = _read(reader, keep_cut, most)
        stop_if_wrong(report, on_error)
        gathered.add(report, reader.families, packets)
    return gathered.corpus(root)


def left_out(part: Part, patterns: Sequence[str]) -> FileReport | None:
    """Return the report of a file that a pattern says not to read."""
    entry = part.entry
    for pattern in patterns:
        if any(fnmatch(name, pattern) for name in (entry.file, entry.group, entry.repo)):
            return FileReport(entry, "skipped", f"left out by {pattern!r}")
    return None


def stop_if_wrong(report: FileReport, on_error: str) -> None:
    """Raise LabelError for a file that is not as its labels say, if on_error is "stop"."""
    if on_error == "stop" and report.status in WRONG:
        raise LabelError(f"{report.entry.file} is {report.status}: {report.detail}")


def _read(reader: Reader, keep_cut: bool, most: int) -> tuple[FileReport, Packets | None]:
    chunks = [(c.rows, c.labels, c.family) for c in reader.chunks()]
    report = reader.report()
    if not chunks or (report.status == "cut" and not keep_cut):
        return report, None
    rows, labels, family = (np.concatenate(column) for column in zip(*chunks, strict=True))
    if most:
        kept = spread(np.zeros(len(labels), np.uint8), labels <= Label.MALICIOUS, most)
        rows, labels, family = rows[kept], labels[kept], family[kept]
    return report, (rows, labels, family)
