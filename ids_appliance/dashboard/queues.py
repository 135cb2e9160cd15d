"""Counters of the inline mode and of the outgoing queues in, rows for charts and tables out.

Delays come as a histogram that counts since the start; what people want is the present, so the
difference between two samples is taken.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from ids_appliance.dashboard.feed import Sample
from ids_appliance.dashboard.tables import Row

_BUCKET: Final = re.compile(r"inline_delay_us_le_(\d+|inf)")
_TC: Final = re.compile(r"tc_(packets|bytes|dropped|waiting_bytes|waiting)_(.+)/(\w+)")
_INLINE: Final = ("queue_", "forward_", "inline_")
SHARES: Final = (0.5, 0.9, 0.99)


def delay_rows(samples: Sequence[Sample]) -> list[Row]:
    """Return rows {up_to_us, packets} of the packets between the first sample and the last, or, of
    a single sample, since the start; none where no packet waits for its verdict.

    up_to_us: upper bound of the bucket, None for the last one, which has none."""
    if not samples:
        return []
    latest = samples[-1].counters
    first = samples[0].counters if len(samples) > 1 else {}
    bounds = [match[1] for name in latest if (match := _BUCKET.fullmatch(name))]
    rows: list[Row] = []
    before = 0
    for bound in sorted(bounds, key=lambda text: float(text)):
        name = f"inline_delay_us_le_{bound}"
        so_far = max(0, latest[name] - first.get(name, 0))
        up_to = None if bound == "inf" else int(bound)
        rows.append({"up_to_us": up_to, "packets": max(0, so_far - before)})
        before = so_far
    return rows


def percentiles(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return (p50, "at most 80 µs") and so on; none where no packet was counted."""
    total = sum(row["packets"] for row in rows)
    found = []
    for share in SHARES if total else ():
        so_far = 0
        for row in rows:
            so_far += row["packets"]
            if so_far >= share * total:
                up_to = row["up_to_us"]
                text = f"≤ {up_to:,} µs" if up_to is not None else "over 1 s"
                found.append((f"p{100 * share:g}", text))
                break
    return found


def inline_rows(counters: Mapping[str, int]) -> list[Row]:
    """Return rows {what, packets} of the queue in which packets wait for their verdict."""
    return [
        {"what": name.replace("_", " "), "packets": total}
        for name, total in counters.items()
        if name.startswith(_INLINE) and not name.startswith("inline_delay_")
    ]


def class_rows(counters: Mapping[str, int]) -> list[Row]:
    """Return rows of the queues of outgoing interfaces: one per interface and class."""
    found: dict[tuple[str, str], Row] = {}
    for name, total in counters.items():
        if match := _TC.fullmatch(name):
            what, interface, which = match.groups()
            row = found.setdefault(
                (interface, which), {"interface": interface, "class": which.replace("_", " ")}
            )
            row[what.replace("_", " ")] = total
    return list(found.values())
