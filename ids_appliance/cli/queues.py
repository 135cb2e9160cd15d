"""Counters of traffic classes in, rows of a table out: what each outgoing queue sent and holds."""

import re
from collections.abc import Mapping
from typing import Final

from ids_appliance.cli.screens import Cell

HEAD: Final = ("queue", "sent", "dropped", "waiting", "bytes")
_ORDER: Final = ("control", "priority", "normal", "suspect")


def queue_rows(counters: Mapping[str, int]) -> list[tuple[str | Cell, ...]]:
    """Return a row for each interface and class, the most urgent first; none without classes."""
    rows: list[tuple[str | Cell, ...]] = []
    found = [m[1] for name in counters if (m := re.fullmatch(r"tc_packets_(.+)/normal", name))]
    for interface in sorted(found):
        for which in _ORDER:
            sent, dropped, waiting, octets = (
                int(counters.get(f"tc_{word}_{interface}/{which}", 0))
                for word in ("packets", "dropped", "waiting", "waiting_bytes")
            )
            lost = Cell(f"{dropped:,}", "yellow" if dropped else None)
            rows.append((f"{interface} {which}", f"{sent:,}", lost, f"{waiting:,}", f"{octets:,}"))
    return rows
