"""`ids-appliance pause`: nothing is enforced for a while."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, order
from ids_appliance.cli.durations import duration_or_zero
from ids_appliance.gateway.messages import Pause


@click.command()
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    callback=duration_or_zero,
    required=True,
    help="How long: 90s, 10m, 1h; 0 ends a pause.",
)
@format_option
@gateway_options
def command(for_s: float, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Enforce nothing for a while: is it this gateway that stands in the way?

    Everything of ours lets traffic through until the time is over; then what has time left is
    enforced again by itself. Watching and judging go on. For all of it to be gone, see `panic`.

    \b
    Examples:
      ids-appliance pause --for 10m
      ids-appliance pause --for 0        end it now
    """
    order(Pause(for_s=for_s), config=config, run_dir=run_dir, form=form)
