"""`ids-appliance watch`: live traffic in, totals per sender out, once a second."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from ids_appliance import assemble
from ids_appliance.capture.ring import RingOptions
from ids_appliance.cli.judging import MODEL, account, open_classifier
from ids_appliance.cli.options import node_options
from ids_appliance.cli.tables import sender_table
from ids_appliance.errors import InterfaceError
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.telemetry.senders import SenderTotals, sender_text


class _Report:
    """Print totals once a second."""

    def __init__(self, form: str, *, top: int) -> None:
        self._form = form
        self._top = top
        self.senders = SenderTotals(by="device")

    def tell(self, counters: dict[str, int]) -> None:
        """Print the present totals."""
        rows = self.senders.top(self._top)
        if self._form == "jsonl":
            senders = [
                {
                    "sender": sender_text(row.sender),
                    "packets": row.packets,
                    "judged": row.judged,
                    "malicious": row.malicious,
                }
                for row in rows
            ]
            click.echo(json.dumps({"counters": counters, "senders": senders}))
        else:
            if sys.stdout.isatty():
                click.clear()
            click.echo(sender_table(rows, total=len(self.senders.rows)))
            drops = f" · kernel drops {counters['kernel_drops']:,}"
            click.echo(account(counters) + drops + "\n")
        sys.stdout.flush()


@contextmanager
def stopped_by_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM instead of dying in the middle; a second one ends the
    command as if this were not here, because a node may keep it waiting."""
    seen: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        seen.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield seen
    finally:
        restore()


@click.command()
@click.argument("interfaces", nargs=-1, required=True, metavar="INTERFACE...")
@click.option("--model", type=MODEL, metavar="BUNDLE", help="Model bundle to judge with.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="A table for people, or one JSON object a second.",
)
@click.option(
    "--top", type=click.IntRange(1, 1000), default=20, show_default=True, help="Senders to show."
)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many seconds.",
)
@click.option(
    "--ring-mib",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Size of the ring, one for all interfaces, in MiB.",
)
@click.option("--promiscuous", is_flag=True, help="See frames for other hosts as well.")
@node_options
def command(
    interfaces: tuple[str, ...],
    model: Path | None,
    form: str,
    top: int,
    seconds: float | None,
    ring_mib: int,
    promiscuous: bool,
    **options: Any,
) -> None:
    """Judge live traffic and print totals per sender once a second. Nothing is blocked.

    Name the interfaces towards the devices to protect; a bridge stands for all its ports. Frames
    are seen in both directions, each once; the gateway's own are left out. A node that does not
    answer costs the packets that wait for it, which are counted. Ctrl-C ends it with an account,
    once those are answered or past their deadline; a second Ctrl-C ends it at once.

    Needs CAP_NET_RAW: run as root, or give the Python of this installation that capability.

    \b
    Examples:
      ids-appliance watch eth1 --model models/iot-top20
      ids-appliance watch br-lan --node 192.0.2.10:7447 --cert gw.pem --key gw.key --ca ca.pem
    """
    ring = RingOptions(blocks=max(2, ring_mib * 4), promiscuous=promiscuous)
    with ExitStack() as stack:
        live = assemble.live(interfaces, ring, on_event=lambda line: click.echo(line, err=True))
        stack.callback(live.source.close)
        for warning in live.warnings:
            click.echo(f"Warning: {warning}", err=True)
        classifier = open_classifier(model, options)
        stack.callback(classifier.close)
        report = _Report(form, top=top)
        pipeline = Pipeline(
            live.source, classifier, report.senders, host=live.host(), limits=Limits(shed=True)
        )
        start = due = time.monotonic()
        changes = live.source.changes

        def totals() -> dict[str, int]:
            return live.source.counters() | pipeline.counters()

        def tick() -> bool:
            nonlocal due, changes
            now = time.monotonic()
            if live.source.changes != changes:
                changes = live.source.changes
                with suppress(InterfaceError):  # gone just now: the next change is on its way
                    pipeline.set_host(live.host())
            if now >= due + 1.0:
                due += float(int(now - due))
                report.tell(totals())
            return bool(signals) or (seconds is not None and now - start >= seconds)

        signals = stack.enter_context(stopped_by_signals())
        click.echo(f"watching {', '.join(live.names)}", err=True)
        pipeline.run(tick)
    report.tell(totals())
