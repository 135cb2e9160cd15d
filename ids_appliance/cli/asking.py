"""Options that name a running gateway in, its answer out: what its commands share."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ids_appliance.cli.screens import show_json, show_text
from ids_appliance.config import Config
from ids_appliance.errors import ConfigError
from ids_appliance.gateway.actions import Done
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import Request

F = TypeVar("F", bound=Callable[..., Any])

RUN_DIR = Path({field.name: field.default for field in msgspec.structs.fields(Config)}["run_dir"])


def sender_text(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Callback of an argument: a sender as people name it. Whom it means, the gateway knows."""
    if value is None:
        return None
    text = value.strip()
    if not text or len(text) > 200 or not text.isprintable():
        raise click.BadParameter(
            "write an address (192.0.2.7), a MAC (02:00:5e:10:00:01, perhaps @INTERFACE), or "
            "VICTIM:PORT of a flood"
        )
    return text


def gateway_options(command: F) -> F:
    """Add --config and --run-dir; see `run_dir_of`."""
    command = click.option(
        "--run-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Directory of the gateway's sockets. [default: {RUN_DIR}]",
    )(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The gateway's configuration, which names that directory.",
    )(command)


def format_option(command: F) -> F:
    """Add --format."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="A table for people, or all there is as JSON.",
    )(command)


def run_dir_of(config: Path | None, run_dir: Path | None) -> Path:
    """Return where the sockets are. Raises ConfigError.

    Only that is read from the file: whatever else is wrong with it must not keep anybody from
    asking, or stopping, a gateway that runs."""
    if config is not None and run_dir is not None:
        raise click.UsageError("--config and --run-dir name the same thing: give one of them")
    if config is None:
        return run_dir or RUN_DIR
    try:
        with config.open("rb") as file:
            named = tomllib.load(file).get("run_dir", str(RUN_DIR))
    except OSError as error:
        raise ConfigError(f"{config}: {error.strerror}") from error
    except ValueError as error:  # neither TOML nor UTF-8
        raise ConfigError(f"{config} is not TOML: {error}") from error
    if not isinstance(named, str) or not named:
        raise ConfigError(f"{config}: run_dir is not the name of a directory")
    return Path(named)


def order(request: Request[Done], *, config: Path | None, run_dir: Path | None, form: str) -> None:
    """Give an order and say what is so from now on."""
    done = ask(run_dir_of(config, run_dir), request)
    if form == "json":
        show_json(done)
        return
    show_text(done.message)
    for line in done.details:
        show_text(f"  {line}")
