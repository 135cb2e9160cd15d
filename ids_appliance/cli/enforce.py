"""`ids-appliance enforce on|off`: decisions go into the kernel, or are only told."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, order
from ids_appliance.gateway.messages import Enforce


@click.command()
@click.argument("switch", type=click.Choice(["on", "off"]), metavar="on|off")
@format_option
@gateway_options
def command(switch: str, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Let decisions go into the kernel, or only be recorded.

    A fresh installation observes. Look at `decisions` and `windows` for some days, let `calibrate`
    set the bounds, then turn it on: nothing that was only recorded comes into force by that. It
    also ends what `panic` has left, and resets the breaker that holds everything after too many
    decisions at once. Off lets everybody go; it holds across restarts.

    \b
    Examples:
      ids-appliance enforce on
      ids-appliance enforce off
    """
    order(Enforce(on=switch == "on"), config=config, run_dir=run_dir, form=form)
