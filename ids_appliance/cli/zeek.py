"""`ids-appliance zeek`: Zeek's settings and its mirror, from the appliance's one configuration."""

from pathlib import Path

import click

from ids_appliance.config import Config
from ids_appliance.config_file import DEFAULT_PATH, load
from ids_appliance.errors import ConfigError
from ids_appliance.gateway import mirror
from ids_appliance.gateway.mirror import Names
from ids_appliance.trigger.zeek_mirror import ruleset
from ids_appliance.trigger.zeek_settings import Sight, redefs

_config = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="Configuration file (TOML).",
)
_namespace = click.option(
    "--namespace",
    default=mirror.NAMESPACE,
    show_default=True,
    help="Network namespace in which Zeek lives.",
)
_interface = click.option(
    "--interface",
    "near",
    default=mirror.NEAR,
    show_default=True,
    help="Name of the veth pair, at both ends.",
)


@click.group()
def command() -> None:
    """Zeek as the prescreener: its settings and its bounded mirror, see docs/zeek.md.

    Both come from the same configuration as our own rules, which count on behind Zeek and speak
    where it is gone.
    """


@command.command()
@_config
@click.option(
    "--direct",
    is_flag=True,
    help="For a Zeek that reads captures, or taps the interface itself: no mirror in between.",
)
def settings(path: Path, direct: bool) -> None:
    """Print the Zeek script that sets the rules' numbers, to be loaded by Zeek.

    \b
    Examples:
      ids-appliance zeek settings --direct > gateway.zeek
      zeek -b -C -r lan.pcap ids-appliance-zeek/scripts gateway.zeek
    """
    click.echo(_settings(load(path), direct=direct), nl=False)


@command.command()
@_config
@_namespace
@_interface
@click.option(
    "--settings",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what `zeek settings` prints to this file as well.",
)
@click.option("--print", "show", is_flag=True, help="Print the nftables rules, change nothing.")
def up(path: Path, namespace: str, near: str, out: Path | None, show: bool) -> None:
    """Make the mirror, or bring it up to date; a Zeek behind it goes on.

    \b
    Example:
      ids-appliance zeek up --config gateway.toml --print
    """
    config, names = load(path), Names(near, namespace)
    if show:
        click.echo(ruleset(mirror.planned(config, names)), nl=False)
        return
    if out is not None:
        _write(out, _settings(config))
    mirror.up(config, names)
    click.echo(f"the mirror stands: {near} in namespace {namespace}")


@command.command()
@_namespace
@_interface
def down(namespace: str, near: str) -> None:
    """Remove the mirror and nothing else.

    \b
    Example:
      ids-appliance zeek down
    """
    mirror.down(Names(near, namespace))
    click.echo("the mirror is gone")


def _settings(config: Config, *, direct: bool = False) -> str:
    try:
        return redefs(config.trigger, Sight() if direct else mirror.sight(config))
    except ValueError as error:
        raise ConfigError(f"[trigger] {error}") from error


def _write(path: Path, text: str) -> None:
    """Replace a file at once: Zeek may be reading it."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_text(text, encoding="ascii")
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
