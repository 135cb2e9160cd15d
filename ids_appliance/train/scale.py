"""A corpus of any size in, its tables out, by one process or by a cluster: the bytes are the same.

Memory: a process holds some thousand packets and one row group of a table, whatever the corpus.
"""

import fcntl
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ids_appliance.errors import ClusterError, TableError
from ids_appliance.train.corpus import left_out, stop_if_wrong
from ids_appliance.train.extract import FileReport
from ids_appliance.train.parts import (
    INDEX,
    PIECE_FRAMES,
    Extracted,
    Job,
    Part,
    extract_part,
    read_index,
    write_index,
)
from ids_appliance.train.readers import Catalogue
from ids_appliance.train.tables import clear_unfinished

J = TypeVar("J")
R = TypeVar("R")


class Workers(Protocol):
    """Whoever does jobs that know nothing of each other."""

    def run(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[int, R]]:
        """Yield (place in jobs, result) in the order in which they are done."""


class Alone:
    """This process does one job after the other."""

    def run(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[int, R]]:
        for place, job in enumerate(jobs):
            yield place, function(job)


def open_workers(dask: str | None) -> AbstractContextManager[Workers]:
    """Return who does the work, for a `with`.

    dask: None for this process, "local:N" for N worker processes on this machine, or the address of
    a Dask scheduler; its workers see the same directories under the same names and run the same
    versions. Raises ClusterError.
    """
    if dask is None:
        return nullcontext(Alone())
    try:
        cluster = importlib.import_module("ids_appliance.train.cluster")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ids_appliance"):
            raise
        raise ClusterError(
            f"--dask needs {error.name}, which is not installed here: "
            f"{sys.executable} -m pip install 'ids-appliance[cluster]'"
        ) from error
    opened: AbstractContextManager[Workers] = cluster.connect(dask)
    return opened


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an extraction is asked for."""

    catalogue: Catalogue
    tables: Path
    on_error: str = "stop"
    leave_out: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    """Only captures of these; empty: all."""
    piece_frames: int = PIECE_FRAMES


def extract_corpus(
    asked: Extraction,
    workers: Workers,
    *,
    progress: Callable[[Extracted], None] = lambda done: None,
) -> list[FileReport]:
    """Write the tables that are not there yet; return what became of every file, in order.

    progress: called as each file is done. Raises LabelError at the first file that is not as its
    labels say if on_error is "stop" (what is finished stays), TableError if tables cannot be
    written, or another run is writing to the directory.
    """
    root, tables = asked.catalogue.root.resolve(), asked.tables.resolve()
    jobs = [Job(root, entry, tables, asked.piece_frames) for entry in asked.catalogue.entries]
    with _held(tables):
        if (tables / INDEX).exists():
            read_index(tables)  # another packet record's tables are not mixed with ours
        clear_unfinished(tables)
        reports = [_not_wanted(asked, job) for job in jobs]
        wanted = [place for place, report in enumerate(reports) if report is None]
        write_index(tables, asked.catalogue.layout, [jobs[place] for place in wanted])
        for report in filter(None, reports):
            progress(Extracted(report))
        for number, done in workers.run(extract_part, [jobs[place] for place in wanted]):
            stop_if_wrong(done.report, asked.on_error)
            reports[wanted[number]] = done.report
            progress(done)
    return [report for report in reports if report is not None]


def _not_wanted(asked: Extraction, job: Job) -> FileReport | None:
    if asked.families and job.entry.family not in asked.families:
        return FileReport(job.entry, "skipped", f"of the family {job.entry.family}")
    return left_out(Part(job.root, job.entry), asked.leave_out)


@contextmanager
def _held(tables: Path) -> Iterator[None]:
    """Keep other runs out of the directory; the kernel lets go of a dead one's hold."""
    try:
        tables.mkdir(parents=True, exist_ok=True)
        handle = os.open(tables / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TableError(f"cannot write to {tables}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TableError(f"another run is writing to {tables}: wait for it") from error
        yield
    finally:
        os.close(handle)
