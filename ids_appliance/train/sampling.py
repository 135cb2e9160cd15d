"""Packets in, 64-bit keys out, and of keys by the stratum the smallest: a draw nobody can bend.

A key is a hash of the seed and of the packet, so who has the smallest keys depends neither on the
order in which packets are met nor on who meets them (bottom-k sampling, uniform and without
replacement: Cohen and Kaplan, PODC 2007). Keys of packets, or of records, so that equal ones of a
stratum count once.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.schema import N_FEATURES
from ids_appliance.types import U16, U64

Mask = npt.NDArray[np.bool_]
_SLACK: Final = 1 << 16


def _mix(x: U64) -> U64:
    # The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): every bit decides every bit.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _salt(seed: int, name: str) -> np.uint64:
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def spread(file: npt.NDArray[Any], usable: npt.NDArray[np.bool_], most: int) -> Mask:
    """Return (n,) which usable packets are kept if at most so many of a file are, evenly spread."""
    kept = np.zeros(len(file), np.bool_)
    for one in np.unique(file):
        places = np.flatnonzero((file == one) & usable)
        kept[places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)]] = True
    return kept


def packet_keys(seed: int, capture: str, frames: U64) -> U64:
    """Return (n,) keys of packets, by the name of their capture and their numbers in it."""
    return _mix(_mix(frames + _salt(seed, capture)) + np.uint64(0x9E3779B97F4A7C15))


def record_keys(seed: int, stratum: str, rows: U16) -> U64:
    """Return (n,) keys of records (n, 68): equal for those of one stratum that are equal in the 60
    features. Addresses would make each packet of a flood another one."""
    words = np.ascontiguousarray(rows[:, :N_FEATURES].astype("<u2", copy=False)).view("<u8")
    keys = np.full(len(rows), _salt(seed, stratum), np.uint64)
    for column in words.T:
        keys = _mix(keys ^ column) + np.uint64(0x9E3779B97F4A7C15)
    return keys


class Smallest:
    """Keeps the smallest of the keys it is given; memory: some `most` keys."""

    def __init__(self, most: int, *, once: bool) -> None:
        """once: equal keys are one."""
        self._most, self._once = most, once
        self._parts: list[U64] = []
        self._waiting = 0
        self._settled = False
        self._bar: np.uint64 | None = None

    def add(self, keys: U64) -> None:
        """Take keys in any order."""
        if self._bar is not None:
            keys = keys[keys <= self._bar]
        self._parts.append(keys)
        self._waiting += len(keys)
        self._settled = False
        if self._waiting > 2 * self._most + _SLACK:
            self.keys()

    def keys(self) -> U64:
        """Return the smallest keys, sorted."""
        if self._settled:
            return self._parts[0]
        found = np.concatenate(self._parts) if self._parts else np.empty(0, np.uint64)
        found = np.unique(found) if self._once else np.sort(found)
        found = found[: self._most].copy()
        if self._most and len(found) == self._most:
            self._bar = found[-1]
        self._parts, self._waiting, self._settled = [found], len(found), True
        return found

    def limit(self, most: int) -> None:
        """Keep fewer from now on."""
        if most < self._most:
            self._most, self._settled = most, False
            self.keys()

    def __len__(self) -> int:
        return len(self.keys())


def shares(budget: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return how much of a budget each gets: alike, but none more than it has (max-min fair).

    What does not divide evenly goes to the larger ones, equal ones by name.
    """
    out, left = {}, len(sizes)
    for name, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        out[name] = min(size, budget // left)
        budget -= out[name]
        left -= 1
    return out


class Pool:
    """Strata that share a budget; what no longer can be drawn is forgotten under way."""

    def __init__(self, budget: int, *, once: bool) -> None:
        self.budget = budget
        self.seen = 0
        """Packets met."""
        self._once = once
        self._added = 0
        self._strata: dict[str, Smallest] = {}

    def add(self, stratum: str, keys: U64, seen: int) -> None:
        """Take the smallest keys of a stratum's packets in one part, of `seen` there."""
        own = self._strata.setdefault(stratum, Smallest(self.budget, once=self._once))
        own.add(keys)
        self.seen += seen
        self._added += len(keys)
        if self._added > self.budget + _SLACK:
            self._forget()
            self._added = 0

    def _forget(self) -> None:
        quotas = self.quotas()
        if sum(quotas.values()) == self.budget:
            # Nobody's share will be larger than the largest is now: it only falls as more is met.
            most = max(quotas.values()) + 1
            for own in self._strata.values():
                own.limit(most)

    def quotas(self) -> dict[str, int]:
        """Return how many packets of each stratum are drawn, of what has been met so far."""
        return shares(self.budget, {name: len(own) for name, own in self._strata.items()})

    def last_keys(self) -> dict[str, int]:
        """Return the largest key to draw of each stratum that anything is drawn of."""
        quotas = self.quotas()
        return {s: int(self._strata[s].keys()[n - 1]) for s, n in quotas.items() if n}


def first_of_smallest(
    keys: Iterable[U64], quota: int, *, once: bool
) -> list[npt.NDArray[np.int64]]:
    """Return which packets are drawn, as indices, of one stratum's keys part by part.

    Of equal keys the first counts; once: and only that one.
    """
    parts = list(keys)
    whole = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    if once:
        _, chosen = np.unique(whole, return_index=True)
    else:
        chosen = np.argsort(whole, kind="stable")
    chosen = np.sort(chosen[:quota])
    out, begin = [], 0
    for part in parts:
        own = chosen[(chosen >= begin) & (chosen < begin + len(part))] - begin
        out.append(own)
        begin += len(part)
    return out
