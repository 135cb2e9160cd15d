"""A file of KDD records in, a stratified sample of it out, whatever the file's size.

The file (plain or gzip; 42 columns, NSL-KDD 43) is read twice, line by line: once to count labels,
once to keep the records drawn, so memory holds the sample only.
"""

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt

from ids_appliance.errors import LabelError
from ids_appliance.train.kdd.columns import NAMES, NUMERIC, SYMBOLIC

LONGEST: Final = 1024
"""Bytes of a line at most; a record has about 200."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Records drawn from a file, in its order."""

    numbers: npt.NDArray[np.float64]
    """(n, 38): the columns NUMERIC."""
    symbols: npt.NDArray[np.str_]
    """(n, 3): the columns SYMBOLIC."""
    labels: npt.NDArray[np.str_]
    """(n,): normal, or an attack's name."""
    records: int
    """Of the whole file."""
    wrong: int
    """Lines that are no record, passed over."""
    damage: str
    """Why the file could not be read to its end; empty if it could."""

    def take(self, which: npt.NDArray[np.int64]) -> "Sample":
        """Return only those at the given places."""
        return Sample(
            self.numbers[which],
            self.symbols[which],
            self.labels[which],
            self.records,
            self.wrong,
            self.damage,
        )


class _Lines:
    """The records of a file as lists of fields; counts what is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.wrong = 0
        self.damage = ""

    def __iter__(self) -> Iterator[list[str]]:
        try:
            with _open(self._path) as file:
                yield from self._records(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = f"damaged: {error}"
        except OSError as error:
            raise LabelError(f"cannot read {self._path}: {error.strerror}") from error

    def _records(self, file: BinaryIO) -> Iterator[list[str]]:
        while line := file.readline(LONGEST):
            if not line.strip():
                continue
            fields = line.decode("latin-1").strip().split(",")
            if len(fields) - len(NAMES) in (1, 2):
                fields[len(NAMES)] = fields[len(NAMES)].rstrip(".")
                yield fields
            else:
                self.wrong += 1


def read_sample(path: Path, n: int, *, seed: int = 0) -> Sample:
    """Draw n records, or all if there are fewer: each label in proportion, and at least one.

    Raises LabelError if the file cannot be read or holds no record.
    """
    counted = _Lines(path)
    found = Counter(fields[len(NAMES)] for fields in counted)
    if not found:
        raise LabelError(f"{path} holds no record of KDD Cup 1999 or NSL-KDD")
    wanted = _draw(found, n, np.random.default_rng(seed))
    seen: Counter[str] = Counter()
    numbers, symbols, labels, unreadable = [], [], [], 0
    lines = _Lines(path)
    for fields in lines:
        label = fields[len(NAMES)]
        place = seen[label]
        seen[label] += 1
        if place not in wanted[label]:
            continue
        own = _numbers(fields)
        if own is None:
            unreadable += 1
            continue
        numbers.append(own)
        symbols.append([fields[i] for i in SYMBOLIC])
        labels.append(label)
    return Sample(
        np.array(numbers, np.float64).reshape(-1, len(NUMERIC)),
        np.array(symbols, np.str_).reshape(-1, len(SYMBOLIC)),
        np.array(labels, np.str_),
        sum(found.values()),
        lines.wrong + unreadable,
        lines.damage,
    )


def _draw(found: Counter[str], n: int, rng: np.random.Generator) -> dict[str, set[int]]:
    names = sorted(found)
    total = sum(found.values())
    share = {name: min(n, total) * found[name] / total for name in names}
    count = {name: min(found[name], max(1, int(share[name]))) for name in names}
    # What rounding down has left over goes to those that lost most by it.
    for name in sorted(names, key=lambda name: (int(share[name]) - share[name], name)):
        if sum(count.values()) < min(n, total) and count[name] < found[name]:
            count[name] += 1
    return {
        name: set(rng.choice(found[name], count[name], replace=False).tolist()) for name in names
    }


def _numbers(fields: list[str]) -> list[float] | None:
    try:
        own = [float(fields[i]) for i in NUMERIC]
    except ValueError:
        return None
    return own if all(map(math.isfinite, own)) else None


def _open(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else open(path, "rb")
