"""The `ids-appliance` command: parse, build, call, print. One file per command."""

import importlib
import os
import sys
from typing import Any

import click

from ids_appliance import __version__
from ids_appliance.errors import IdsError

COMMANDS = {
    "allow": "ids_appliance.cli.allow",
    "bench": "ids_appliance.cli.bench",
    "calibrate": "ids_appliance.cli.calibrate",
    "certs": "ids_appliance.cli.certs",
    "check": "ids_appliance.cli.check",
    "classifier": "ids_appliance.cli.classifier",
    "dashboard": "ids_appliance.cli.dashboard",
    "decisions": "ids_appliance.cli.decisions",
    "demo": "ids_appliance.cli.demo",
    "doctor": "ids_appliance.cli.doctor",
    "drill": "ids_appliance.cli.drill",
    "enforce": "ids_appliance.cli.enforce",
    "evaluate": "ids_appliance.cli.evaluate",
    "events": "ids_appliance.cli.events",
    "extract": "ids_appliance.cli.extract",
    "features": "ids_appliance.cli.features",
    "gateway": "ids_appliance.cli.gateway",
    "inspect": "ids_appliance.cli.inspect",
    "kdd": "ids_appliance.cli.kdd",
    "lab": "ids_appliance.cli.lab",
    "mode": "ids_appliance.cli.mode",
    "monitor": "ids_appliance.cli.monitor",
    "panic": "ids_appliance.cli.panic",
    "pause": "ids_appliance.cli.pause",
    "predict": "ids_appliance.cli.predict",
    "quarantine": "ids_appliance.cli.quarantine",
    "release": "ids_appliance.cli.release",
    "reload": "ids_appliance.cli.reload",
    "replay": "ids_appliance.cli.replay",
    "reproduce": "ids_appliance.cli.reproduce",
    "retrain": "ids_appliance.cli.retrain",
    "rollback": "ids_appliance.cli.rollback",
    "status": "ids_appliance.cli.status",
    "train": "ids_appliance.cli.train",
    "watch": "ids_appliance.cli.watch",
    "why": "ids_appliance.cli.why",
    "window": "ids_appliance.cli.window",
    "windows": "ids_appliance.cli.windows",
    "zeek": "ids_appliance.cli.zeek",
}
"""Command name -> module that defines `command`; imported only when used, so that a gateway
without scikit-learn still starts."""


THEMES = {
    "Daily": (
        "status",
        "dashboard",
        "decisions",
        "windows",
        "why",
        "events",
        "allow",
        "release",
    ),
    "When something is wrong": ("doctor", "pause", "panic", "quarantine", "window", "enforce"),
    "Setting up": (
        "gateway",
        "check",
        "reload",
        "mode",
        "calibrate",
        "classifier",
        "certs",
        "zeek",
        "drill",
    ),
    "Research": (
        "demo",
        "lab",
        "bench",
        "reproduce",
        "monitor",
        "replay",
        "watch",
        "predict",
        "features",
        "extract",
        "train",
        "retrain",
        "rollback",
        "evaluate",
        "inspect",
        "kdd",
    ),
}
"""Theme of the main help -> its commands, in the order in which they are met."""


EXTRAS = {
    "bench": "bench",
    "evaluate": "train",
    "extract": "train",
    "kdd": "train",
    "retrain": "train",
    "train": "train",
}
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
            f"{sys.executable} -m pip install 'ids-appliance[{EXTRAS[str(self.name)]}]'"
        )


class _Bad(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"Error: {self.format_message()}", err=True)


class LazyGroup(click.Group):
    """A group whose commands are imported on use, and whose errors are one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by theme; one without a theme comes last."""
        placed = {name for names in THEMES.values() for name in names}
        rest = tuple(name for name in self.list_commands(ctx) if name not in placed)
        found = {
            theme: [(name, command) for name in names if (command := self.get_command(ctx, name))]
            for theme, names in [*THEMES.items(), ("Further", rest)]
        }
        width = max((len(name) for rows in found.values() for name, _ in rows), default=0)
        room = formatter.width - 6 - width
        for theme, rows in found.items():
            if rows:
                with formatter.section(theme):
                    formatter.write_dl(
                        [(f"{name:{width}}", c.get_short_help_str(room)) for name, c in rows]
                    )

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
        except OSError as error:
            if error.filename is None:
                raise
            # A file that somebody has named: it is not there, or not to be written by this user.
            raise _Bad(f"{error.filename}: {error.strerror}") from error


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ids-appliance")
def main() -> None:
    """Watch a network of devices, judge its packets, cut off who attacks.

    Start with `demo` to see it work, `watch` to look at your own network; `gateway` is the whole,
    which the commands below ask and order. Each has --help with examples.
    """
