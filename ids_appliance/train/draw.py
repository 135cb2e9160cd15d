"""A corpus of any size in, a fixed number of its packets out: the same ones whoever reads it.

A first pass over the parts finds, stratum by stratum, the largest key to draw (sampling.py), a
second one fetches the packets. Memory: eight bytes a packet to draw, then the packets themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.errors import LabelError
from ids_appliance.schema import N_COLUMNS
from ids_appliance.train.corpus import Corpus, Gatherer, find_parts, left_out, stop_if_wrong
from ids_appliance.train.extract import Chunk, FileReport
from ids_appliance.train.labels import Entry
from ids_appliance.train.parts import Part, Reader
from ids_appliance.train.sampling import (
    Pool,
    Smallest,
    first_of_smallest,
    packet_keys,
    record_keys,
)
from ids_appliance.train.scale import Alone, Workers
from ids_appliance.types import U64

PAPER_BENIGN: Final = 417_389
PAPER_ATTACK: Final = 559_072
PAPER_FAMILIES: Final = ("DoS", "Spoofing", "Mirai", "Recon")
PAPER_LEAVE_OUT: Final = ("*DDoS-*",)
"""The paper names four of CICIoT2023's seven categories, DDoS is another one of them."""

Classes = tuple[int | None, ...]
"""By Label: 1 malicious, 0 not, None not to be drawn."""

Stratum = tuple[str, str]
"""Name of the pool whose budget it shares, and its own."""


@dataclass(frozen=True, slots=True)
class RowsDraw:
    """So many packets, spread evenly over the origins of either class, small ones whole.

    With `once`, equal packets of an origin and class count once; without, all packets are drawn
    alike, wherever they come from.
    """

    seed: int
    rows: int
    classes: Classes
    once: bool = True
    permitted: frozenset[str] | None = None
    """Repositories to train on; others get a quarter as many rows, to be tested on. None: all."""

    @property
    def budgets(self) -> dict[str, int]:
        """Packets to draw by pool."""
        foreign = {"foreign": self.rows // 4} if self.permitted is not None else {}
        return {"ours": self.rows} | foreign

    def stratum(self, entry: Entry, label: int, family: str) -> Stratum | None:
        """Return where a packet belongs, if it may be drawn."""
        one = self.classes[label]
        if one is None:
            return None
        ours = self.permitted is None or entry.repo in self.permitted
        return ("ours" if ours else "foreign"), (f"{entry.group} {one}" if self.once else "all")


@dataclass(frozen=True, slots=True)
class PaperDraw:
    """The seed paper's packets: 417,389 benign and 559,072 of four families of attack.

    How the paper's attack packets split into families is not published. split: "equal" draws as
    many of each, what a family lacks from the others; "proportional" draws from all alike; or the
    four numbers themselves, as "DoS=N,Spoofing=N,Mirai=N,Recon=N".
    """

    seed: int
    classes: Classes
    split: str = "equal"
    once: bool = False

    @property
    def budgets(self) -> dict[str, int]:
        """Packets to draw by pool. Raises LabelError for a split that cannot be meant."""
        benign = {"benign": PAPER_BENIGN}
        if self.split in ("equal", "proportional"):
            return benign | {"attack": PAPER_ATTACK}
        try:
            own = {k.strip(): int(n) for k, n in (p.split("=") for p in self.split.split(","))}
        except ValueError as error:
            wanted = ",".join(f"{family}=N" for family in PAPER_FAMILIES)
            raise LabelError(
                f"{self.split!r} is no split: say equal, proportional or {wanted}"
            ) from error
        if set(own) != set(PAPER_FAMILIES) or min(own.values()) < 0:
            raise LabelError(f"{self.split!r} does not name each of {', '.join(PAPER_FAMILIES)}")
        if sum(own.values()) != PAPER_ATTACK:
            raise LabelError(f"{self.split!r} adds up to {sum(own.values())}, not {PAPER_ATTACK}")
        return benign | own

    def stratum(self, entry: Entry, label: int, family: str) -> Stratum | None:
        """Return where a packet belongs, if it may be drawn."""
        one = self.classes[label]
        if one == 0:
            return "benign", "benign"
        if one is None or family not in PAPER_FAMILIES:
            return None
        if self.split == "proportional":
            return "attack", "attack"
        return ("attack" if self.split == "equal" else family), family


Draw = RowsDraw | PaperDraw


@dataclass(frozen=True, slots=True)
class Reading:
    """How a corpus is read; as for `read_corpus`."""

    leave_out: tuple[str, ...] = ()
    on_error: str = "skip"
    keep_cut: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """A corpus of drawn packets, and what a card tells of how it was drawn."""

    corpus: Corpus
    facts: dict[str, Any]
    short: dict[str, tuple[int, int]]
    """Pools that hold fewer packets than asked for: (there, asked)."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """One part to go through; `last`: the largest key to fetch, None to find it."""

    part: Part
    draw: Draw
    last: dict[Stratum, int] | None = None


@dataclass(frozen=True, slots=True)
class _Sketch:
    report: FileReport
    keys: dict[Stratum, U64]
    """Smallest keys, sorted."""
    seen: dict[Stratum, int]


@dataclass(frozen=True, slots=True)
class _Fetched:
    families: tuple[str, ...]
    chunk: Chunk
    keys: U64
    strata: npt.NDArray[np.int64]
    """(n,) place in the sorted strata."""


def draw_corpus(
    root: Path,
    draw: Draw,
    reading: Reading,
    *,
    workers: Workers | None = None,
    progress: Callable[[str], None] = lambda file: None,
) -> Drawn:
    """Draw packets from a directory of captures or tables.

    progress: called for each part that has been gone through, once or twice. Raises LabelError as
    `read_corpus` does; TableError and ClusterError as the workers do.
    """
    workers = workers or Alone()
    pools = {name: Pool(n, once=draw.once) for name, n in draw.budgets.items()}
    parts = [replace(p, root=p.root.resolve()) for p in find_parts(root, on_error=reading.on_error)]
    reports = [left_out(part, reading.leave_out) for part in parts]
    wanted = [place for place, report in enumerate(reports) if report is None]
    lowest: dict[int, dict[Stratum, int]] = {}
    for number, found in workers.run(_sketch, [_Pass(parts[place], draw) for place in wanted]):
        place = wanted[number]
        progress(parts[place].entry.file)
        stop_if_wrong(found.report, reading.on_error)
        reports[place] = found.report
        if found.report.status == "cut" and not reading.keep_cut:
            continue
        lowest[place] = {stratum: int(keys[0]) for stratum, keys in found.keys.items()}
        for (pool, stratum), keys in found.keys.items():
            pools[pool].add(stratum, keys, found.seen[pool, stratum])
    last = {(p, s): key for p, pool in pools.items() for s, key in pool.last_keys().items()}
    wanted = [
        place
        for place in sorted(lowest)
        if any(key <= last.get(stratum, -1) for stratum, key in lowest[place].items())
    ]
    fetched: dict[int, _Fetched] = {}
    for number, got in workers.run(_fetch, [_Pass(parts[p], draw, last) for p in wanted]):
        progress(parts[wanted[number]].entry.file)
        fetched[wanted[number]] = got
    quotas = {(p, s): n for p, pool in pools.items() for s, n in pool.quotas().items()}
    kept = _exact([fetched[p] for p in wanted], [quotas[s] for s in sorted(last)], once=draw.once)
    gathered = Gatherer()
    for place, report in enumerate(reports):
        assert report is not None
        if place not in fetched:
            gathered.add(report, (), None)
            continue
        which, chunk = kept[wanted.index(place)], fetched[place].chunk
        packets = (chunk.rows[which], chunk.labels[which], chunk.family[which])
        gathered.add(report, fetched[place].families, packets)
    return Drawn(gathered.corpus(root), *_told(draw, pools))


def _told(draw: Draw, pools: dict[str, Pool]) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    facts: dict[str, Any] = {"seed": draw.seed, "equal_packets_once": draw.once}
    short = {}
    for name, pool in pools.items():
        quotas = pool.quotas()
        drawn = sum(quotas.values())
        facts[name] = {"asked": pool.budget, "drawn": drawn, "of_packets": pool.seen}
        if isinstance(draw, PaperDraw) and len(quotas) > 1:
            facts[name]["by_family"] = dict(sorted(quotas.items()))
        if drawn < pool.budget:
            short[name] = (drawn, pool.budget)
    if isinstance(draw, PaperDraw):
        facts["split"] = draw.split
    return facts, short


def _keyed(
    job: _Pass, reader: Reader
) -> Iterator[tuple[Chunk, dict[Stratum, tuple[npt.NDArray[np.int64], U64]]]]:
    """Yield chunks, and per stratum which packets of the chunk are of it, with their keys."""
    draw, entry = job.draw, job.part.entry
    known: dict[int, Stratum | None] = {}
    for chunk in reader.chunks():
        codes = chunk.labels.astype(np.int64) * 256 + chunk.family
        present: dict[Stratum, list[int]] = {}
        for code in np.unique(codes).tolist():
            if code not in known:
                family = reader.families[code % 256]
                known[code] = draw.stratum(entry, code // 256, family)
            if (stratum := known[code]) is not None:
                present.setdefault(stratum, []).append(code)
        out = {}
        for stratum, own in present.items():
            which = np.flatnonzero(np.isin(codes, own))
            if draw.once:
                keys = record_keys(draw.seed, "/".join(stratum), chunk.rows[which])
            else:
                keys = packet_keys(draw.seed, entry.file, chunk.frames[which])
            out[stratum] = which, keys
        yield chunk, out


def _sketch(job: _Pass) -> _Sketch:
    reader = job.part.open()
    if isinstance(reader, FileReport):
        return _Sketch(reader, {}, {})
    budgets = job.draw.budgets
    smallest: dict[Stratum, Smallest] = {}
    seen: dict[Stratum, int] = {}
    for _, keyed in _keyed(job, reader):
        for stratum, (which, keys) in keyed.items():
            if stratum not in smallest:
                smallest[stratum] = Smallest(budgets[stratum[0]], once=job.draw.once)
            smallest[stratum].add(keys)
            seen[stratum] = seen.get(stratum, 0) + len(which)
    found = {stratum: own.keys() for stratum, own in smallest.items()}
    return _Sketch(reader.report(), {s: keys for s, keys in found.items() if len(keys)}, seen)


def _fetch(job: _Pass) -> _Fetched:
    reader = job.part.open()
    if isinstance(reader, FileReport):
        raise LabelError(f"{job.part.entry.file} went {reader.status} under way: run again")
    last = job.last or {}
    order = {stratum: place for place, stratum in enumerate(sorted(last))}
    chunks: list[Chunk] = []
    keys_of: list[U64] = []
    strata: list[npt.NDArray[np.int64]] = []
    had: dict[Stratum, U64] = {}
    for chunk, keyed in _keyed(job, reader):
        for stratum, (which, keys) in keyed.items():
            if stratum not in last:
                continue
            low = keys <= np.uint64(last[stratum])
            which, keys = which[low], keys[low]
            if job.draw.once:
                # A flood of one packet would be fetched a million times.
                _, first = np.unique(keys, return_index=True)
                first = np.sort(first[~np.isin(keys[first], had.get(stratum, keys[:0]))])
                which, keys = which[first], keys[first]
                had[stratum] = np.concatenate([had.get(stratum, keys[:0]), keys])
            if len(which):
                chunks.append(chunk.select(which))
                keys_of.append(keys)
                strata.append(np.full(len(which), order[stratum], np.int64))
    return _Fetched(
        reader.families, _joined(chunks), _flat(keys_of, np.uint64), _flat(strata, np.int64)
    )


def _joined(chunks: list[Chunk]) -> Chunk:
    return Chunk(
        np.concatenate([c.rows for c in chunks]) if chunks else np.empty((0, N_COLUMNS), np.uint16),
        _flat([c.labels for c in chunks], np.uint8),
        _flat([c.family for c in chunks], np.uint8),
        _flat([c.frames for c in chunks], np.uint64),
    )


def _flat(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _exact(parts: list[_Fetched], quotas: list[int], *, once: bool) -> list[npt.NDArray[np.int64]]:
    """Return which of the fetched packets are drawn, part by part, in each part's own order."""
    chosen: list[list[npt.NDArray[np.int64]]] = [[] for _ in parts]
    for stratum, quota in enumerate(quotas):
        own = [np.flatnonzero(part.strata == stratum) for part in parts]
        keys = [part.keys[which] for part, which in zip(parts, own, strict=True)]
        for out, which, first in zip(
            chosen, own, first_of_smallest(keys, quota, once=once), strict=True
        ):
            out.append(which[first])
    return [
        which[np.argsort(part.chunk.frames[which], kind="stable")]
        for part, which in zip(parts, map(_sorted, chosen), strict=True)
    ]


def _sorted(which: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.sort(_flat(which, np.int64))
    return found
