"""`ids-appliance panic`: everything of ours leaves the kernel, whether the gateway lives or not."""

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from ids_appliance.cli.asking import RUN_DIR, format_option, gateway_options, run_dir_of
from ids_appliance.cli.screens import show_json, show_text
from ids_appliance.errors import ConfigError, ControlError, IdsError, NotRunning, PermissionMissing
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import Panic
from ids_appliance.gateway.sockets import leave_panic_flag

DEADLINE_S = 3.0
REMOVER = "ids_appliance.enforce.remove"
SWITCH_REMOVER = "ids_appliance.enforce.openflow_record"
GO_ON = (
    "Nothing is enforced until you say `ids-appliance enforce on`; a gateway that starts before "
    "that only observes. Look at `ids-appliance events` and `why ADDRESS` first."
)


@dataclass(frozen=True, slots=True)
class Account:
    """What was done."""

    gateway: str
    """What the gateway said, or why it said nothing."""
    answered: bool
    removed: tuple[str, ...]
    """Tables and bridges that the gateway had not rid of ours itself."""
    flag: str
    """File that makes a gateway observe; empty where it could not be left."""


@click.command()
@format_option
@gateway_options
def command(form: str, config: Path | None, run_dir: Path | None) -> None:
    """Remove everything of ours from the kernel at once, and only observe from now on.

    Asks the running gateway, for three seconds at most, then removes our nftables tables, or
    our flow entries from a switch, itself: so it works with a gateway that is dead or stuck as
    well. Nobody else's are touched. Leaves
    a flag, so that a gateway that starts later only observes, until `ids-appliance enforce on`.

    \b
    Example:
      sudo ids-appliance panic
    """
    try:
        where = run_dir_of(config, run_dir)
    except ConfigError as error:  # no reason to leave a network blocked
        click.echo(f"Warning: {error}; {RUN_DIR} is taken", err=True)
        where = RUN_DIR
    # First of all the flag: a gateway that is stuck now must find it when it wakes up.
    flag = _leave_flag(where)
    answered, lives = True, 0
    try:
        said = ask(where, Panic(), deadline_s=DEADLINE_S).message
    except PermissionMissing:
        raise
    except ControlError as error:
        answered = False
        said = "no gateway is running" if isinstance(error, NotRunning) else str(error)
        if isinstance(error, NotRunning):
            lives = importlib.import_module(REMOVER).running()
    removed = [*_remove(answered), *_remove_from_switch(where, answered)]
    account = Account(said, answered, tuple(removed), flag)
    if form == "json":
        show_json(asdict(account))
    else:
        _tell(account)
    if lives:
        raise ControlError(
            f"not over: process {lives} is a gateway with another run directory than {where}: it "
            f"puts its tables back. Name that (--config or --run-dir), or end it: kill {lives}"
        )


def _leave_flag(where: Path) -> str:
    try:
        return str(leave_panic_flag(where))
    except PermissionError as error:
        raise PermissionMissing("panic needs root, nothing was done: try it with sudo") from error
    except OSError as error:
        click.echo(
            f"Warning: {error.filename}: {error.strerror}: a gateway that starts later will "
            "enforce again",
            err=True,
        )
        return ""


def _remove(answered: bool) -> Sequence[str]:
    """Remove our tables without a gateway; imported late, so that nothing else can fail first."""
    try:
        removed: Sequence[str] = importlib.import_module(REMOVER).remove_all()
    except IdsError as error:
        if not answered:
            raise
        click.echo(f"Warning: the gateway says it is done; to make sure: {error}", err=True)
        return ()
    return removed


def _remove_from_switch(where: Path, answered: bool) -> Sequence[str]:
    """Remove our flow entries, where a gateway has left word that it acts by such."""
    try:
        removed: Sequence[str] = importlib.import_module(SWITCH_REMOVER).remove_remembered(where)
    except IdsError as error:
        line = f"entries of ours may stand on a switch: {error}"
        if not answered:
            raise ControlError(line) from error
        click.echo(f"Warning: the gateway says it is done; to make sure: {line}", err=True)
        return ()
    return () if answered else removed


def _tell(account: Account) -> None:
    show_text(("" if account.answered else "Gateway: ") + account.gateway)
    if account.removed:
        show_text(f"Removed from the kernel: {', '.join(account.removed)}")
    elif not account.answered:
        show_text("Nothing of ours was in the kernel.")
    show_text(GO_ON)
