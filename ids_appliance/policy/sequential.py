"""Judged batches and triggers in, findings about senders out: the default policy, `sequential`.

Evidence is added up per sender (ext/evidence.pyx) and compared with calibrated bounds. A trigger
enters as prior log-odds and never decides alone. Identifiers: policy.kind = "sequential".
"""

from typing import Any, Final

import numpy as np

from ids_appliance import config
from ids_appliance._evidence import EvidenceTable
from ids_appliance.policy.bounds import Bounds
from ids_appliance.types import F64, SENDER, U64, Finding, JudgedBatch, Records, TriggerEvent

FLOOD_SLOTS: Final = 16
Crossing = tuple[bytes, int, bool, float, int, tuple[tuple[int, float, int], ...], int, bytes]
"""What an EvidenceTable reports; see its `add`."""

MAX_RULES: Final = 32
"""Rules remembered for one sender in a window; there are not so many."""


class SequentialPolicy:
    """`types.Policy`: one evidence table, and which triggers named whom in the present window."""

    def __init__(self, policy: config.Policy, bounds: Bounds) -> None:
        self.upper = policy.upper or bounds.upper
        self.lower = policy.lower
        self._priors = {**bounds.priors, **policy.priors}
        self._max_senders = policy.max_senders
        self._floods: Records = np.zeros(FLOOD_SLOTS, SENDER)
        self._named: dict[bytes, dict[str, float]] = {}
        self._unnamed = 0
        self._table = EvidenceTable(
            max_senders=policy.max_senders,
            cells_per_sender=policy.cells_per_sender,
            clip=policy.clip,
            cell_weight=policy.cell_weight,
            upper=self.upper,
            lower=self.lower,
            half_life_s=policy.half_life_s,
            prior_logit=bounds.prior_logit,
        )

    def notice(self, event: TriggerEvent) -> list[Finding]:
        """Let a trigger weigh on the sender it names, once per rule and window."""
        if event.sender is None:
            return []
        rules = self._named.get(event.sender)
        if rules is None:
            if len(self._named) >= self._max_senders:
                self._unnamed += 1
                return []
            rules = self._named[event.sender] = {}
        if event.rule in rules or len(rules) >= MAX_RULES:
            return []
        rules[event.rule] = self._priors.get(event.rule, 0.0)
        crossing = self._table.notice(event.sender, event.timestamp_ns, rules[event.rule])
        return [] if crossing is None else [self._finding(crossing)]

    def weigh(self, batch: JudgedBatch) -> list[Finding]:
        """Add a batch's evidence; the order of its packets in memory does not matter."""
        if batch.piece is not None:
            crossings = self._table.add_judged(batch.piece)
        else:
            crossings = self._table.add(
                batch.frames,
                batch.senders,
                batch.outcomes,
                batch.probabilities,
                batch.cells,
                self._floods,
            )
        return [self._finding(crossing) for crossing in crossings]

    def forget(self, sender: bytes) -> None:
        """Begin anew with a sender."""
        self._table.forget(sender)
        self._named.pop(sender, None)

    def set_floods(self, records: Records) -> None:
        """Say which FLOOD record each slot of Standing.FLOOD stands for: (16,) SENDER, zeros where
        there is none; slot 0 is never used."""
        self._floods = np.array(records, SENDER)
        self._table.set_floods(self._floods)

    def new_window(self) -> None:
        """Forget which triggers named whom; what they brought fades with the rest."""
        self._named.clear()
        self._table.new_window()

    def why(self, sender: bytes) -> dict[str, Any]:
        """Return what stands for and against a sender (canonical SENDER bytes): the score and its
        parts in nats, the triggers, and the cells that weigh most; {} where nothing is known."""
        known = self._table.score(sender)
        if known is None:
            return {}
        known["cells"] = [
            {"cell": f"{cell:016x}", "log_odds": one, "packets": packets, "weighs": weighs}
            for cell, one, packets, weighs in known["cells"][:10]
        ]
        triggers = dict(self._named.get(sender, {}))
        return known | {"upper": self.upper, "lower": self.lower, "triggers": triggers}

    def peaks(self) -> tuple[Records, F64, U64]:
        """Return all senders with evidence: (n,) SENDER, (n,) the highest score each ever had,
        (n,) the packets that weighed on it."""
        return self._table.peaks()

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        return self._table.counters() | {"evidence_triggers_past_cap": self._unnamed}

    def _finding(self, crossing: Crossing) -> Finding:
        sender, timestamp_ns, malicious, score, packets, cells, standing, address = crossing
        return Finding(
            sender=sender,
            timestamp_ns=timestamp_ns,
            malicious=malicious,
            score=score,
            bound=self.upper if malicious else self.lower,
            rules=tuple(self._named.get(sender, ())),
            packets=packets,
            cells=cells,
            standing=standing,
            address=address,
            reason=_reason(cells) if malicious else "its packets are ordinary",
        )


def _reason(cells: tuple[tuple[int, float, int], ...]) -> str:
    if not cells:
        return "no packet accuses it"
    _, one, packets = cells[0]
    return f"the heaviest of its cells weighs {one:.1f} a packet and came {packets:,} times"
