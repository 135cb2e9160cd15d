"""Totals in, tables of at most 100 columns out."""

from collections.abc import Mapping, Sequence

from ids_appliance.telemetry.senders import Totals, sender_text


def sender_table(
    rows: Sequence[Totals], *, total: int, truth: Mapping[bytes, str] | None = None
) -> str:
    """Return a table per sender; `truth` adds a column, keyed by the row's SENDER bytes."""
    names = [sender_text(row.sender) for row in rows]
    # A MAC and a whole IPv6 address would be wider than the rest of the line.
    names = [name if len(name) < 41 else name[:39] + "…" for name in names]
    width = max(map(len, names), default=6) + 1
    n = max((len(f" {row.packets:,}") for row in rows), default=0)  # after weeks: billions
    n = max(n, len(" malicious"))
    lines = [
        f"{'sender':{width}}{'packets':>{n}}{'judged':>{n}}{'malicious':>{n}}"
        f"{'share':>8}{'mean p':>8}" + ("  truth" if truth is not None else "")
    ]
    for name, row in zip(names, rows, strict=True):
        mean = row.probability_sum / row.judged if row.judged else 0.0
        lines.append(
            f"{name:{width}}{row.packets:>{n},}{row.judged:>{n},}{row.malicious:>{n},}"
            f"{row.share:>8.1%}{mean:>8.3f}"
            + (f"  {truth.get(row.sender, '')}" if truth is not None else "")
        )
    if total > len(rows):
        lines.append(f"... and {total - len(rows):,} more senders")
    return "\n".join(lines)
