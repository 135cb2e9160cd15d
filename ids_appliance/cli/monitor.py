"""`ids-appliance monitor`: Open vSwitch with hosts, mirror and uplink in one command."""

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import click

from ids_appliance.cli.screens import Cell, show_fields, show_json, show_table, show_text
from ids_appliance.monitor import watchdog
from ids_appliance.monitor.build import Building, Done
from ids_appliance.monitor.follow import follow
from ids_appliance.monitor.hints import hints
from ids_appliance.monitor.links import readable
from ids_appliance.monitor.read import DEFAULT_PATH, example, examples, load
from ids_appliance.monitor.record import Records
from ids_appliance.monitor.settings import Monitor
from ids_appliance.monitor.status import Status, status

F = TypeVar("F", bound=Callable[..., object])
SUBCOMMANDS = {
    "controller": "ids_appliance.cli.monitor_controller",
    "capture": "ids_appliance.cli.monitor_capture",
    "label": "ids_appliance.cli.monitor_label",
    "image": "ids_appliance.cli.monitor_image",
    "export": "ids_appliance.cli.monitor_export",
}
"""Subcommand -> module that defines `command`."""


def config_option(command: F) -> F:
    """Add --config."""
    return click.option(
        "--config",
        default=DEFAULT_PATH,
        show_default=True,
        help="File of the monitor (TOML), or the name of an example.",
    )(command)


@click.group()
def command() -> None:
    """A monitoring point for traffic: switch, hosts, mirror port and uplink from one file.

    \b
    Examples:
      ids-appliance monitor example s3 > monitor.toml
      ids-appliance monitor up --config monitor.toml --diff
      ids-appliance monitor up --config s3
      ids-appliance monitor status --config s3
      ids-appliance monitor down --config s3
    """


@command.command("example")
@click.argument("name", required=False)
def example_(name: str | None) -> None:
    """Print the example NAME, to begin a file of your own with; without NAME, which there are."""
    click.echo(example(name) if name else "\n".join(examples()), nl=not name)


@command.command()
@config_option
@click.option("--diff", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--watch", is_flag=True, help="Stay, and join containers again when they restart.")
@click.option("--yes", is_flag=True, help="Keep a moved uplink without asking for confirmation.")
def up(config: str, diff: bool, watch: bool, yes: bool) -> None:
    """Make the switch, its hosts and mirrors as the file says; what is so already is left alone.

    An uplink's addresses and routes move to the bridge, and back again unless you confirm in time.
    Killed in between, the next `up` goes on and `down` cleans up.
    """
    building = Building(_loaded(config))
    if diff:
        _show_changes(building.missing(waiting=watch), "nothing would change")
        return
    since = time.time_ns() // 10**9
    done = building.up(waiting=watch, confirmed=yes)
    _show_changes(done.lines, "nothing to change: it is up")
    if done.unconfirmed:
        _ask(building, done, config)
    if watch:
        try:
            follow(building, click.echo, since=since)
        except KeyboardInterrupt:
            click.echo("no longer watching; the monitor stays up", err=True)


def _loaded(config: str) -> Monitor:
    """Return the file's settings; hints about them go to stderr, beside what is asked for."""
    monitor = load(config)
    for line in hints(monitor):
        click.echo(line, err=True)
    return monitor


def _show_changes(lines: tuple[str, ...], none: str) -> None:
    for line in lines or (none,):
        click.echo(line)


def _ask(building: Building, done: Done, config: str) -> None:
    seconds = building.monitor.uplink.confirm_s
    back = f"or {done.unconfirmed} gets its addresses back"
    if not sys.stdin.isatty():
        click.echo(
            f"within {seconds} s: ids-appliance monitor confirm --config {config}, {back}", err=True
        )
        return
    click.echo(f"Are you still connected? Press Enter within {seconds} s, {back}.")
    if readable(sys.stdin.fileno(), seconds) and sys.stdin.readline():
        click.echo(f"{building.confirm()} stays a port of the bridge")
    else:
        click.echo(f"nobody confirmed: {done.unconfirmed} has its addresses again")


@command.command()
@config_option
def confirm(config: str) -> None:
    """Keep the moved uplink: you have seen that this machine can still be reached."""
    name = Building(load(config)).confirm()
    click.echo(f"{name} stays a port of the bridge")


@command.command()
@config_option
def down(config: str) -> None:
    """Take everything away that `up` has made; an uplink gets its addresses and routes back."""
    _show_changes(Building(load(config)).down(), "there was nothing to take away")


@command.command("watchdog", hidden=True)
@click.option("--run-dir", required=True, help="Directory of the record.")
@click.option("--name", required=True, help="Name of the monitor.")
@click.option("--token", required=True, help="The move that is to be undone.")
@click.option("--seconds", required=True, type=int, help="Time to confirm.")
@click.option("--ready", required=True, type=int, help="Descriptor to say on that it watches.")
def watchdog_(run_dir: str, name: str, token: str, seconds: int, ready: int) -> None:
    """Undo the move of an uplink unless somebody confirms; started by `up`."""
    watchdog.run(Records(run_dir, name), token, seconds=seconds, ready=ready)


@command.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="All there is, as JSON.")
def status_(config: str, as_json: bool) -> None:
    """Show bridge, ports, hosts, mirrors with their losses, controller, and what is missing."""
    found = status(_loaded(config))
    if as_json:
        show_json(found)
    else:
        _show(found)


def _show(found: Status) -> None:
    if not found.up:
        show_text(f"bridge {found.bridge} is not up: ids-appliance monitor up", "yellow")
        return
    controller = Cell("none")
    if found.controller:
        state = "connected" if found.controller.connected else "NOT connected"
        more = f" ({found.controller.state})" if found.controller.state else ""
        colour = None if found.controller.connected else "red"
        controller = Cell(f"{found.controller.target}: {state}{more}", "red" if colour else None)
    uplink = ""
    if found.uplink:
        kept = "confirmed" if found.uplink.confirmed else "NOT confirmed"
        kept += ", will be undone" if found.uplink.guarded else ""
        uplink = f"{found.uplink.interface}: {kept if found.uplink.moved else 'not moved'}"
    show_fields(
        [
            ("bridge", f"{found.bridge}, datapath {found.datapath}, id {found.datapath_id}"),
            ("without controller", f"{found.fail_mode}"),
            ("controller", controller),
            ("uplink", uplink),
            ("flows", f"{found.flows:,} entries, {found.flow_packets:,} packets"),
        ]
    )
    click.echo()
    _show_rows(found)
    for line in found.missing:
        show_text(f"differs: {line}", "yellow")


def _show_rows(found: Status) -> None:
    rows: list[list[str | Cell]] = [
        [
            port.name,
            port.host,
            str(port.number),
            str(port.vlan or ""),
            Cell(port.link, "green" if port.link == "up" else "red"),
            f"{port.rx_packets:,}",
            f"{port.tx_packets:,}",
            Cell(f"{port.dropped:,}", "yellow" if port.dropped else None),
        ]
        for port in found.ports
    ]
    heads = ("port", "host", "number", "vlan", "link", "in", "out", "lost")
    show_table(heads, rows, right="number vlan in out lost")
    if found.hosts:
        click.echo()
        show_table(
            ("host", "where", "joined", "address"),
            [
                [
                    host.name,
                    f"{host.interface} in {host.place}",
                    Cell("yes", "green") if host.joined else Cell("NO", "red"),
                    " ".join(host.addresses),
                ]
                for host in found.hosts
            ],
        )
    if found.mirrors:
        click.echo()
        show_table(
            ("mirror", "copied", "lost", "to", "what"),
            [
                [
                    one.name,
                    f"{one.tx_packets:,}",
                    Cell(f"{one.dropped:,}", "yellow" if one.dropped else None),
                    one.output,
                    one.selects if one.there else Cell(f"MISSING: {one.selects}", "red"),
                ]
                for one in found.mirrors
            ],
            right="copied lost",
        )


for _name, _module in SUBCOMMANDS.items():
    if importlib.util.find_spec(_module) is not None:
        command.add_command(importlib.import_module(_module).command, _name)
