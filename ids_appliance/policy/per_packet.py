"""Judged batches in, a finding about every sender of a malicious packet out: S1's published way.

A verdict of 1 decides about its sender at once; no evidence, no priors, nobody is ever cleared.
Identifiers: policy.kind = "per_packet", which `profile = "paper"` selects (S1: C. Tao, M. Bandai,
Collaborative packet-level IDS for IoT environment, operation steps 2 and 3).
"""

import math
from typing import Any, Final

import numpy as np

from ids_appliance import config
from ids_appliance._evidence import canonical_senders
from ids_appliance.types import SENDER, Finding, JudgedBatch, Outcome, Records, TriggerEvent

CERTAIN: Final = 64.0
"""Log-odds that stand for a probability of 0 or 1."""


class PerPacketPolicy:
    """`types.Policy`: the forest's verdict about one packet stands for its sender."""

    def __init__(self, policy: config.Policy) -> None:
        self._max_senders = policy.max_senders
        self._named: dict[bytes, tuple[str, ...]] = {}
        self._last: dict[bytes, Finding] = {}
        self._findings = 0

    def notice(self, event: TriggerEvent) -> list[Finding]:
        """Remember the rule; a trigger only opens the window, it never judges."""
        if event.sender is not None:
            rules = self._named.get(event.sender, ())
            if event.rule not in rules and (rules or len(self._named) < self._max_senders):
                self._named[event.sender] = (*rules, event.rule)
        return []

    def weigh(self, batch: JudgedBatch) -> list[Finding]:
        """Return one finding per sender of a packet judged malicious, in order of its first one.

        Answers and the packets of a flood count like all others, as published."""
        guilty = np.flatnonzero((batch.outcomes == Outcome.JUDGED) & (batch.verdicts == 1))
        if not len(guilty):
            return []
        seen = batch.senders[guilty]
        keys = canonical_senders(seen).view(f"V{SENDER.itemsize}")
        unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
        nobody = bytes(SENDER.itemsize)
        findings = []
        for i in np.argsort(first, kind="stable").tolist():
            sender = unique[i].tobytes()
            if sender != nobody:
                at = int(guilty[first[i]])
                findings.append(self._finding(batch, sender, at, int(counts[i])))
        for finding in findings:
            self._last.pop(finding.sender, None)
            if len(self._last) >= self._max_senders:
                self._last.pop(next(iter(self._last)))
            self._last[finding.sender] = finding
        self._findings += len(findings)
        return findings

    def forget(self, sender: bytes) -> None:
        """Begin anew with a sender."""
        self._named.pop(sender, None)
        self._last.pop(sender, None)

    def set_floods(self, records: Records) -> None:
        """Nothing: every packet counts against its own sender."""

    def new_window(self) -> None:
        """Forget which triggers named whom."""
        self._named.clear()

    def why(self, sender: bytes) -> dict[str, Any]:
        """Return the latest finding about a sender; {} where there is none."""
        last = self._last.get(sender)
        if last is None:
            return {}
        return {
            "score": last.score,
            "upper": last.bound,
            "packets": last.packets,
            "timestamp_ns": last.timestamp_ns,
            "standing": last.standing,
            "address": last.address,
            "cells": [
                {"cell": f"{cell:016x}", "log_odds": one, "packets": packets, "weighs": one}
                for cell, one, packets in last.cells
            ],
            "triggers": dict.fromkeys(self._named.get(sender, ()), 0.0),
        }

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        return {"evidence_crossed": self._findings, "evidence_senders": len(self._last)}

    def _finding(self, batch: JudgedBatch, sender: bytes, at: int, packets: int) -> Finding:
        p = float(batch.probabilities[at])
        # A forest may be certain; a finite number is easier to print and to compare.
        log_odds = math.log(p / (1.0 - p)) if 0.0 < p < 1.0 else math.copysign(CERTAIN, p - 0.5)
        seen = batch.senders[at]
        size = {4: 4, 6: 16}.get(int(seen["family"]), 0)
        return Finding(
            sender=sender,
            timestamp_ns=int(batch.frames["timestamp_ns"][at]),
            malicious=True,
            score=log_odds,
            bound=0.0,
            rules=self._named.get(sender, ()),
            packets=packets,
            cells=((int(batch.cells[at]), log_odds, packets),),
            standing=int(batch.frames["standing"][at]),
            address=seen["address"].tobytes()[:size],
            reason=f"a packet was judged malicious (probability {p:.3f})",
        )
