"""A model bundle that nobody meant well in: BundleError, or a model that judges like its twin.

Never another exception, never a walk outside the arrays, never one without end.
"""

import atexit
import hashlib
import io
import json
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ids_appliance._forest import ARRAYS
from ids_appliance.classify.bundle import load_bundle, make_bundle, save_bundle
from ids_appliance.errors import BundleError
from ids_appliance.schema import SCHEMA_HASH
from tests.bundles import random_bundle, random_members, random_rows
from tests.reference import forest as twin

NAMES = sorted(ARRAYS)
BASE = random_bundle(5, n_trees=3, n_leaves=6, features=[2, 4, 40], max_cuts=6)
VOTE = random_members(5, n_trees=2, n_leaves=4, features=[2, 5, 40])
VOTE_NAMES = sorted(VOTE)
ROWS = random_rows(1, 4)
ROOM = Path(tempfile.mkdtemp(prefix="fuzz-bundle-"))
atexit.register(shutil.rmtree, ROOM, ignore_errors=True)
save_bundle(BASE, ROOM / "base")
CARD = (ROOM / "base" / "card.json").read_bytes()
ARRAYS_NPZ = (ROOM / "base" / "arrays.npz").read_bytes()


def fuzz(data: bytes) -> None:
    """First byte: the rest is the card, the arrays' file, or edits of the arrays themselves."""
    if not data:
        return
    mode, rest = data[0] % 5, data[1:]
    if mode == 0:
        load(rest, ARRAYS_NPZ)
    elif mode == 1:
        load(CARD, rest)
    elif mode == 2:
        load(signed_card(rest), rest)
    elif mode == 3:
        structure(rest, BASE.arrays, NAMES)
    else:
        structure(rest, VOTE, VOTE_NAMES)


def load(card: bytes, arrays: bytes) -> None:
    """Load a bundle of the two files."""
    (ROOM / "base" / "card.json").write_bytes(card)
    (ROOM / "base" / "arrays.npz").write_bytes(arrays)
    try:
        bundle = load_bundle(ROOM / "base")
    except BundleError as error:
        assert "\n" not in str(error)
        return
    judge(bundle)


def signed_card(content: bytes) -> bytes:
    """Return a card whose checksums fit the arrays' file, as a malicious author would make it."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in NAMES:
                array = np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
                digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
                digest.update(array.tobytes())
    except Exception:  # noqa: BLE001  numpy and zipfile raise whatever they like; the loader must not
        return CARD
    card = json.loads(CARD)
    whole = digest.digest()
    card["arrays_digest"] = whole.hex()
    judged = b"ids-appliance model 1" + SCHEMA_HASH + struct.pack("<d", card["threshold"]) + whole
    card["model_id"] = hashlib.sha256(judged).digest()[:16].hex()
    return json.dumps(card).encode()


def structure(edits: bytes, model, names: list[str]) -> None:
    """Apply edits of 4 bytes (array and kind, place, value) to a valid model; make and judge it."""
    arrays = {name: array.copy() for name, array in model.items()}
    for at in range(0, len(edits) - 3, 4):
        which, place, low, high = edits[at : at + 4]
        name, kind = names[which % len(names)], which // len(names)
        array = arrays[name]
        if kind % 8 == 7:  # another length
            arrays[name] = np.resize(array, place) if len(array) else array
        elif kind % 8 == 6:
            arrays[name] = array[: place % (len(array) + 1)].copy()
        elif len(array):
            raw = array.view(np.uint8)
            i = place % len(array) * array.itemsize
            wide = bytes([low, high]) * array.itemsize
            raw[i : i + array.itemsize] = np.frombuffer(wide[: array.itemsize], np.uint8)
            if kind % 8 < 5 and array.itemsize > 1 and array.dtype.kind == "u":
                array[i // array.itemsize] = low  # small numbers are the likelier ones to fit
    try:
        bundle = make_bundle(arrays, 0.5, card={})
    except BundleError as error:
        assert "\n" not in str(error)
        return
    judge(bundle)


def judge(bundle) -> None:
    """Assert that an accepted model judges records and any cells as the twin does."""
    arrays = bundle.arrays
    codes = [twin.encode(arrays, row) for row in ROWS]
    cells = [twin.pack(arrays, c) for c in codes]
    wild = np.frombuffer(b"\xff" * bundle.forest.key_bytes * 2, np.uint8)
    out = np.empty(len(ROWS))
    bundle.forest.evaluate_rows(ROWS, out)
    wanted = [twin.probability(arrays, c) for c in codes]
    assert out.tolist() == wanted, (out.tolist(), wanted)
    packed = np.frombuffer(b"".join(cells), np.uint8).copy().reshape(len(ROWS), -1)
    bundle.forest.evaluate(packed, out)
    assert out.tolist() == wanted, (out.tolist(), wanted)
    wild = wild.reshape(2, -1).copy()
    out = np.empty(2)
    bundle.forest.evaluate(wild, out)
    assert out.tolist() == [twin.probability(arrays, twin.unpack(arrays, cell)) for cell in wild]
    assert all(0.0 <= p <= 1.0 for p in wanted)


def seeds() -> Iterator[bytes]:
    yield b"\x00" + CARD
    yield b"\x01" + ARRAYS_NPZ
    yield b"\x02" + ARRAYS_NPZ
    yield b"\x03"
    for which in range(len(NAMES)):
        for kind in (0, 5, 6, 7):
            yield bytes([3, which + kind * len(NAMES), 1, 2, 0])
    for which in range(len(VOTE_NAMES)):
        for kind in (0, 5, 6, 7):
            yield bytes([4, which + kind * len(VOTE_NAMES), 1, 2, 0])
