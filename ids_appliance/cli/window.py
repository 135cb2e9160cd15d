"""`ids-appliance window open|close`: look closer now, or no longer."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, order
from ids_appliance.gateway.messages import SetWindow


@click.command()
@click.argument("what", type=click.Choice(["open", "close"]), metavar="open|close")
@format_option
@gateway_options
def command(what: str, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Open the scrutiny window by hand, or close it.

    While it is open every packet is judged, whether a rule has fired or not. It closes by itself
    after `window.window_s` without a trigger or a decision, like every window; opening an open one
    lets it last that long from now. With trigger.kind = "manual" this is all that opens it.

    \b
    Examples:
      ids-appliance window open
      ids-appliance window close
    """
    order(SetWindow(open_=what == "open"), config=config, run_dir=run_dir, form=form)
