"""A recipe and packets in, a compiled model out; kept in a folder, so that a stopped study goes on.

A model is found again by a digest of everything that decides its bytes: recipe, schema, and each
packet that it learns from.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ids_appliance.classify.bundle import Bundle, load_bundle, make_bundle, save_bundle
from ids_appliance.errors import BundleError
from ids_appliance.schema import COLUMNS, SCHEMA_HASH
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.fit import Recipe, fit
from ids_appliance.types import F64, U16

THRESHOLD: Final = 0.5
"""Evidence adds probabilities up and never asks for it; figures per packet do."""


class Models:
    """Models of one recipe, each kept under its digest in a folder."""

    def __init__(self, recipe: Recipe, packets: Packets, folder: Path) -> None:
        self._recipe = recipe
        self._packets = packets
        self._folder = folder
        self.made = 0
        wanted = {k: v for k, v in asdict(recipe).items() if k != "jobs"}
        self._stem = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode())
        self._stem.update(SCHEMA_HASH)
        for part in (packets.rows, packets.classes, np.unique(packets.groups, return_inverse=True)):
            for array in part if isinstance(part, tuple) else (part,):
                self._stem.update(np.ascontiguousarray(array).tobytes())

    def without(self, test: npt.NDArray[np.bool_]) -> tuple[Bundle, Path]:
        """Return the model that has not seen the packets of the mask, and where it is kept.

        Raises BundleError where the rest is of one class only, or the model cannot be compiled.
        """
        digest = self._stem.copy()
        digest.update(np.packbits(test).tobytes())
        path = self._folder / digest.hexdigest()[:24]
        if path.is_dir():
            return load_bundle(path), path
        rest = self._packets.take(~test)
        if set(np.unique(rest.classes).tolist()) != {0, 1}:
            raise BundleError(
                "without a part left out there are not both classes left to learn from: add "
                "captures of other origins, or leave out less (--split capture or random)"
            )
        pipeline, features = fit(self._recipe, rest.rows, rest.classes, rest.groups)
        card = {"features": [COLUMNS[i].name for i in features]}
        bundle = make_bundle(compile_pipeline(pipeline, features), THRESHOLD, card=card)
        self._folder.mkdir(parents=True, exist_ok=True)
        save_bundle(bundle, path)
        self.made += 1
        return bundle, path


def judge(bundle: Bundle, rows: U16) -> F64:
    """Return P(malicious) of packet records, (n,)."""
    out: F64 = np.empty(len(rows))
    bundle.forest.evaluate_rows(np.ascontiguousarray(rows), out)
    return out
