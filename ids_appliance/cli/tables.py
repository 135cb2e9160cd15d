"""Totals in, tables of at most 100 columns out."""

from collections.abc import Mapping, Sequence

from ids_appliance.telemetry.senders import Totals, sender_text


def sender_table(
    rows: Sequence[Totals], *, total: int, truth: Mapping[bytes, str] | None = None
) -> str:
    """Return a table per sender; `truth` adds a column, keyed by the row's SENDER bytes."""
    lines = [
        f"{'sender':45}{'packets':>10}{'judged':>10}{'malicious':>11}{'share':>8}{'mean p':>8}"
        + ("  truth" if truth is not None else "")
    ]
    for row in rows:
        mean = row.probability_sum / row.judged if row.judged else 0.0
        lines.append(
            f"{sender_text(row.sender)[:44]:45}{row.packets:>10,}{row.judged:>10,}"
            f"{row.malicious:>11,}{row.share:>8.1%}{mean:>8.3f}"
            + (f"  {truth.get(row.sender, '')}" if truth is not None else "")
        )
    if total > len(rows):
        lines.append(f"... and {total - len(rows):,} more senders")
    return "\n".join(lines)
