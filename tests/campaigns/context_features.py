"""What counters of a packet's sender would add to the record, on origins that were not learnt from.

    python -m tests.campaigns.context_features --data DIR [--json FILE]

Seven counters of the sender (its IPv4 address) in the running window of five seconds, as they stand
before the packet: packets, distinct destination ports and hosts, SYNs, how many of these were
answered and refused, bytes. Every packet of a capture counts, at most so many of a capture are
learnt from and judged. Forests of the shipped size on the 20 best features of the record alone,
with the counters, and on the counters alone; origins left out in folds.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import IdsError
from ids_appliance.schema import COLUMNS, N_COLUMNS, N_FEATURES
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.families.making import make
from ids_appliance.train.fit import top_features, weigh
from ids_appliance.train.labels import Entry, Label, Labeller, read_labels
from ids_appliance.types import F64, SENDER, U16, Outcome
from tests.campaigns.size_curve import fold_of, options, worth

COUNTERS: Final = ("packets", "ports", "hosts", "syns", "answered", "refused", "bytes")
WINDOW_NS: Final = 5 * 10**9
MOST: Final = 65_535
NAMES: Final = [column.name for column in COLUMNS]
TCP: Final = 6
SYN, RST, ACK = 2, 4, 16


@dataclass(slots=True)
class Window:
    """What a sender has done in the running window."""

    number: int = -1
    packets: int = 0
    syns: int = 0
    answered: int = 0
    refused: int = 0
    n_bytes: int = 0
    ports: set[int] = field(default_factory=set)
    hosts: set[int] = field(default_factory=set)

    def numbers(self) -> tuple[int, ...]:
        """Return COUNTERS."""
        counted = (self.packets, len(self.ports), len(self.hosts), self.syns)
        return (*counted, self.answered, self.refused, min(self.n_bytes // 64, MOST))


def context(rows: U16, times: npt.NDArray[Any], senders: dict[int, Window]) -> U16:
    """Return (n, 7) COUNTERS before each packet; senders: the windows, changed."""
    at = {name: NAMES.index(name) for name in ("dst_port", "proto", "length", "tcp_flags")}
    octets = [[NAMES.index(f"{end}_octet_{i}") for i in range(4)] for end in ("src", "dst")]
    sources, targets = (
        (rows[:, own].astype(np.int64) << np.array([24, 16, 8, 0])).sum(axis=1).tolist()
        for own in octets
    )
    columns = [rows[:, at[name]].tolist() for name in ("dst_port", "proto", "length", "tcp_flags")]
    numbers = (times // WINDOW_NS).tolist()
    out = np.zeros((len(rows), len(COUNTERS)), np.uint16)
    for i, (source, target, number) in enumerate(zip(sources, targets, numbers, strict=True)):
        if not source:
            continue
        port, proto, length, flags = (column[i] for column in columns)
        own = senders[source]
        if own.number != number:
            own = senders[source] = Window(number)
        out[i] = own.numbers()
        own.packets = min(own.packets + 1, MOST)
        own.n_bytes += length
        if len(own.ports) < MOST:
            own.ports.add(port)
            own.hosts.add(target)
        if proto != TCP or not flags & (SYN | RST):
            continue
        if flags & SYN and not flags & ACK:
            own.syns = min(own.syns + 1, MOST)
            continue
        other = senders[target]
        if other.number == number:
            other.answered = min(other.answered + bool(flags & SYN), MOST)
            other.refused = min(other.refused + bool(flags & RST), MOST)
    return out


def capture(
    data: Path, entry: Entry, most: int
) -> Iterator[tuple[U16, npt.NDArray[np.uint8], U16]]:
    """Yield records, classes and counters of a capture's packets, at most so many in all."""
    labeller, faults = Labeller(entry), np.zeros(len(COUNTER_NAMES), np.uint64)
    senders: dict[int, Window] = defaultdict(Window)
    parts = []
    try:
        for batch in CaptureFile(data / entry.file).batches():
            n = len(batch.frames)
            rows, outcomes = np.empty((n, N_COLUMNS), np.uint16), np.empty(n, np.uint8)
            host = HostIdentity()
            extract(batch.data, batch.frames, host, rows, np.empty(n, SENDER), outcomes, faults)
            labels, _ = labeller.label(batch)
            judged = np.flatnonzero(outcomes == Outcome.JUDGED)
            told = context(rows[judged], batch.frames["timestamp_ns"][judged], senders)
            own = labels[judged] <= Label.MALICIOUS
            parts.append((rows[judged][own], labels[judged][own], told[own]))
    except IdsError as error:
        print(f"{entry.file}: {error}")
    if not parts:
        return
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    for label in (Label.BENIGN, Label.MALICIOUS):
        places = np.flatnonzero(whole[1] == label)
        if len(places):
            few = places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)]
            yield whole[0][few], (whole[1][few] == Label.MALICIOUS).astype(np.uint8), whole[2][few]


def read(data: Path, most: int) -> tuple[Packets, U16]:
    """Return the packets of all captures, and (n, 7) their counters."""
    rows, classes, told, groups, families = [], [], [], [], []
    for entry in read_labels(data / "labels.json"):
        if entry.kind != "pcap" or not (data / entry.file).is_file():
            continue
        for r, c, t in capture(data, entry, most):
            rows.append(r[:, :N_FEATURES])
            classes.append(c)
            told.append(t)
            groups += [entry.group] * len(c)
            families += [entry.family] * len(c)
    packets = Packets(
        np.concatenate(rows), np.concatenate(classes), np.array(groups), np.array(families)
    )
    return packets, np.concatenate(told)


def judged(packets: Packets, told: U16, *, folds: int, jobs: int) -> dict[str, F64]:
    """Return per arm (n,) P(malicious) by the forest that has not seen a packet's origin."""
    fold = np.array([fold_of(name, folds) for name in packets.groups.tolist()])
    said = {name: np.zeros(len(fold)) for name in ("record", "record and counters", "counters")}
    for number in range(folds):
        train, test = fold != number, fold == number
        ranking = _fit(packets.rows, packets, train, jobs=jobs)
        best = packets.rows[:, top_features(ranking)]
        for name, columns in zip(said, (best, np.hstack([best, told]), told), strict=True):
            forest = _fit(columns, packets, train, jobs=jobs)
            said[name][test] = forest.predict_proba(columns[test].astype(np.float64))[:, 1]
        print(f"fold {number + 1} of {folds}", flush=True)
    return said


def _fit(columns: U16, packets: Packets, train: npt.NDArray[np.bool_], *, jobs: int) -> Any:
    rows, classes = columns[train], packets.classes[train]
    chosen, share = weigh("origin", rows, classes, packets.groups[train])
    pipeline = make("forest", trees=50, leaves=128, seed=0, jobs=jobs)
    with threadpool_limits(1, user_api="blas"):
        pipeline.fit(
            rows[chosen].astype(np.float64),
            classes[chosen],
            randomforestclassifier__sample_weight=share,
        )
    return pipeline


def main() -> None:
    parser = options(__doc__, folds=5, most=500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    packets, told = read(given.data, given.max_per_capture)
    said = judged(packets, told, folds=given.folds, jobs=given.jobs)
    print("| forest on | found | flagged | found at 1 % flagged | ROC area |\n" + "|---" * 5 + "|")
    found: dict[str, Any] = {}
    for name, own in said.items():
        w = found[name] = worth(packets, own)
        cells = [f"{w[key]:.1%}" for key in ("found", "flagged", "found_at_rate")]
        print("| " + " | ".join([name, *cells, f"{w['roc_area']:.3f}"]) + " |")
    for family in sorted(set(packets.families[packets.classes == 1].tolist())):
        own = (packets.classes == 0) | (packets.families == family)
        some = packets.take(own)
        by = {name: worth(some, one[own]) for name, one in said.items()}
        found[family] = by
        print(f"{family}: " + ", ".join(f"{n} {w['found_at_rate']:.1%}" for n, w in by.items()))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
