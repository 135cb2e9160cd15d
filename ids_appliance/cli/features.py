"""`ids-appliance features`: captures in, packet records out."""

import json
import sys

import click
import numpy as np

from ids_appliance import assemble
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.cli.identity import identity, identity_options
from ids_appliance.schema import FEATURE_NAMES, N_FEATURES
from ids_appliance.types import SENDER, U8, U16, U64, FrameBatch, Outcome


@click.command()
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    help="How to print the records; csv unless only --stats is asked for.",
)
@click.option("--stats", is_flag=True, help="Print the counters: what was read, what was odd.")
@click.option("--with-name", is_flag=True, help="Put the capture's name in front of every record.")
@identity_options
def command(
    captures: tuple[str, ...],
    form: str | None,
    stats: bool,
    with_name: bool,
    macs: list[bytes],
    addresses: list[bytes],
) -> None:
    """Print the 60 features of every packet of a capture (pcap or pcapng, plain or gzip).

    One row per packet that can be judged: `frame` is the number of the frame in the file, the
    other columns are described in docs/features.md. A damaged capture is read as far as it goes,
    its error is printed last, and the exit code is 2.

    \b
    Examples:
      ids-appliance features lan.pcap.gz --format csv > lan.csv
      ids-appliance features *.pcap --stats
    """
    form = form or (None if stats else "csv")
    host = identity(macs, addresses)
    parsed = np.zeros(len(COUNTER_NAMES), dtype=np.uint64)
    outcomes = np.zeros(len(Outcome), dtype=np.int64)
    totals: dict[str, int] = {}
    problems = []
    if form == "csv":
        click.echo(",".join((("capture",) if with_name else ()) + ("frame", *FEATURE_NAMES)))
    for path in captures:
        source = assemble.capture_file(path)
        try:
            for batch in source.batches():
                if batch is not None:
                    rows, what = _records(batch, host, parsed)
                    outcomes += np.bincount(what, minlength=len(Outcome))
                    if form is not None:
                        _print(batch, rows, what, form, path if with_name else None)
        finally:
            source.close()
        for name, value in source.counters().items():
            totals[name] = totals.get(name, 0) + value
        if source.problem:
            problems.append(source.problem)
    if stats:
        totals |= {n: int(v) for n, v in zip(COUNTER_NAMES, parsed, strict=True)}
        for outcome in (Outcome.JUDGED, Outcome.UNPARSABLE, Outcome.OWN):
            totals[outcome.name.lower()] = int(outcomes[outcome])
        for name, value in totals.items():
            click.echo(f"{name:24} {value:>12,}", err=form is not None)
    if problems:
        click.echo("Error: " + "; ".join(problems), err=True)
        sys.exit(2)


def _records(batch: FrameBatch, host: HostIdentity, parsed: U64) -> tuple[U16, U8]:
    n = len(batch.frames)
    rows = np.empty((n, N_FEATURES), dtype=np.uint16)
    senders = np.empty(n, dtype=SENDER)
    outcomes = np.empty(n, dtype=np.uint8)
    extract(batch.data, batch.frames, host, rows, senders, outcomes, parsed)
    return rows, outcomes


def _print(batch: FrameBatch, rows: U16, outcomes: U8, form: str, name: str | None) -> None:
    judged = outcomes == Outcome.JUDGED
    numbers = batch.frames["number"][judged].tolist()
    values = rows[judged].tolist()
    if form == "csv":
        prefix = f"{name}," if name is not None else ""
        lines = [
            f"{prefix}{k}," + ",".join(map(str, row))
            for k, row in zip(numbers, values, strict=True)
        ]
    else:
        first = {"capture": name} if name is not None else {}
        lines = [
            json.dumps(first | {"frame": k} | dict(zip(FEATURE_NAMES, row, strict=True)))
            for k, row in zip(numbers, values, strict=True)
        ]
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
