"""What the lab's own attacks are worth as training data, said by origins that nobody learnt from.

    python -m tests.campaigns.lab_attacks.learning --data DIR --lab FOLDER --unseen FOLDER \\
        --out FOLDER

Twice the same: a model for each fold of the labelled captures' origins that has not seen them, once
without and once with the lab's captures (of FOLDER, recorded by `record`) in training. Each capture
is replayed through the whole appliance by the model that has not seen its origin; captures of the
lab's tools that nothing was learnt from are replayed by a model of everything else. Models and rows
are kept in --out, so that a stopped run goes on.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ids_appliance.classify.bundle import Bundle
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.fit import Recipe
from ids_appliance.train.labels import Entry, Label, read_labels
from ids_appliance.train.sampling import spread
from ids_appliance.train.study.intervals import wilson
from ids_appliance.train.study.learning import Models, judge
from ids_appliance.train.study.replays import outcome, run_once
from tests.campaigns.lab_attacks.__main__ import judged
from tests.campaigns.size_curve import fold_of, options, read, worth

ARMS: Final = ("without", "with")
Row = dict[str, Any]


def joined(one: Packets, other: Packets) -> Packets:
    """Return the packets of both."""
    columns = ("rows", "classes", "groups", "families")
    return Packets(*(np.concatenate([getattr(p, name) for p in (one, other)]) for name in columns))


def replayed(work: tuple[Entry, Path], *, data: Path, folder: Path) -> Row:
    """Return what the appliance makes of a capture by a model; kept."""
    entry, model = work
    place = folder / f"{entry.file.replace('/', '_')}-{model.name}.json"
    if not place.is_file():
        done = outcome("appliance", run_once(entry, "appliance", data=data, model=model))
        row = {n: getattr(done, n) for n in ("culprits", "found", "ordinary", "wronged", "windows")}
        place.write_text(json.dumps(row) + "\n")
    told: Row = json.loads(place.read_text())
    return told | {"file": entry.file, "family": entry.family, "origin": entry.group}


def by_family(rows: Sequence[Row]) -> list[str]:
    """Return n of N and the mean over origins, family by family, and who was wronged."""
    lines = []
    for family in sorted({row["family"] for row in rows if row["culprits"]}):
        own = [row for row in rows if row["family"] == family and row["culprits"]]
        sums: dict[str, list[int]] = {}
        for row in own:
            one = sums.setdefault(row["origin"], [0, 0])
            one[0] += row["found"]
            one[1] += row["culprits"]
        found, of = (sum(row[name] for row in own) for name in ("found", "culprits"))
        mean = float(np.mean([hits / n for hits, n in sums.values()]))
        lines.append(f"  {family:11} {found} of {of} ({mean:.1%}, {len(sums)} origins)")
    wronged, ordinary = (sum(row[name] for row in rows) for name in ("wronged", "ordinary"))
    low, high = wilson(wronged, ordinary)
    where = [row["file"] for row in rows if row["wronged"]]
    lines.append(f"  wronged     {wronged} of {ordinary:,} ({low:.2%} to {high:.2%}) {where}")
    return lines


def by_packet(packets: Packets, made: Mapping[int, Bundle]) -> str:
    """Return what models of the folds make of the packets of the origins that they left out."""
    fold = np.array([fold_of(name, len(made)) for name in packets.groups.tolist()])
    said = np.zeros(len(fold))
    for number, bundle in made.items():
        said[fold == number] = judge(bundle, packets.rows[fold == number])
    told = worth(packets, said)
    return (
        f"  packets     found {told['found']:.1%}, flagged {told['flagged']:.1%}, found at 1 % "
        f"flagged {told['found_at_rate']:.1%}, ROC area {told['roc_area']:.3f}"
    )


def main() -> None:
    parser = options(__doc__, folds=5, most=500)
    for name in ("--lab", "--unseen", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--arm", action="append", choices=ARMS, default=[])
    parser.add_argument("--unseen-only", action="store_true", help="only the lab's unseen tools")
    parser.add_argument("--ordinary", action="store_true", help="captures without an attack, too")
    given = parser.parse_args()
    rows_of = given.out / "rows"
    rows_of.mkdir(parents=True, exist_ok=True)
    shared = read(given.data, given.max_per_capture)
    lab = read(given.lab, given.max_per_capture)
    entries = [
        entry
        for entry in read_labels(given.data / "labels.json")
        if entry.kind == "pcap" and (given.ordinary or entry.family != "Benign")
    ]
    for arm in given.arm or ARMS:
        packets = joined(shared, lab) if arm == "with" else shared
        ours = np.arange(len(packets.rows)) >= len(shared.rows)
        fold = np.array([fold_of(name, given.folds) for name in packets.groups.tolist()])
        models = Models(Recipe(jobs=given.jobs), packets, given.out / "models")
        bundle, whole = models.without(np.zeros(len(fold), np.bool_))
        print(f"{arm} the lab's attacks: {len(ours):,} packets, {int(ours.sum()):,} of the lab")
        if not given.unseen_only:
            # The lab's captures are in training always: they are not what is tested on.
            made = {n: models.without((fold == n) & ~ours) for n in range(given.folds)}
            print(by_packet(shared, {n: bundle for n, (bundle, _) in made.items()}), flush=True)
            work = [(entry, made[fold_of(entry.group, given.folds)][1]) for entry in entries]
            with ProcessPoolExecutor(given.jobs) as pool:
                one = partial(replayed, data=given.data, folder=rows_of)
                print("\n".join(by_family(list(pool.map(one, work)))), flush=True)
        found = judge(bundle, _attacks(given.unseen)) > 0.5
        print(f"  unseen tools, packets found: {found.mean():.1%} of {len(found):,}")
        print("\n".join(judged(given.unseen, whole)), flush=True)


def _attacks(folder: Path) -> Any:
    corpus = read_corpus(folder).narrow(60)
    usable = corpus.labels == Label.MALICIOUS
    usable &= spread(corpus.file, usable, 500)
    return corpus.rows[usable]


if __name__ == "__main__":
    main()
