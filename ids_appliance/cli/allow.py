"""`ids-appliance allow`: about whom nothing is decided."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of, sender_text
from ids_appliance.cli.screens import moment, show_json, show_table, show_text
from ids_appliance.gateway.actions import AllowList
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import Allow, AskAllowed

_INTERFACE = click.option(
    "--interface", default="", metavar="NAME", help="Only there: on the protected side."
)


@click.group()
def command() -> None:
    """List, add or remove senders about whom nothing is decided.

    An entry on the protected side holds for a device at its interface: an address alone, which
    anybody could take, is bound to the MAC that it is known at. Entries survive a restart.

    \b
    Examples:
      ids-appliance allow list
      ids-appliance allow add 192.0.2.20 --comment "inventory scanner"
      ids-appliance allow remove 192.0.2.20
    """


@command.command("list")
@format_option
@gateway_options
def show(form: str, config: Path | None, run_dir: Path | None) -> None:
    """List the entries, the oldest first."""
    allowed = ask(run_dir_of(config, run_dir), AskAllowed())
    if form == "json":
        show_json(allowed)
    elif not allowed.entries:
        click.echo("nobody is on the allow list")
    else:
        rows = [(e.text, e.interface or "-", moment(e.since_ns), e.comment)
                for e in allowed.entries]  # fmt: skip
        show_table(("sender", "interface", "since", "comment"), rows)


@command.command()
@click.argument("sender", callback=sender_text)
@_INTERFACE
@click.option("--comment", default="", help="Why; for whoever reads the list later.")
@format_option
@gateway_options
def add(
    sender: str, interface: str, comment: str, *, form: str, config: Path | None,
    run_dir: Path | None,
) -> None:  # fmt: skip
    """Add SENDER: an address, a network such as 192.0.2.0/28, or a MAC.

    What stands about it ends at once.
    """
    request = Allow(op="add", text=sender, interface=interface, comment=comment)
    _tell(ask(run_dir_of(config, run_dir), request), form)


@command.command()
@click.argument("sender", callback=sender_text)
@_INTERFACE
@format_option
@gateway_options
def remove(
    sender: str, interface: str, *, form: str, config: Path | None, run_dir: Path | None
) -> None:
    """Remove SENDER, as `allow list` writes it."""
    _tell(
        ask(run_dir_of(config, run_dir), Allow(op="remove", text=sender, interface=interface)), form
    )


def _tell(allowed: AllowList, form: str) -> None:
    if form == "json":
        show_json(allowed)
    else:
        show_text(allowed.message)
