"""Judged packets in, sums of evidence out: the slow twin of ext/evidence.pyx.

One packet at a time, dictionaries without a cap on senders, and the shared entry beyond
`cells_per_sender`. It shares no line with the compiled one.
"""

import math
from dataclasses import dataclass, field
from typing import Any

ONE = 4096
ANSWER = 1


def canonical(sender: Any) -> bytes | None:
    """Return the canonical SENDER bytes of a SENDER record; None where nobody can be named."""
    out = sender.copy()
    family = int(sender["family"])
    if sender["side"] == 0 and sender["mac"].any():
        out["family"] = 0
        out["address"] = 0
        return out.tobytes()
    length = 4 if family == 4 else 16
    if family not in (4, 6) or not sender["address"][:length].any():
        return None
    out["mac"] = 0
    out["address"][length:] = 0
    if sender["side"] == 1:
        out["ifindex"] = 0
        if family == 6:
            out["address"][8:] = 0
    return out.tobytes()


@dataclass
class Cell:
    value: int = 0
    one: int = 0
    packets: int = 0


@dataclass
class Sender:
    tick: int
    cells: dict[int, Cell] = field(default_factory=dict)
    shared: Cell = field(default_factory=Cell)
    prior: int = 0
    credit: int = 0
    gained: int = 0
    peak: int = 0
    packets: int = 0
    crossings: int = 0
    cleared: bool = False
    standing: int = 0
    last_ns: int = 0

    @property
    def accused(self) -> int:
        return self.shared.value + sum(cell.value for cell in self.cells.values())

    @property
    def score(self) -> int:
        return self.accused + self.prior - self.credit


class Evidence:
    """Parameters as EvidenceTable, without max_senders."""

    def __init__(
        self,
        *,
        cells_per_sender: int,
        clip: float,
        cell_weight: float,
        upper: float,
        lower: float,
        half_life_s: float,
        prior_logit: float,
    ) -> None:
        self.max_cells = cells_per_sender
        self.clip = clip
        self.weight = math.floor(cell_weight * ONE + 0.5)
        self.upper = math.floor(upper * ONE + 0.5)
        self.lower = math.floor(lower * ONE + 0.5)
        packet = math.floor(clip * ONE + 0.5)
        self.packet = packet
        self.max_credit = packet - self.lower if self.lower else 0
        self.max_prior = max(0, self.upper - packet - 1)
        self.half_life = half_life_s
        self.prior_logit = prior_logit
        self.senders: dict[bytes, Sender] = {}
        self.answers = self.nameless = 0

    def quantise(self, p: float) -> int:
        if math.isnan(p):
            return 0
        if p <= 0 or p >= 1:
            odds = math.copysign(math.inf, p - 0.5)
        else:
            odds = math.log(p / (1 - p)) - self.prior_logit
        return math.floor(max(-self.clip, min(self.clip, odds)) * ONE + 0.5)

    def fade(self, s: Sender, tick: int) -> None:
        age, horizon = tick - s.tick, int(32 * self.half_life) + 2
        if age <= 0:
            s.tick = tick if -age > horizon else s.tick
            return
        s.tick = tick
        factor = min(2**32 - 1, int(2 ** (32 - age / self.half_life) + 0.5))
        if age >= horizon:
            factor = 0
        for cell in (*s.cells.values(), s.shared):
            cell.value = cell.value * factor >> 32
        s.cells = {hash_: cell for hash_, cell in s.cells.items() if cell.value}
        s.shared = s.shared if s.shared.value else Cell()
        s.prior = s.prior * factor >> 32
        s.credit = s.credit * factor >> 32

    def add(
        self, frames: Any, senders: Any, outcomes: Any, ps: Any, cells: Any, floods: Any
    ) -> list[tuple[bytes, int, bool, float]]:
        crossings = []
        for i in sorted(range(len(frames)), key=lambda i: (int(frames["number"][i]), i)):
            if outcomes[i] != 0:
                continue
            standing = int(frames["standing"][i])
            if standing >> 4:
                key = (
                    floods[standing >> 4].tobytes() if floods["side"][standing >> 4] == 2 else None
                )
            elif standing & ANSWER:
                self.answers += 1
                continue
            else:
                key = canonical(senders[i])
            if key is None:
                self.nameless += 1
                continue
            ts = int(frames["timestamp_ns"][i])
            s = self.senders.setdefault(key, Sender(ts // 10**9))
            self.fade(s, ts // 10**9)
            s.packets += 1
            s.standing, s.last_ns = standing, ts
            one = self.quantise(float(ps[i]))
            if one > 0:
                self.accuse(s, int(cells[i]), one)
            else:
                s.credit = min(s.credit - one, self.most_credit(s))
            s.peak = max(s.peak, s.score)
            crossings += self.crossing(key, s, ts)
        return crossings

    def most_credit(self, s: Sender) -> int:
        return max(self.max_credit - s.prior, self.packet) if self.lower else 0

    def accuse(self, s: Sender, hash_: int, one: int) -> None:
        if hash_ not in s.cells and len(s.cells) < self.max_cells:
            s.cells[hash_] = Cell()
        cell = s.cells.get(hash_, s.shared)
        cell.packets += 1
        cell.one = max(cell.one, one)
        given = max(0, min(one, (cell.one * self.weight >> 12) - cell.value))
        cell.value += given
        s.gained += given

    def notice(self, key: bytes, ts: int, logodds: float) -> list[tuple[bytes, int, bool, float]]:
        s = self.senders.setdefault(key, Sender(ts // 10**9))
        self.fade(s, ts // 10**9)
        before = s.prior
        s.prior = max(before, min(before + math.floor(logodds * ONE + 0.5), self.max_prior))
        s.gained += s.prior - before
        s.credit = min(s.credit, self.most_credit(s))
        s.peak = max(s.peak, s.score)
        s.last_ns = max(s.last_ns, ts)
        return self.crossing(key, s, ts)

    def crossing(self, key: bytes, s: Sender, ts: int) -> list[tuple[bytes, int, bool, float]]:
        if s.score >= self.upper and s.gained >= self.upper:
            s.gained = 0
            s.crossings += 1
            return [(key, ts, True, s.score / ONE)]
        if self.lower and s.score <= self.lower and not s.cleared:
            s.cleared = True
            return [(key, ts, False, s.score / ONE)]
        return []

    def new_window(self) -> None:
        for s in self.senders.values():
            s.cleared = False

    def state(self) -> dict[bytes, dict[str, Any]]:
        """Everything comparable, by sender."""
        return {
            key: {
                "score": s.score / ONE,
                "peak": s.peak / ONE,
                "accused": s.accused / ONE,
                "prior": s.prior / ONE,
                "credit": s.credit / ONE,
                "gained": s.gained / ONE,
                "shared": s.shared.value / ONE,
                "packets": s.packets,
                "crossings": s.crossings,
                "timestamp_ns": s.last_ns,
                "standing": s.standing,
                "cells": {h: (c.one / ONE, c.packets, c.value / ONE) for h, c in s.cells.items()},
            }
            for key, s in self.senders.items()
        }
