"""Rows in, charts for a browser out."""

from collections.abc import Sequence
from typing import Final

import altair
import pandas

from ids_appliance.dashboard.tables import Row

HEIGHT: Final = 220
BAR: Final = 26
"""Pixels of a row of the timeline."""


def over_time(rows: Sequence[Row], *, title: str) -> altair.Chart:
    """Return lines of rows {ago_s, what, per_s}."""
    chart: altair.Chart = (
        altair.Chart(_table(rows, "ago_s", "what", "per_s"))
        .mark_line(interpolate="step-after")
        .encode(
            x=altair.X("ago_s:Q", title="seconds ago", scale=altair.Scale(nice=False)),
            y=altair.Y("per_s:Q", title=title),
            color=altair.Color("what:N", title=None),
            tooltip=["what:N", "per_s:Q", "ago_s:Q"],
        )
        .properties(height=HEIGHT)
    )
    return chart


def timeline(rows: Sequence[Row]) -> altair.Chart:
    """Return windows as bars from their opening to their end, a row per rule."""
    columns = ("number", "rule", "cause", "from", "until", "judged", "malicious", "decisions")
    rules = len({row["rule"] for row in rows}) or 1
    chart: altair.Chart = (
        altair.Chart(_table(rows, *columns, "open"))
        .mark_bar(cornerRadius=2)
        .encode(
            x=altair.X(
                "from:T",
                title=None,
                scale=altair.Scale(type="utc"),
                axis=altair.Axis(format="%H:%M:%S", labelOverlap=True),
            ),
            x2="until:T",
            y=altair.Y("rule:N", title=None, axis=altair.Axis(labelLimit=240)),
            color=altair.Color("open:N", title="still open"),
            tooltip=[f"{name}:N" for name in columns],
        )
        .properties(height=BAR * rules + 60)
    )
    return chart


def buckets(rows: Sequence[Row]) -> altair.Chart:
    """Return a histogram of rows {up_to_us, packets}."""
    named = [
        {
            "up to µs": "more" if row["up_to_us"] is None else f"{row['up_to_us']:,}",
            "packets": row["packets"],
        }
        for row in rows
    ]
    chart: altair.Chart = (
        altair.Chart(_table(named, "up to µs", "packets"))
        .mark_bar()
        .encode(
            x=altair.X("up to µs:N", sort=None),
            y="packets:Q",
            tooltip=["up to µs:N", "packets:Q"],
        )
        .properties(height=HEIGHT)
    )
    return chart


def stacked(rows: Sequence[Row], *, bar: str, part: str, size: str) -> altair.Chart:
    """Return bars that are made of parts."""
    chart: altair.Chart = (
        altair.Chart(_table(rows, bar, part, size))
        .mark_bar()
        .encode(
            x=altair.X(f"{bar}:O", title=bar),
            y=altair.Y(f"{size}:Q", title=size),
            color=altair.Color(f"{part}:N", title=None),
            tooltip=[f"{name}:N" for name in (bar, part, size)],
        )
        .properties(height=HEIGHT)
    )
    return chart


def _table(rows: Sequence[Row], *columns: str) -> pandas.DataFrame:
    """Return the columns as a table, which has them even without rows."""
    return pandas.DataFrame([[row[name] for name in columns] for row in rows], columns=[*columns])
