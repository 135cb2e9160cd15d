"""`ids-appliance release ADDRESS`: a decision ends before its time."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, order, sender_text
from ids_appliance.gateway.messages import Release


@click.command()
@click.argument("address", callback=sender_text, required=False)
@click.option("--all", "everybody", is_flag=True, help="Everybody about whom something stands.")
@format_option
@gateway_options
def command(
    address: str | None, everybody: bool, *, form: str, config: Path | None, run_dir: Path | None
) -> None:
    """End what stands about ADDRESS, at once.

    ADDRESS is what `decisions` shows: an address, a MAC, or VICTIM:PORT of a flood. Evidence about
    it begins anew; if it goes on, it will be decided about again. To prevent that, `allow add` it.

    \b
    Examples:
      ids-appliance release 192.0.2.66
      ids-appliance release --all
    """
    if everybody == (address is not None):
        raise click.UsageError("name an ADDRESS, or --all for everybody")
    order(Release(text=address or ""), config=config, run_dir=run_dir, form=form)
