"""`ids-appliance predict`: a capture in, a verdict per packet out."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ids_appliance import assemble
from ids_appliance.cli.identity import identity, identity_options
from ids_appliance.cli.judging import MODEL, account, open_classifier
from ids_appliance.cli.options import node_options
from ids_appliance.cli.tables import sender_table
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.telemetry.senders import SenderTotals
from ids_appliance.types import JudgedBatch, Outcome


class _Rows:
    """Print a row per judged packet, and add up senders where a summary is wanted."""

    def __init__(self, form: str, *, with_model: bool, at_gateway: bool) -> None:
        self._form = form
        self._with_model = with_model
        self.senders = SenderTotals(by="device" if at_gateway else "address")

    def take(self, batch: JudgedBatch) -> None:
        """Use a batch; VerdictSink."""
        if self._form == "summary":
            self.senders.take(batch)
            return
        judged = batch.outcomes == Outcome.JUDGED
        rows = zip(
            batch.frames["number"][judged].tolist(),
            batch.probabilities[judged].tolist(),
            batch.verdicts[judged].tolist(),
            batch.models[judged].tolist(),
            strict=True,
        )
        ids = [model_id.hex() for model_id in batch.model_ids]
        if self._form == "jsonl":
            lines = [
                json.dumps({"frame": k, "probability": p, "verdict": v, "model": ids[m]})
                for k, p, v, m in rows
            ]
        elif self._with_model:
            lines = [f"{k},{p!r},{v},{ids[m]}" for k, p, v, m in rows]
        else:
            lines = [f"{k},{p!r},{v}" for k, p, v, _ in rows]
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")


@click.command()
@click.argument("capture")
@click.option("--model", type=MODEL, metavar="BUNDLE", help="Model bundle to judge with.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "summary"]),
    default="csv",
    show_default=True,
    help="A row per packet, a JSON object per packet, or a table per sender.",
)
@click.option("--with-model", is_flag=True, help="Add a column with the id of the judging model.")
@click.option("--stats", is_flag=True, help="Print the counters to standard error at the end.")
@identity_options
@node_options
def command(
    capture: str,
    model: Path | None,
    form: str,
    with_model: bool,
    stats: bool,
    macs: list[bytes],
    addresses: list[bytes],
    **options: Any,
) -> None:
    """Judge every packet of a capture and print `frame,probability,verdict`.

    The probability is exact: read back as a float64 it is bit for bit what the forest computed,
    here or on a node. The verdict is 1 (malicious) where it exceeds the model's threshold.

    A damaged capture is judged as far as it can be read; its error is printed last, exit code 2.
    Packets that a node left unanswered are counted, and the exit code is 1.

    \b
    Examples:
      ids-appliance predict lan.pcap --model models/iot-top20
      ids-appliance predict lan.pcap --model models/iot-top20 --format summary
      ids-appliance predict lan.pcap --node 192.0.2.10:7447 --cert gw.pem --key gw.key --ca ca.pem
    """
    host = identity(macs, addresses)
    sink = _Rows(form, with_model=with_model, at_gateway=bool(macs))
    with (
        closing(assemble.capture_file(capture)) as source,
        closing(open_classifier(model, options)) as classifier,
    ):
        if form == "csv":
            click.echo("frame,probability,verdict" + (",model" if with_model else ""))
        pipeline = Pipeline(source, classifier, sink, host=host, limits=Limits())
        pipeline.run()
    counters = pipeline.counters()
    if form == "summary":
        click.echo(sender_table(sink.senders.top(20), total=len(sink.senders.rows)))
        click.echo(account(counters))
    if stats:
        for name, value in (source.counters() | counters | classifier.counters()).items():
            click.echo(f"{name:24} {value:>14,}", err=True)
    if counters["unanswered"]:
        click.echo(f"Error: not every packet was judged: {account(counters)}", err=True)
    if source.problem:
        click.echo(f"Error: {source.problem}", err=True)
    if source.problem or counters["unanswered"]:
        sys.exit(2 if source.problem else 1)
