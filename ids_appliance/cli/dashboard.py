"""`ids-appliance dashboard`: the running gateway in a browser."""

import ipaddress
import os
import tomllib
from pathlib import Path

import click

from ids_appliance.cli.asking import gateway_options, run_dir_of
from ids_appliance.dashboard.authority import Authority, make_token
from ids_appliance.dashboard.serve import LOCAL, PORT, server_command
from ids_appliance.dashboard.settings import Settings
from ids_appliance.errors import NotRunning
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import AskStatus


@click.command()
@gateway_options
@click.option("--host", default=LOCAL, show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=PORT,
    show_default=True,
    help="TCP port to listen at.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A token of the dashboard's own, written there (mode 0600) where there is none.",
)
def command(
    config: Path | None, run_dir: Path | None, *, host: str, port: int, token_file: Path | None
) -> None:
    """Show the running gateway in a browser: traffic, who is blocked and why, windows, health.

    Anybody who reaches the page may look; whoever wants to change something there types a token.
    It is the gateway's own, a file in its run directory that root can read, new at each start: the
    dashboard runs as any user who may ask (`group` in the configuration) and knows no secret. With
    --token-file it has one of its own, runs as root, and the token stays the same.

    It listens on this machine only unless --host says otherwise, and speaks HTTP without TLS: from
    elsewhere, go through `ssh -L 8501:127.0.0.1:8501 GATEWAY`.

    \b
    Examples:
      ids-appliance dashboard --config /etc/ids-appliance/gateway.toml
      ids-appliance dashboard --port 8600 --token-file /var/lib/ids-appliance/dashboard-token
    """
    where = run_dir_of(config, run_dir)
    settings = Settings(
        run_dir=str(where.absolute()),
        model=_model_of(config),
        token_file=str(token_file.absolute()) if token_file is not None else "",
    )
    words = server_command(settings, host=host, port=port)
    if token_file is not None:
        make_token(token_file)
    try:
        ask(where, AskStatus())  # who may not ask is told so here, in one line
    except NotRunning as error:
        click.echo(f"the page will wait: {error}", err=True)
    at = f"[{host}]" if ":" in host else host
    authority = Authority(where, token_file)
    click.echo(f"dashboard at http://{at}:{port}; the token is in {authority.where}", err=True)
    if not _is_local(host):
        click.echo("everybody who reaches this address sees the page, unencrypted", err=True)
    os.execv(words[0], words)


def _model_of(config: Path | None) -> str:
    """Return the bundle that a configuration names; "" where it names none.

    `run_dir_of` has read the file already: what is wrong with it was said."""
    if config is None:
        return ""
    with config.open("rb") as file:
        named = tomllib.load(file).get("model", "")
    return str((config.parent / named).absolute()) if named and isinstance(named, str) else ""


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
