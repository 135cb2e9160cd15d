"""Directories in, checked models out, and back: the format that a trained model travels in.

A bundle is a directory of `card.json` (what the model is, where it comes from, how good it is),
`arrays.npz` (grid and trees; what judges) and `card.md` (the card for people; beside it, from
`train`, the same as `card.html`). Nothing in it is ever executed: arrays are plain numbers in an
uncompressed zip whose entries and headers are compared with the only form that `save_bundle`
writes. Equal models give equal bytes.

Format 1 holds one forest; format 2 the members of a vote, or one that is no forest. A forest alone
is still written as format 1, so that an older gateway reads it.
"""

import ctypes
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance._forest import ARRAYS, MEMBER_ARRAYS, Forest
from ids_appliance.errors import BundleError
from ids_appliance.schema import COLUMNS, model_hash
from ids_appliance.types import Grid

FORMATS: Final = {1: ARRAYS, 2: ARRAYS | MEMBER_ARRAYS}
"""Format -> names and dtypes of its arrays."""
MAX_ARRAY_BYTES: Final = 64 << 20
"""Largest arrays.npz: four million nodes, the most that a forest may have, are 46 MB."""
MAX_CARD_BYTES: Final = 1 << 20

Arrays = Mapping[str, npt.NDArray[Any]]

_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][uf][1248])', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} *\n"
)
_REQUIRED: Final[dict[str, type]] = {
    "format": int,
    "schema_hash": str,
    "model_id": str,
    "arrays_digest": str,
    "threshold": float,
    "features": list,
}
"""What a card must hold, and its types; everything else in it is for people."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model that may be trusted to be well-formed, though not to be any good."""

    grid: Grid
    forest: Forest
    card: Mapping[str, Any]
    """card.json; `features` are the names the model was trained on, those that no node asks for
    (and that the grid therefore lacks) included."""
    arrays: Arrays


def key_widths(grid: Grid) -> tuple[int, ...]:
    """Return the bytes that each feature's code takes in a cell: 1, or 2 past 255 cuts."""
    return tuple(2 if len(cuts) > 255 else 1 for cuts in grid.cuts)


def make_bundle(arrays: Arrays, threshold: float, *, card: Mapping[str, Any]) -> Bundle:
    """Check arrays (names and dtypes of a format) and complete the card with what identifies the
    model. Raises BundleError for anything that is not a model of this schema."""
    if not (isinstance(threshold, float) and 0.0 <= threshold <= 1.0):
        raise BundleError(f"the threshold {threshold!r} is not a probability")
    try:
        forest = Forest(arrays)
    except (ValueError, TypeError) as error:
        raise BundleError(f"the model's structure is invalid: {error}") from error
    frozen = {name: array.copy() for name, array in arrays.items()}
    for array in frozen.values():
        array.flags.writeable = False
    number = 1 if set(frozen) == set(ARRAYS) else 2
    digest = _digest(frozen)
    grid = _grid(frozen, threshold, digest)
    full = dict(card) | {
        "format": number,
        "schema_hash": grid.schema_hash.hex(),
        "model_id": grid.model_id.hex(),
        "arrays_digest": digest.hex(),
        "threshold": threshold,
    }
    full.setdefault("features", [COLUMNS[i].name for i in grid.features])
    return Bundle(grid, forest, MappingProxyType(full), MappingProxyType(frozen))


def save_bundle(
    bundle: Bundle, path: str | os.PathLike[str], *, card_md: str = "", card_html: str = ""
) -> None:
    """Write a bundle so that a reader sees the old one or the new one, never half of one.

    card_md, card_html: the card for people; without the first it names the model alone.
    Raises BundleError if `path` is something else than a bundle, or cannot be written.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and (target / "card.json").is_file()):
        if not target.is_dir() or any(target.iterdir()):
            raise BundleError(f"{target} exists and is not a bundle: choose another path")
    text = json.dumps(dict(bundle.card), indent=1, sort_keys=True, allow_nan=False) + "\n"
    files = {
        "arrays.npz": _pack(bundle.arrays),
        "card.json": text.encode(),
        "card.md": (card_md or f"# Model {bundle.grid.model_id.hex()}\n").encode(),
    }
    if card_html:
        files["card.html"] = card_html.encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for name, content in files.items():
                with open(staging / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            os.chmod(staging, 0o755)
            _swap(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {target}: {error.strerror}") from error


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and check a bundle. Raises BundleError, with one clear line, for whatever is wrong."""
    name = os.fspath(path)
    card_bytes, array_bytes = _read_files(name)
    try:
        card = _card(card_bytes)
        arrays = _unpack(array_bytes, FORMATS[card["format"]])
        ours = model_hash(arrays["features"].tolist()).hex()
        if card["schema_hash"] != ours:
            raise BundleError(
                "it was made for another packet record (schema hash "
                f"{card['schema_hash'][:16]!r}, ours is {ours[:16]}): train it again"
            )
        if card["arrays_digest"] != _digest(arrays).hex():
            raise BundleError("the checksum of its arrays does not match: the file is damaged")
        bundle = make_bundle(arrays, card["threshold"], card=card)
        if bundle.card["model_id"] != card["model_id"]:
            raise BundleError("its model id does not match what it holds: the card was changed")
        return bundle
    except BundleError as error:
        raise BundleError(f"cannot use the model bundle {name}: {error}") from error


def _read_files(path: str) -> tuple[bytes, bytes]:
    # Through one directory handle, so that a bundle swapped in meanwhile cannot mix with the old
    # one; if the old one is already being deleted, the second look finds the new one.
    for attempt in (1, 2, 3):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise BundleError(f"cannot open the model bundle {path}: {error.strerror}") from error
        try:
            return (
                _read_file(handle, "card.json", MAX_CARD_BYTES),
                _read_file(handle, "arrays.npz", MAX_ARRAY_BYTES),
            )
        except OSError as error:
            if error.errno == errno.ENOENT and attempt < 3:
                continue
            raise BundleError(
                f"the model bundle {path} is not complete: {error.filename}: {error.strerror}"
            ) from error
        except BundleError as error:
            raise BundleError(f"cannot use the model bundle {path}: {error}") from error
        finally:
            os.close(handle)
    raise AssertionError("unreachable")


def _read_file(directory: int, name: str, limit: int) -> bytes:
    # O_NONBLOCK: a bundle with a pipe in the place of a file must not make us wait.
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=directory)
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        with open(handle, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(handle)
    if len(content) > limit:
        raise BundleError(f"{name} is larger than {limit} bytes")
    return content


def _card(content: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not a number")

    try:
        card = json.loads(content.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"card.json is not JSON ({error})") from error
    if not isinstance(card, dict):
        raise BundleError("card.json is not an object")
    for name, kind in _REQUIRED.items():
        if type(card.get(name)) is not kind:
            raise BundleError(f"card.json lacks {name!r}, or it is not a {kind.__name__}")
    if card["format"] not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise BundleError(f"its format is {card['format']}, this version reads {known}")
    if not math.isfinite(card["threshold"]):
        raise BundleError("the threshold is not a number")
    names = {feature.name for feature in COLUMNS}
    if not all(isinstance(name, str) and name in names for name in card["features"]):
        raise BundleError("card.json names a feature that the packet record does not have")
    return card


def _grid(arrays: Arrays, threshold: float, digest: bytes) -> Grid:
    features = tuple(int(i) for i in arrays["features"])
    ends = np.cumsum(arrays["cut_counts"], dtype=np.int64)
    cuts = tuple(np.split(arrays["cuts"], ends[:-1])) if features else ()
    for index, own in zip(features, cuts, strict=True):
        if len(own) and int(own[-1]) >= COLUMNS[index].domain:
            raise BundleError(f"a cut of {COLUMNS[index].name} lies outside its values")
    # The digest covers the arrays' names, so no two formats share an id.
    schema = model_hash(features)
    judged = b"ids-appliance model 1" + schema + struct.pack("<d", threshold) + digest
    return Grid(hashlib.sha256(judged).digest()[:16], threshold, features, cuts, schema)


def _digest(arrays: Arrays) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _pack(arrays: Arrays) -> bytes:
    # Stored, not deflated, and dated 1980: bytes depend on nothing but the numbers, and a reader
    # that takes only stored entries cannot be made to inflate one.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, arrays[name], version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    return buffer.getvalue()


def _unpack(content: bytes, dtypes: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            wanted = {f"{name}.npy" for name in dtypes}
            if set(entries) != wanted or len(archive.infolist()) != len(wanted):
                raise BundleError("arrays.npz does not hold exactly the arrays of a model")
            for entry in entries.values():
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                    raise BundleError(f"{entry.filename} is compressed: only stored is accepted")
            return {
                name: _array(name, archive.read(entries[f"{name}.npy"]), dtypes[name])
                for name in sorted(dtypes)
            }
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        struct.error,
    ) as error:
        raise BundleError(f"arrays.npz is damaged: {error}") from error


def _array(name: str, content: bytes, wanted: str) -> npt.NDArray[Any]:
    # numpy's own reader evaluates the header as a Python literal; the only header we write is
    # matched as bytes instead.
    if content[:8] != b"\x93NUMPY\x01\x00" or len(content) < 10:
        raise BundleError(f"{name}.npy is not an array of format 1.0")
    start = 10 + int.from_bytes(content[8:10], "little")
    header = _NPY_HEADER.fullmatch(content[10:start])
    if header is None:
        raise BundleError(f"{name}.npy has a header that this program does not write")
    dtype = np.dtype(header[1].decode())
    if dtype != np.dtype(wanted) or len(content) - start != dtype.itemsize * int(header[2]):
        raise BundleError(f"{name}.npy has another type or size than it should")
    return np.frombuffer(content, dtype, offset=start)


def _swap(staging: Path, target: Path) -> None:
    # renameat2(2) exchanges two directories at once; `staging` then holds the old one.
    if not target.exists():
        os.rename(staging, target)
        return
    exchange, here = 2, -100
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    done = renameat2 is not None and not renameat2(
        here, os.fsencode(staging), here, os.fsencode(target), exchange
    )
    if not done:
        # A file system without it: readers may find nothing for the time between two renames.
        old = staging.with_name(staging.name + ".old")
        os.rename(target, old)
        os.rename(staging, target)
        shutil.rmtree(old, ignore_errors=True)
