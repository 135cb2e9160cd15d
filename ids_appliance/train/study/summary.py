"""Rows of replayed captures in, the table out: by family, origins weighing alike, n of N."""

from collections.abc import Sequence
from typing import Any

from ids_appliance.train.study.intervals import bootstrap, wilson
from ids_appliance.train.study.replays import RUNS, why_missed

Row = dict[str, Any]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return per run: found by family, ordinary senders accused; and the failures with reasons."""
    families = sorted({row["family"] for row in rows if row["appliance"]["culprits"]})
    days = sum(row["ordinary_s"] for row in rows) / 86_400
    return {
        "device_days": round(days, 2),
        "runs": {
            run: {
                "families": {
                    name: _found(run, [row for row in rows if row["family"] == name])
                    for name in families
                },
                "ordinary": _wronged(run, rows, days),
            }
            for run in RUNS
        },
        "missed": [
            {
                "file": row["file"],
                "family": row["family"],
                "origin": row["origin"],
                "found": row["appliance"]["found"],
                "culprits": row["appliance"]["culprits"],
                "why": why_missed(row),
            }
            for row in rows
            if row["appliance"]["found"] < row["appliance"]["culprits"]
        ],
    }


def _found(run: str, rows: Sequence[Row]) -> dict[str, Any]:
    culprits = sum(row[run]["culprits"] for row in rows)
    found = sum(row[run]["found"] for row in rows)
    by_origin: dict[str, list[int]] = {}
    for row in rows:
        if row[run]["culprits"]:
            sums = by_origin.setdefault(row["origin"], [0, 0])
            sums[0] += row[run]["found"]
            sums[1] += row[run]["culprits"]
    shares = [hits / of for hits, of in by_origin.values()]
    misses = {origin: of - hits for origin, (hits, of) in by_origin.items()}
    worst = max(misses, key=lambda origin: misses[origin], default="")
    attacked = [row for row in rows if row[run]["culprits"]]
    delays = sorted(row[run]["delay_s"] for row in rows if row[run]["delay_s"] is not None)
    return {
        "captures": len(attacked),
        "windows": sum(row[run]["windows"] > 0 for row in attacked),
        "culprits": culprits,
        "found": found,
        "interval": wilson(found, culprits),
        "origins": len(shares),
        "mean_of_origins": sum(shares) / len(shares) if shares else None,
        "mean_interval": bootstrap(shares),
        "worst_origin": {
            "origin": worst,
            "missed": misses.get(worst, 0),
            "culprits": by_origin.get(worst, (0, 0))[1],
        },
        "delay_median_s": delays[len(delays) // 2] if delays else None,
    }


def _wronged(run: str, rows: Sequence[Row], days: float) -> dict[str, Any]:
    of = sum(row[run]["ordinary"] for row in rows)
    wronged = sum(row[run]["wronged"] for row in rows)
    return {
        "senders": of,
        "accused": wronged,
        "interval": wilson(wronged, of),
        "a_device_day": wronged / days if days else None,
        "where": [row["file"] for row in rows if row[run]["wronged"]],
    }
