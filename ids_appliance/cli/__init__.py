"""The `ids-appliance` command: parse, build, call, print. One file per command."""

import importlib
import os
import sys
from typing import Any

import click

from ids_appliance import __version__
from ids_appliance.errors import IdsError

COMMANDS = {
    "certs": "ids_appliance.cli.certs",
    "check": "ids_appliance.cli.check",
    "classifier": "ids_appliance.cli.classifier",
    "demo": "ids_appliance.cli.demo",
    "doctor": "ids_appliance.cli.doctor",
    "features": "ids_appliance.cli.features",
    "gateway": "ids_appliance.cli.gateway",
    "inspect": "ids_appliance.cli.inspect",
    "predict": "ids_appliance.cli.predict",
    "train": "ids_appliance.cli.train",
    "watch": "ids_appliance.cli.watch",
}
"""Command name -> module that defines `command`; imported only when used, so that a gateway
without scikit-learn still starts."""


EXTRAS = {"train": "train"}
"""Command name -> extra of the package that it needs, where it needs one."""


class _NotInstalled(click.Command):
    """Stands for a command whose extra is not installed: every call of it says how to get it."""

    def __init__(self, name: str, missing: str) -> None:
        super().__init__(
            name,
            short_help=f"(not installed here: needs {missing})",
            add_help_option=False,
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
        self.missing = missing

    def invoke(self, ctx: click.Context) -> Any:
        raise IdsError(
            f"`{self.name}` needs {self.missing}, which is not installed here: "
            f"pip install 'ids-appliance[{EXTRAS[str(self.name)]}]'"
        )


class _Bad(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"Error: {self.format_message()}", err=True)


class LazyGroup(click.Group):
    """A group whose commands are imported on use, and whose errors are one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            command = importlib.import_module(COMMANDS[cmd_name]).command
        except ModuleNotFoundError as error:
            if cmd_name not in EXTRAS or (error.name or "").startswith("ids_appliance"):
                raise
            return _NotInstalled(cmd_name, str(error.name))
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IdsError as error:
            raise _Bad(" ".join(str(error).split())) from error
        except BrokenPipeError:
            # The reader (head, less) has gone: not an error, and nothing more can be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ids-appliance")
def main() -> None:
    """Judge network traffic packet by packet with a random forest.

    Captures: `features`, `predict`. Live: `watch`. A node that judges for gateways: `classifier`,
    with keys from `certs`. Models: `train`, `inspect`. See it work: `demo`.
    """
