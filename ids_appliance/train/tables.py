"""Chunks of packets in, Parquet files out, and back: bounded in memory, whole or not there at all.

Columns: `frame` (number in the capture), `label` (benign, malicious, related, ignore), `family`,
and the 68 columns of the packet record in their order, each as narrow as its domain. The file's
metadata names the schema hash of the packet record: a table of another one is refused.
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ids_appliance.errors import TableError
from ids_appliance.schema import COLUMNS, N_COLUMNS, RECORD_HASH
from ids_appliance.train.extract import Chunk
from ids_appliance.train.labels import Label

ROW_GROUP: Final = 1 << 16
"""Rows kept in memory at most, on writing and on reading: 8 MB of records."""

TABLE_VERSION: Final = 1
_SCHEMA_KEY: Final = b"ids-appliance.schema"
_ABOUT_KEY: Final = b"ids-appliance.table"
_TEMPORARY: Final = ".writing-"
_LABELS: Final = [label.name.lower() for label in Label]
_NAME: Final = pa.dictionary(pa.int8(), pa.string())
_WIDTHS: Final = {1: np.uint8, 8: np.uint8, 16: np.uint16}


class TableWriter:
    """Writes one table under a temporary name; `close` gives it its own, `discard` removes it."""

    def __init__(self, path: Path, families: Sequence[str]) -> None:
        """families: names of what `Chunk.family` numbers, at most 127."""
        self.path = path
        self.rows = 0
        self._families = list(families)
        self._temporary = unfinished(path)
        self._columns = np.empty((N_COLUMNS, ROW_GROUP), np.uint16)
        self._label = np.empty(ROW_GROUP, np.int8)
        self._family = np.empty(ROW_GROUP, np.int8)
        self._frame = np.empty(ROW_GROUP, np.uint64)
        self._waiting = 0
        self._schema = _schema()
        try:
            self._writer = pq.ParquetWriter(
                self._temporary,
                self._schema,
                compression="zstd",
                compression_level=1,
                # Instead of waiting for the disk at every table: what a power failure garbled is
                # found on reading.
                write_page_checksum=True,
            )
        except OSError as error:
            raise TableError(f"cannot write {path}: {error}") from error

    def write(self, chunk: Chunk) -> None:
        """Append packets. Raises TableError, for instance when the disk is full."""
        at = 0
        while at < len(chunk.rows):
            n = min(len(chunk.rows) - at, ROW_GROUP - self._waiting)
            part = chunk.select(slice(at, at + n))
            place = slice(self._waiting, self._waiting + n)
            self._columns[:, place] = part.rows.T
            self._label[place] = part.labels
            self._family[place] = part.family
            self._frame[place] = part.frames
            self._waiting += n
            at += n
            if self._waiting == ROW_GROUP:
                self._flush()

    def close(self, about: Mapping[str, Any]) -> None:
        """Finish the table and give it its name; about: plain data kept in its metadata."""
        if self._waiting:
            self._flush()
        said = json.dumps({"version": TABLE_VERSION, **about}, sort_keys=True)
        try:
            self._writer.add_key_value_metadata({_ABOUT_KEY: said})
            self._writer.close()
            self._temporary.replace(self.path)
        except OSError as error:
            raise TableError(f"cannot write {self.path}: {error}") from error

    def discard(self) -> None:
        """Leave nothing of an unfinished table."""
        try:
            self._writer.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        n = self._waiting
        columns = [
            pa.array(self._frame[:n]),
            pa.DictionaryArray.from_arrays(self._label[:n], _LABELS),
            pa.DictionaryArray.from_arrays(self._family[:n], self._families),
        ]
        for feature, column in zip(COLUMNS, self._columns, strict=True):
            columns.append(pa.array(column[:n].astype(_WIDTHS[feature.width])))
        try:
            self._writer.write_table(
                pa.Table.from_arrays(columns, schema=self._schema), row_group_size=ROW_GROUP
            )
        except OSError as error:
            raise TableError(f"cannot write {self.path}: {error}") from error
        self.rows += n
        self._waiting = 0


def _schema() -> Any:
    fields = [("frame", pa.uint64()), ("label", _NAME), ("family", _NAME)]
    fields += [(f.name, pa.from_numpy_dtype(_WIDTHS[f.width])) for f in COLUMNS]
    return pa.schema(fields, metadata={_SCHEMA_KEY: RECORD_HASH.hex()})


def about_table(path: Path) -> dict[str, Any]:
    """Return what a table says of itself, and `rows`.

    Raises TableError: not there, damaged, not ours, or of another packet record.
    """
    with _open(path) as file:
        return _about(path, file)


def read_table(path: Path, families: Sequence[str]) -> Iterator[Chunk]:
    """Yield a table's packets, ROW_GROUP at a time; families: as it was written with.

    Raises TableError as `about_table` does, and for values that no table of ours holds.
    """
    with _open(path) as file:
        _about(path, file)
        for group in range(file.num_row_groups):
            try:
                table = file.read_row_group(group, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise TableError(
                    f"{path} is damaged: {error}; remove it and extract again"
                ) from error
            rows = np.empty((len(table), N_COLUMNS), np.uint16)
            for i, feature in enumerate(COLUMNS):
                rows[:, i] = table.column(feature.name).to_numpy()
            yield Chunk(
                rows,
                _numbered(table.column("label"), _LABELS, path),
                _numbered(table.column("family"), families, path),
                table.column("frame").to_numpy(),
            )


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise TableError(f"{path} is not there: extract it again") from error
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path} is not a complete Parquet file: extract it again") from error


def _about(path: Path, file: Any) -> dict[str, Any]:
    metadata = file.metadata.metadata or {}
    schema = metadata.get(_SCHEMA_KEY, b"").decode("ascii", "replace")
    if not schema:
        raise TableError(f"{path} is not a feature table: it names no packet record")
    if schema != RECORD_HASH.hex():
        raise TableError(
            f"{path} was made for another packet record (schema {schema[:12]}, this program has "
            f"{RECORD_HASH.hex()[:12]}): extract the captures again into another directory"
        )
    try:
        about = json.loads(metadata[_ABOUT_KEY])
    except (KeyError, ValueError) as error:
        raise TableError(f"{path} does not say what it holds: extract it again") from error
    if not isinstance(about, dict) or about.get("version") != TABLE_VERSION:
        raise TableError(f"{path} is a table of another version: extract the captures again")
    if not file.schema_arrow.equals(_schema()):
        raise TableError(f"{path} has other columns than a feature table: extract it again")
    return about | {"rows": file.metadata.num_rows}


def _numbered(column: Any, names: Sequence[str], path: Path) -> Any:
    out = np.empty(len(column), np.uint8)
    at = 0
    for part in column.chunks:
        own = part.dictionary.to_pylist()
        if not set(own) <= set(names):
            raise TableError(f"{path} holds {set(own) - set(names)}, which its corpus does not")
        place = np.array([list(names).index(name) for name in own], np.uint8)
        out[at : at + len(part)] = place[part.indices.to_numpy(zero_copy_only=False)]
        at += len(part)
    return out


def unfinished(path: Path) -> Path:
    """Return the name under which this process writes a file until it is whole."""
    # Host and process: a worker taken for dead may still be writing the same table elsewhere.
    return path.with_name(f"{_TEMPORARY}{platform.node()}-{os.getpid()}-{path.name}")


def clear_unfinished(directory: Path) -> None:
    """Remove what killed processes were writing; nobody may be writing to the directory."""
    for path in directory.glob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)
