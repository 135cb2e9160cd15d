"""`ids-appliance mode`: packets are judged here, or on the node."""

from pathlib import Path
from typing import cast

import click

from ids_appliance.cli.asking import format_option, gateway_options, order
from ids_appliance.gateway.actions import Mode
from ids_appliance.gateway.messages import SetMode


@click.command()
@click.argument(
    "name", type=click.Choice(["gateway-only", "offloaded"]), metavar="gateway-only|offloaded"
)
@format_option
@gateway_options
def command(name: str, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Judge packets on this gateway, or on the node of its configuration.

    Verdicts are the same bit for bit; windows, evidence and decisions go on. Holds until the next
    start, which follows `mode` in the configuration.

    \b
    Examples:
      ids-appliance mode offloaded
      ids-appliance mode gateway-only
    """
    order(SetMode(name=cast(Mode, name)), config=config, run_dir=run_dir, form=form)
