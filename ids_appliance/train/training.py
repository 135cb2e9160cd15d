"""A data directory and options in, a bundle with its card out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.classify.bundle import Bundle, make_bundle
from ids_appliance.errors import BundleError, LabelError
from ids_appliance.schema import COLUMNS
from ids_appliance.train.agreement import compare, near
from ids_appliance.train.card import describe
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.corpus import Corpus, read_corpus
from ids_appliance.train.draw import (
    PAPER_LEAVE_OUT,
    Draw,
    PaperDraw,
    Reading,
    RowsDraw,
    draw_corpus,
)
from ids_appliance.train.evaluate import (
    Judged,
    Metrics,
    Packets,
    baselines,
    evaluate,
    judge,
    measure,
)
from ids_appliance.train.fit import Recipe, distinct, fit
from ids_appliance.train.labels import Label
from ids_appliance.train.sampling import spread
from ids_appliance.train.scale import Workers
from ids_appliance.train.terms import Terms, read_terms
from ids_appliance.types import F64, U16

_NAMED: Final = 20
"""Packets named of one capture, of those at the threshold: the how manieth that is judged."""

RELATED: Final = {"exclude": None, "benign": 0, "malicious": 1}

Progress = Callable[[str], None]


def _silent(step: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a training run is asked for; with equal data it decides every byte of the bundle."""

    data: Path
    recipe: Recipe = field(default_factory=Recipe)
    threshold: float = 0.5
    folds: int = 5
    """Of each split in the evaluation; 0: none."""
    related: str = "exclude"
    leave_out: tuple[str, ...] = ()
    on_error: str = "skip"
    keep_cut: bool = False
    terms: Path | None = None
    """Train only on repositories that these terms permit to ship; None: on all."""
    max_per_capture: int = 0
    """Packets used of one capture, evenly spread; 0: all."""
    rows: int = 0
    """Packets to draw (draw.RowsDraw), for a corpus larger than memory; 0: all are read."""
    paper: str = ""
    """Draw the seed paper's packets, split like this (draw.PaperDraw); empty: do not."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a training run learns from, and what it may only be tested on."""

    corpus: Corpus
    packets: Packets
    foreign: Packets | None
    """Packets of repositories whose terms do not permit to ship, of origins that no packet trained
    on comes from."""
    terms: dict[str, Terms]
    draw: dict[str, Any] = field(default_factory=dict)
    """What the card tells of a draw; empty if all packets were read."""
    short: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Parts of a draw with fewer packets than asked for: (there, asked)."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model in both its forms."""

    pipeline: Any
    """scikit-learn's, the reference; never written anywhere."""
    features: list[int]
    bundle: Bundle


def gather(
    options: Options, *, workers: Workers | None = None, progress: Progress = _silent
) -> Material:
    """Read the data: captures, or tables made from them.

    workers: who goes through it for a draw. Raises LabelError if it is not usable, one of the
    classes is missing, or the paper's packets are not all there and on_error is "stop".
    """
    drawn = None
    draw = _draw(options)
    if draw is None:
        corpus = read_corpus(
            options.data,
            leave_out=options.leave_out,
            on_error=options.on_error,
            keep_cut=options.keep_cut,
            progress=progress,
        )
    else:
        leave_out = options.leave_out + (PAPER_LEAVE_OUT if options.paper else ())
        reading = Reading(leave_out, options.on_error, options.keep_cut)
        drawn = draw_corpus(options.data, draw, reading, workers=workers, progress=progress)
        corpus = drawn.corpus
        if options.paper and drawn.short and options.on_error == "stop":
            told = ", ".join(f"{n:,} of {m:,} {p}" for p, (n, m) in drawn.short.items())
            raise LabelError(f"{options.data} holds fewer packets than the paper drew: {told}")
    corpus = corpus.narrow(options.recipe.width)
    related = RELATED[options.related]
    classes = (corpus.labels == Label.MALICIOUS).astype(np.uint8)
    usable = corpus.labels <= Label.MALICIOUS
    if related is not None:
        answers = corpus.labels == Label.RELATED
        classes[answers] = related
        usable |= answers
    if options.max_per_capture:
        usable &= spread(corpus.file, usable, options.max_per_capture)
    packets = Packets(corpus.rows, classes, corpus.group, np.array(corpus.families)[corpus.family])
    terms = read_terms(options.terms) if options.terms else {}
    ours, foreign = usable, None
    if options.terms:
        permitted = np.array([_ships(terms, r.entry.repo) for r in corpus.reports])[corpus.file]
        ours = usable & permitted
        # An origin that some other repository of ours shares has been seen after all.
        seen = np.isin(packets.groups, np.unique(packets.groups[ours]))
        foreign = packets.take(usable & ~permitted & ~seen)
    if set(np.unique(classes[ours]).tolist()) != {0, 1}:
        raise LabelError(
            f"{options.data} gives {int(ours.sum())} packets to train on, but not of both classes "
            "(benign and malicious): add captures, or look at --terms, --leave-out and --related"
        )
    if drawn is None:
        return Material(corpus, packets.take(ours), foreign, terms)
    return Material(corpus, packets.take(ours), foreign, terms, drawn.facts, drawn.short)


def _draw(options: Options) -> Draw | None:
    classes: list[int | None] = [None] * len(Label)
    classes[Label.BENIGN], classes[Label.MALICIOUS] = 0, 1
    classes[Label.RELATED] = RELATED[options.related]
    if options.paper:
        return PaperDraw(options.recipe.seed, tuple(classes), options.paper)
    if not options.rows:
        return None
    permitted = None
    if options.terms:
        permitted = frozenset(t.repo for t in read_terms(options.terms).values() if t.ship)
    once = options.recipe.weight != "packet"
    return RowsDraw(options.recipe.seed, options.rows, tuple(classes), once, permitted)


def train(options: Options, material: Material, *, progress: Progress = _silent) -> Trained:
    """Fit, compile, compare both forms on every different packet, evaluate, write the card.

    Raises BundleError if a compiled forest differs from scikit-learn's in a single bit, or another
    model from its library's in a verdict that is not within a hair of the threshold.
    """
    packets = material.packets
    progress("training")
    pipeline, features = fit(options.recipe, packets.rows, packets.classes, packets.groups)
    plain = make_bundle(compile_pipeline(pipeline, features), options.threshold, card={})
    once = packets.rows[distinct(packets.rows, packets.classes, packets.groups)]
    if not compare(plain, pipeline, features, once).exact:
        raise BundleError("the compiled model does not equal the trained one: it was not saved")
    card = describe(options_text(options), material.corpus, material.terms)
    card["features"] = [COLUMNS[i].name for i in features]
    card["size"] = size_of(plain)
    card["packets_trained_on"] = {
        "benign": int((packets.classes == 0).sum()),
        "malicious": int((packets.classes == 1).sum()),
        "origins": len(np.unique(packets.groups)),
    }
    card |= at_threshold(plain, material.corpus)
    if material.draw:
        card["draw"] = material.draw
    card["metrics"] = {}
    if options.folds:
        card["metrics"] = _metrics(options, material, progress) | _foreign(
            options, material, progress, lambda rows: judge(pipeline, features, rows)
        )
    return Trained(pipeline, features, make_bundle(plain.arrays, options.threshold, card=card))


def options_text(options: Options) -> dict[str, Any]:
    """Return what a card says of the options: enough to train again, no path, no speed."""
    recipe = asdict(options.recipe)
    del recipe["jobs"]
    return recipe | {
        "threshold": options.threshold,
        "folds": options.folds,
        "related": options.related,
        "leave_out": list(options.leave_out),
        "keep_cut": options.keep_cut,
        "only_shippable": options.terms is not None,
        "max_per_capture": options.max_per_capture,
        **({"rows": options.rows} if options.rows else {}),
        **({"paper": options.paper} if options.paper else {}),
    }


def steps(options: Options, files: int) -> int:
    """Return how often `gather` and `train` report progress at most, for a number of files."""
    files *= 2 if options.rows or options.paper else 1
    return files + 1 + 2 * options.folds + int(bool(options.folds and options.terms))


def _metrics(options: Options, material: Material, progress: Progress) -> dict[str, Metrics]:
    return evaluate(
        options.recipe,
        material.packets,
        folds=options.folds,
        threshold=options.threshold,
        progress=progress,
    )


def _foreign(
    options: Options, material: Material, progress: Progress, forest: Callable[[U16], F64]
) -> dict[str, Metrics]:
    """Return the metrics on packets that may not be trained on, judged by the very model."""
    if options.terms:
        progress("foreign")
    foreign = material.foreign
    if foreign is None or not len(foreign.rows):
        return {}
    judged = Judged(forest(foreign.rows), *baselines(options.recipe, material.packets, foreign))
    return {"foreign": measure(foreign, judged, options.threshold)}


def _ships(terms: dict[str, Terms], repo: str) -> bool:
    return repo in terms and terms[repo].ship


def packets_of(corpus: Corpus) -> tuple[Packets, npt.NDArray[np.uint16]]:
    """Return a corpus's ordinary and malicious packets, and (n,) which capture each is of."""
    usable = corpus.labels <= Label.MALICIOUS
    classes = (corpus.labels[usable] == Label.MALICIOUS).astype(np.uint8)
    names = np.array(corpus.families)[corpus.family[usable]]
    return Packets(corpus.rows[usable], classes, corpus.group[usable], names), corpus.file[usable]


def at_threshold(bundle: Bundle, corpus: Corpus) -> dict[str, Any]:
    """Return how many packets lie where another order of adding could decide otherwise, and which:
    of each capture the first few, counted from 1."""
    places = np.flatnonzero(near(bundle, corpus.rows))
    named = {}
    for number in np.unique(corpus.file[places]).tolist():
        first = int(np.argmax(corpus.file == number))
        own = places[corpus.file[places] == number] - first + 1
        named[corpus.reports[number].entry.file] = own[:_NAMED].tolist()
    return {"packets_at_threshold": len(places), "at_threshold": named}


def size_of(bundle: Bundle) -> dict[str, Any]:
    """Return what a card tells of a model's size."""
    forest = bundle.forest
    return {
        "members": list(forest.members),
        "trees": forest.n_trees,
        "nodes": forest.n_nodes,
        "leaves": forest.n_leaves,
        "features_asked": len(bundle.grid.features),
        "cuts": int(sum(len(cuts) for cuts in bundle.grid.cuts)),
        "cell_bytes": forest.key_bytes,
    }
