"""`ids-appliance monitor`: Open vSwitch with hosts, mirror and uplink in one command."""

import importlib
import importlib.util

import click

from ids_appliance.monitor.read import example, examples

SUBCOMMANDS = {
    "controller": "ids_appliance.cli.monitor_controller",
    "capture": "ids_appliance.cli.monitor_capture",
    "label": "ids_appliance.cli.monitor_label",
    "image": "ids_appliance.cli.monitor_image",
}
"""Subcommand -> module that defines `command`."""


@click.group()
def command() -> None:
    """A monitoring point for traffic: switch, hosts, mirror port and uplink from one file.

    \b
    Examples:
      ids-appliance monitor example s3
    """


@command.command("example")
@click.argument("name", required=False)
def example_(name: str | None) -> None:
    """Print the example NAME, to begin a file of your own with; without NAME, which there are."""
    click.echo(example(name) if name else "\n".join(examples()), nl=not name)


for _name, _module in SUBCOMMANDS.items():
    if importlib.util.find_spec(_module) is not None:
        command.add_command(importlib.import_module(_module).command, _name)
