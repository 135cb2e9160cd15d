"""Rows in, charts for a browser out: a table and its Vega-Lite specification.

Written as plain objects: building them with Altair costs 35 ms of processor time a chart, every two
seconds and on a small machine several times that. Source: vega.github.io/vega-lite, version 5.
"""

from collections.abc import Sequence
from typing import Any, Final

import pandas

from ids_appliance.dashboard.tables import Row

Chart = tuple[pandas.DataFrame, dict[str, Any]]
"""What `st.vega_lite_chart` takes."""
HEIGHT: Final = 220
BAR: Final = 26
"""Pixels of a row of the timeline."""


def over_time(rows: Sequence[Row], *, title: str) -> Chart:
    """Return lines of rows {ago_s, what, per_s}."""
    encoding = {
        "x": _field("ago_s", "quantitative", title="seconds ago", scale={"nice": False}),
        "y": _field("per_s", "quantitative", title=title),
        "color": _field("what", "nominal", title=None),
        "tooltip": [
            _field("what", "nominal"),
            _field("per_s", "quantitative"),
            _field("ago_s", "quantitative"),
        ],
    }
    line = {"type": "line", "interpolate": "step-after"}
    return _table(rows, "ago_s", "what", "per_s"), _spec(line, encoding)


def timeline(rows: Sequence[Row]) -> Chart:
    """Return windows as bars from their opening to their end, a row per rule."""
    columns = ("number", "rule", "cause", "from", "until", "judged", "malicious", "decisions")
    rules = len({row["rule"] for row in rows}) or 1
    encoding = {
        "x": _field(
            "from",
            "temporal",
            title=None,
            scale={"type": "utc"},
            axis={"format": "%H:%M:%S", "labelOverlap": True},
        ),
        "x2": {"field": "until"},
        "y": _field("rule", "nominal", title=None, axis={"labelLimit": 240}),
        "color": _field("open", "nominal", title="still open"),
        "tooltip": [_field(name, "nominal") for name in columns],
    }
    bar = {"type": "bar", "cornerRadius": 2}
    return _table(rows, *columns, "open"), _spec(bar, encoding, height=BAR * rules + 60)


def buckets(rows: Sequence[Row]) -> Chart:
    """Return a histogram of rows {up_to_us, packets}."""
    named = [
        {
            "up to µs": "more" if row["up_to_us"] is None else f"{row['up_to_us']:,}",
            "packets": row["packets"],
        }
        for row in rows
    ]
    encoding = {
        "x": _field("up to µs", "nominal", sort=None),
        "y": _field("packets", "quantitative"),
        "tooltip": [_field("up to µs", "nominal"), _field("packets", "quantitative")],
    }
    return _table(named, "up to µs", "packets"), _spec({"type": "bar"}, encoding)


def stacked(rows: Sequence[Row], *, bar: str, part: str, size: str) -> Chart:
    """Return bars that are made of parts."""
    encoding = {
        "x": _field(bar, "ordinal", title=bar),
        "y": _field(size, "quantitative", title=size),
        "color": _field(part, "nominal", title=None),
        "tooltip": [_field(name, "nominal") for name in (bar, part, size)],
    }
    return _table(rows, bar, part, size), _spec({"type": "bar"}, encoding)


def _field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"field": name, "type": kind, **more}


def _spec(
    mark: dict[str, Any], encoding: dict[str, Any], *, height: int = HEIGHT
) -> dict[str, Any]:
    return {"mark": mark, "encoding": encoding, "height": height}


def _table(rows: Sequence[Row], *columns: str) -> pandas.DataFrame:
    """Return the columns as a table, which has them even without rows."""
    return pandas.DataFrame([[row[name] for name in columns] for row in rows], columns=[*columns])
