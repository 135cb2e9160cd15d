"""One capture in, its feature tables in a directory out, and back; what is finished is kept.

A directory of tables holds `tables.json` (which captures, in which order) and for each capture
`STEM.json` (what became of it) and `STEM-0000.parquet`, `STEM-0001.parquet` ...: a new table begins
every `piece_frames` frames, so that a restart loses that much at most. The stem ends in the digest
of what decides a table besides the capture's own bytes: record, labels, cut into tables. The
capture's bytes are known by size and time of change, and where only the time differs by SHA-256.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from ids_appliance.errors import TableError
from ids_appliance.schema import RECORD_HASH
from ids_appliance.train.extract import (
    CaptureReader,
    Chunk,
    Counted,
    FileReport,
    content_sha256,
    hopeless,
)
from ids_appliance.train.labels import Entry, Label
from ids_appliance.train.tables import (
    TABLE_VERSION,
    TableWriter,
    about_table,
    read_table,
    unfinished,
)

PIECE_FRAMES: Final = 1 << 22
INDEX: Final = "tables.json"
_REPORTED: Final = ("status", "detail", "frames", "judged", "sha256")


class Reader(Protocol):
    """Streams one capture's packets, from the capture or from its tables."""

    families: tuple[str, ...]

    def chunks(self) -> Iterator[Chunk]:
        """Yield the packets in the capture's order."""

    def report(self) -> FileReport:
        """Say what became of the file, once `chunks` has come to its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a corpus, wherever it is to be read from; travels to other processes."""

    root: Path
    """Directory of the captures, or of the tables."""
    entry: Entry
    stem: str = ""
    """Of its tables; empty: the capture itself is read."""

    def open(self) -> Reader | FileReport:
        """Return a reader, or the report of a file that there is nothing to read from."""
        if not self.stem:
            return hopeless(self.root, self.entry) or CaptureReader(self.root, self.entry)
        if self.entry.problem or self.entry.kind != "pcap":
            return hopeless(self.root, self.entry) or FileReport(self.entry, "skipped", "")
        state = _State.read(self.root, self.stem)
        if state is None or state.report is None:
            return FileReport(self.entry, "missing", "not extracted to its end yet")
        return _TablesReader(self, state)


@dataclass(frozen=True, slots=True)
class Job:
    """One capture to extract."""

    root: Path
    entry: Entry
    tables: Path
    piece_frames: int = PIECE_FRAMES

    @property
    def stem(self) -> str:
        """Name of the capture's tables, the same wherever the captures lie."""
        entry = asdict(self.entry) | {"default": self.entry.default.name}
        said = json.dumps(
            [RECORD_HASH.hex(), TABLE_VERSION, self.piece_frames, entry],
            sort_keys=True,
            default=bytes.hex,
        )
        name = re.sub(r"[^\w.-]", "_", self.entry.file)[-60:]
        return f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a job has come to."""

    report: FileReport
    kept: bool = False
    """Its tables were there already."""


@dataclass(slots=True)
class _State:
    """STEM.json: the capture that the tables are of, and how it ended."""

    size: int
    mtime_ns: int
    families: list[str]
    tables: int = 0
    report: dict[str, Any] | None = None
    """None until every table is there."""

    @classmethod
    def read(cls, tables: Path, stem: str) -> "_State | None":
        try:
            raw = json.loads((tables / f"{stem}.json").read_text("utf-8"))
            return cls(**raw)
        except (OSError, ValueError, TypeError):
            # Not there, or cut off by a power failure: then nothing is known, and it is done anew.
            return None

    def write(self, tables: Path, stem: str) -> None:
        replace_text(tables / f"{stem}.json", json.dumps(asdict(self), indent=1, sort_keys=True))

    def told(self, entry: Entry) -> FileReport:
        return FileReport(entry, **(self.report or {}))


class _TablesReader:
    def __init__(self, part: Part, state: _State) -> None:
        self.families = tuple(state.families)
        self._part, self._state = part, state

    def chunks(self) -> Iterator[Chunk]:
        for number in range(self._state.tables):
            path = table_path(self._part.root, self._part.stem, number)
            yield from read_table(path, self.families)

    def report(self) -> FileReport:
        return self._state.told(self._part.entry)


def table_path(tables: Path, stem: str, number: int) -> Path:
    """Return where a capture's table of that number is."""
    return tables / f"{stem}-{number:04}.parquet"


def extract_part(job: Job) -> Extracted:
    """Write the tables of one capture that are not there yet.

    Safe to run again after any death of the process, and twice at once: every file is written under
    a name of its own and renamed, and two runs write the same bytes. Raises TableError if a table
    cannot be written.
    """
    path, old = job.root / job.entry.file, _State.read(job.tables, job.stem)
    bad = hopeless(job.root, job.entry)
    if bad is not None:
        if bad.status == "missing" and old and old.report:
            return Extracted(old.told(job.entry), kept=True)  # captures may be deleted afterwards
        return Extracted(bad)
    now = path.stat()
    there: list[Counted] = []
    if old is not None and _same(old, now, path):
        there = _finished(job)
        if old.report and len(there) == old.tables:
            return Extracted(old.told(job.entry), kept=True)
    reader = CaptureReader(job.root, job.entry)
    state = _State(now.st_size, now.st_mtime_ns, list(reader.families))
    state.write(job.tables, job.stem)
    for table in job.tables.glob(f"{job.stem}-*.parquet"):
        if int(table.stem.rpartition("-")[2]) >= len(there):
            table.unlink(missing_ok=True)
    state.tables = _write_tables(job, reader, there)
    report = reader.report()
    state.report = {name: getattr(report, name) for name in _REPORTED}
    state.write(job.tables, job.stem)
    return Extracted(report)


def _same(state: _State, now: os.stat_result, path: Path) -> bool:
    """Tell whether a capture is still the one that its tables were begun from."""
    if state.size != now.st_size:
        return False
    if state.mtime_ns == now.st_mtime_ns:
        return True
    known = (state.report or {}).get("sha256")
    return bool(known) and known == content_sha256(path)


def _finished(job: Job) -> list[Counted]:
    """Return what was counted by the end of each table that is there, up to the first gap."""
    found: list[Counted] = []
    while (path := table_path(job.tables, job.stem, len(found))).exists():
        try:
            about = about_table(path)
            found.append(Counted(**about["counted"]))
        except (TableError, KeyError, TypeError):
            break  # a table of a crashed disk is written again like one that is not there
    return found


def _write_tables(job: Job, reader: CaptureReader, there: list[Counted]) -> int:
    """Write the tables after those that are there; return how many there are then."""
    number = len(there)
    about = {"capture": job.entry.file, "origin": job.entry.group}
    writer: TableWriter | None = None
    try:
        begun = there[-1].frames if there else 0
        for chunk in reader.chunks(after=there[-1] if there else None):
            path = table_path(job.tables, job.stem, number)
            writer = writer or TableWriter(path, reader.families)
            writer.write(chunk)
            if reader.counted.frames - begun >= job.piece_frames:
                writer.close(about | {"counted": asdict(reader.counted)})
                writer, number, begun = None, number + 1, reader.counted.frames
        if writer is not None:
            writer.close(about | {"counted": asdict(reader.counted)})
            writer, number = None, number + 1
    finally:
        if writer is not None:
            writer.discard()
    return number


def write_index(tables: Path, layout: str, jobs: Sequence[Job]) -> None:
    """Write tables.json: which captures there are, in the order in which they count."""
    files = [
        {
            "file": job.entry.file,
            "stem": job.stem,
            "kind": job.entry.kind,
            "family": job.entry.family,
            "group": job.entry.group,
            "repo": job.entry.repo,
            "problem": job.entry.problem,
        }
        for job in jobs
    ]
    document = {
        "version": TABLE_VERSION,
        "schema": RECORD_HASH.hex(),
        "layout": layout,
        "files": files,
    }
    replace_text(tables / INDEX, json.dumps(document, indent=1))


def read_index(tables: Path) -> list[Part]:
    """Return the parts of a directory of tables.

    Raises TableError: not one, of another version, or of another packet record.
    """
    path = tables / INDEX
    try:
        document = json.loads(path.read_text("utf-8"))
        version, schema = document["version"], document["schema"]
        parts = [
            Part(tables, Entry(**raw, rules=(), default=Label.IGNORE, sha256=""), stem)
            for raw in document["files"]
            for stem in [raw.pop("stem")]
        ]
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"{path} is damaged: extract the captures again") from error
    if version != TABLE_VERSION or schema != RECORD_HASH.hex():
        raise TableError(
            f"{tables} was extracted for another packet record (schema {str(schema)[:12]}, this "
            f"program has {RECORD_HASH.hex()[:12]}): extract the captures again"
        )
    return parts


def replace_text(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    temporary = unfinished(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise TableError(f"cannot write {path}: {error.strerror}") from error
