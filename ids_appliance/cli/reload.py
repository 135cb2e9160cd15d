"""`ids-appliance reload`: a running gateway reads its files again."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, order
from ids_appliance.gateway.messages import Reload


@click.command()
@format_option
@gateway_options
def command(form: str, config: Path | None, run_dir: Path | None) -> None:
    """Let the running gateway read configuration, model and certificates again.

    Says what has changed, and what takes a restart. Where anything is wrong, nothing changes: the
    message says what. `check --config FILE` looks at one without touching the gateway.

    \b
    Example:
      ids-appliance reload
    """
    order(Reload(), config=config, run_dir=run_dir, form=form)
