"""`ids-appliance rollback`: a bundle or a file of bounds out of use, the one before back in."""

from pathlib import Path

import click

from ids_appliance.cli.previous import go_back, previous


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(paths: tuple[Path, ...]) -> None:
    """Go back to the model or the bounds before `retrain` or `calibrate` replaced them.

    PATH is what `--out` was. What is in use now is kept in its place: the same command again goes
    forward. A gateway that runs takes up a model by `ids-appliance reload`, bounds by a restart.

    \b
    Example:
      ids-appliance rollback /etc/ids-appliance/model /etc/ids-appliance/bounds.json
    """
    for path in paths:
        go_back(path)
        click.echo(f"{path} is again what it was before; the other one is {previous(path).name}")
