"""`ids-appliance windows`: when a running gateway looked closer, why, and what it found."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of
from ids_appliance.cli.durations import duration_text
from ids_appliance.cli.screens import Cell, moment, show_json, show_table
from ids_appliance.gateway.actions import WindowInfo
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import MAX_ITEMS, AskWindows

HEADS = ("id", "opened", "lasted", "packets", "judged", "bad", "cells", "decided", "cause")


@click.command()
@click.option(
    "-n", type=click.IntRange(1, MAX_ITEMS), default=20, show_default=True, help="How many."
)
@format_option
@gateway_options
def command(n: int, form: str, config: Path | None, run_dir: Path | None) -> None:
    """List the latest scrutiny windows, the latest first.

    A trigger opens a window; every packet in it is judged; it closes when nothing has happened for
    window_s seconds. "bad" is how many packets the forest called malicious, "cells" how many
    different ones it was asked about, "decided" how many decisions came of it. A window that ends
    with 0 is ordinary: a trigger is a reason to look, not a verdict.

    \b
    Examples:
      ids-appliance windows
      ids-appliance windows -n 1 --format json
    """
    windows = ask(run_dir_of(config, run_dir), AskWindows(n=n))
    if form == "json":
        show_json(windows)
    elif not windows:
        click.echo("no window was opened since the gateway started")
    else:
        right = "id lasted packets judged bad cells decided"
        show_table(HEADS, [_row(window) for window in windows], right=right)


def _row(window: WindowInfo) -> tuple[str | Cell, ...]:
    lasted = Cell("open", "yellow")
    if window.closed_ns:
        lasted = Cell(duration_text((window.closed_ns - window.opened_ns) / 1e9))
    return (
        str(window.id),
        moment(window.opened_ns),
        lasted,
        f"{window.packets:,}",
        f"{window.judged:,}",
        f"{window.votes:,}",
        f"{window.cells:,}",
        Cell(f"{window.decisions:,}", "red" if window.decisions else None),
        window.cause,
    )
