"""`ids-appliance quarantine ADDRESS`: a sender is cut off by hand."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, order, sender_text
from ids_appliance.cli.durations import duration
from ids_appliance.gateway.messages import Quarantine


@click.command()
@click.argument("address", callback=sender_text)
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    callback=duration,
    default="10m",
    show_default=True,
    help="How long: 90s, 10m, 1h30m, 7d.",
)
@format_option
@gateway_options
def command(
    address: str, for_s: float, *, form: str, config: Path | None, run_dir: Path | None
) -> None:
    """Cut a sender off in the kernel, whatever is known of it.

    A device on the protected side is cut off by its MAC at its port, a sender beyond us by its
    address. Whose an address is that the gateway has not seen yet, the kernel's neighbour table
    says; the answer names the MAC. Who is protected (this gateway, its router, DNS server, node,
    administrators) or allowed is refused, with the reason. `release ADDRESS` ends it early.

    \b
    Examples:
      ids-appliance quarantine 192.0.2.66 --for 1h
      ids-appliance quarantine 02:00:5e:10:00:01@br-lan --for 7d
    """
    order(Quarantine(text=address, for_s=for_s), config=config, run_dir=run_dir, form=form)
