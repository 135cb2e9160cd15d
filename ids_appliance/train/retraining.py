"""A corpus, captures of one's own network and the bundle in use in, a bundle to replace it out.

The new model learns from the corpus and from the first part of each own capture; own captures are
one more origin, or as many as they name. It is then held against what it has not seen:

    own       the last part of each own capture, beside the bundle in use
    corpus    one in five of the corpus's origins, beside a model of the same recipe without the own
              captures; the bundle in use may have learnt from these, so it would be no comparison

Refused is what flags more of the own ordinary packets than the bundle in use and than is permitted,
finds less of the own attacks, or loses other networks for this one. What was held out stays out:
the bundle that is judged is the bundle that is returned.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.classify.bundle import Bundle, make_bundle
from ids_appliance.errors import BundleError, LabelError
from ids_appliance.schema import COLUMNS
from ids_appliance.train.agreement import compare
from ids_appliance.train.card import describe
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.corpus import Corpus, read_corpus
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.fit import Recipe, distinct, fit
from ids_appliance.train.training import (
    Options,
    at_threshold,
    gather,
    options_text,
    packets_of,
    size_of,
)
from ids_appliance.types import F64, U16

LAST: Final = 0.3
"""Share of each own capture, its end, that is not learnt from."""
ONE_IN: Final = 5
"""Of the corpus's origins with an attack, and of those without, one in so many is held out."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a retraining is asked for."""

    corpus: Options
    """How the corpus is read, and the recipe of the new model."""
    own: Path
    false_alarms: float = 0.001
    """Share of the own ordinary packets that may be flagged, or as many as the old model flags."""
    tolerance: float = 0.02
    """What may be lost on other networks: less found, more flagged, mean of origins."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """A bundle, how it compares, and why it should not be used; nothing if it may be."""

    bundle: Bundle
    compared: dict[str, dict[str, float | None]]
    """own_old, own_new, corpus_without, corpus_with -> flagged and found; None: no such packets."""
    against: tuple[str, ...]


def recipe_of(bundle: Bundle) -> Recipe:
    """Return the recipe that a bundle was made by, as far as its card tells."""
    told = bundle.card.get("options", {})
    names = ("family", "features", "trees", "leaves", "seed", "weight")
    return Recipe(**{name: told[name] for name in names if name in told})


def retrain(
    asked: Asked, old: Bundle, *, progress: Callable[[str], None] = lambda step: None
) -> Retrained:
    """Train and compare. Raises LabelError for data that is not usable, or own captures of an
    origin that the corpus has too; BundleError for a model that does not compile exactly."""
    options = asked.corpus
    material = gather(options, progress=progress)
    own = read_corpus(asked.own, on_error=options.on_error, progress=progress)
    own = own.narrow(options.recipe.width)
    packets, file = packets_of(own)
    shared = sorted(set(packets.groups.tolist()) & set(material.packets.groups.tolist()))
    if shared:
        raise LabelError(
            f"{asked.own} names the origin {shared[0]!r}, which the corpus has as well"
        )
    late = last_part(file)
    held = held_out(material.packets)
    corpus = material.packets.take(~held)
    learnt = joined(corpus, packets.take(~late))
    progress("training")
    pipeline, features = fit(options.recipe, learnt.rows, learnt.classes, learnt.groups)
    new = make_bundle(compile_pipeline(pipeline, features), options.threshold, card={})
    once = learnt.rows[distinct(learnt.rows, learnt.classes, learnt.groups)]
    if not compare(new, pipeline, features, once).exact:
        raise BundleError("the compiled model does not equal the trained one: it was not saved")
    progress("training without the own captures")
    plain, columns = fit(options.recipe, corpus.rows, corpus.classes, corpus.groups)
    without = make_bundle(compile_pipeline(plain, columns), options.threshold, card={})
    seen, other = packets.take(late), material.packets.take(held)
    compared = {
        "own_old": shares(old, seen),
        "own_new": shares(new, seen),
        "corpus_without": shares(without, other),
        "corpus_with": shares(new, other),
    }
    card = describe(options_text(options), material.corpus, material.terms) | {
        "features": [COLUMNS[i].name for i in features],
        "size": size_of(new),
        "packets_trained_on": {
            "benign": int((learnt.classes == 0).sum()),
            "malicious": int((learnt.classes == 1).sum()),
            "origins": len(np.unique(learnt.groups)),
        },
        "metrics": {},
        "retrained": {"from": old.grid.model_id.hex(), "own": _files(own), "compared": compared},
        **at_threshold(new, material.corpus),
    }
    bundle = make_bundle(new.arrays, options.threshold, card=card)
    return Retrained(bundle, compared, tuple(reasons(asked, compared)))


def last_part(file: npt.NDArray[Any]) -> Mask:
    """Return (n,) which packets are of the last part of their capture."""
    late = np.zeros(len(file), np.bool_)
    for one in np.unique(file):
        places = np.flatnonzero(file == one)
        late[places[int(len(places) * (1 - LAST)) :]] = True
    return late


def held_out(packets: Packets) -> Mask:
    """Return (n,) which packets are of origins that are not learnt from: always the same ones, of a
    corpus that has at least two with an attack and two without; else none of that kind."""
    attacked = set(packets.groups[packets.classes == 1].tolist())
    chosen: list[str] = []
    for names in (attacked, set(packets.groups.tolist()) - attacked):
        ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        chosen += ranked[: max(1, len(ranked) // ONE_IN)] if len(ranked) > 1 else []
    mask: Mask = np.isin(packets.groups, chosen)
    return mask


def joined(one: Packets, two: Packets) -> Packets:
    """Return the packets of both."""
    return Packets(
        np.concatenate([one.rows, two.rows]),
        np.concatenate([one.classes, two.classes]),
        np.concatenate([one.groups, two.groups]),
        np.concatenate([one.families, two.families]),
    )


def shares(bundle: Bundle, packets: Packets) -> dict[str, float | None]:
    """Return the share of ordinary packets flagged and of malicious ones found, mean of origins."""
    said = _judged(bundle, packets.rows) > bundle.grid.threshold
    return {
        name: _mean_of_origins(said, packets, packets.classes == value)
        for name, value in (("flagged", 0), ("found", 1))
    }


def reasons(asked: Asked, compared: dict[str, dict[str, float | None]]) -> list[str]:
    """Return why the new model should not replace the old one."""
    found = []
    own_old, own_new = compared["own_old"], compared["own_new"]
    permitted = max(asked.false_alarms, own_old["flagged"] or 0.0)
    if (own_new["flagged"] or 0.0) > permitted:
        found.append(
            f"it flags {own_new['flagged']:.2%} of this network's ordinary packets, "
            f"{permitted:.2%} are permitted"
        )
    if own_new["found"] is not None and own_new["found"] < (own_old["found"] or 0.0):
        found.append(
            f"it finds {own_new['found']:.1%} of this network's attacks, the old one "
            f"{own_old['found']:.1%}"
        )
    without, with_own = compared["corpus_without"], compared["corpus_with"]
    if (without["found"] or 0.0) - (with_own["found"] or 0.0) > asked.tolerance:
        found.append(
            f"on other networks it finds {with_own['found'] or 0.0:.1%}, without these captures "
            f"{without['found']:.1%}"
        )
    if (with_own["flagged"] or 0.0) - (without["flagged"] or 0.0) > asked.tolerance:
        found.append(
            f"on other networks it flags {with_own['flagged']:.1%}, without these captures "
            f"{without['flagged'] or 0.0:.1%}"
        )
    return found


def _mean_of_origins(said: Mask, packets: Packets, own: Mask) -> float | None:
    names = np.unique(packets.groups[own])
    means = [float(said[own & (packets.groups == name)].mean()) for name in names]
    return round(float(np.mean(means)), 6) if means else None


def _judged(bundle: Bundle, rows: U16) -> F64:
    out = np.empty(len(rows))
    bundle.forest.evaluate_rows(np.ascontiguousarray(rows), out)
    return out


def _files(own: Corpus) -> list[dict[str, Any]]:
    return [
        {"file": r.entry.file, "sha256": r.sha256, "packets": r.judged}
        for r in own.reports
        if r.judged
    ]
