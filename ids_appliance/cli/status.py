"""`ids-appliance status`: a running gateway at one glance."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of
from ids_appliance.cli.durations import duration_text
from ids_appliance.cli.queues import HEAD, queue_rows
from ids_appliance.cli.screens import Cell, show_fields, show_json, show_table, show_text
from ids_appliance.gateway.actions import Status
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import AskStatus


@click.command()
@format_option
@gateway_options
def command(form: str, config: Path | None, run_dir: Path | None) -> None:
    """Show how the running gateway is: mode, window, decisions, losses, alarms.

    Says first of all whether decisions are enforced: a fresh installation only observes, until
    `ids-appliance enforce on`. JSON has every counter, by the names that Prometheus gets.

    \b
    Examples:
      ids-appliance status
      ids-appliance status --format json | jq .counters.kernel_drops
    """
    status = ask(run_dir_of(config, run_dir), AskStatus())
    if form == "json":
        show_json(status)
    else:
        _show(status)


def _show(status: Status) -> None:
    where = f"on the node {status.node}" if status.node else "here"
    window = "none is open"
    if status.window is not None:
        window = (
            f"number {status.window.id} is open, {status.window.judged:,} packets judged: "
            f"{status.window.cause}"
        )
    missing = status.found < status.intended
    show_fields(
        [
            ("gateway", f"{status.version}, process {status.pid}, "
                        f"running for {duration_text(status.uptime_s)}"),
            ("mode", f"{status.mode}: packets are judged {where}"
                     + ("" if status.profile == "appliance" else f", profile {status.profile}")),
            ("model", status.model or "none"),
            ("enforcing", _enforcing(status)),
            ("decisions", f"{status.decisions:,} standing"),
            ("in the kernel", Cell(f"{status.found:,} of {status.intended:,} elements",
                                   "red" if missing else None)),
            ("window", f"{window}; {status.windows:,} since the start"),
            ("prescreener", _prescreener(status)),
        ]
    )  # fmt: skip
    for alarm in status.alarms:
        if alarm != status.held:  # which is said above
            show_text(f"ALARM: {alarm}", "red")
    if status.interfaces:
        click.echo()
        rows = [
            (
                port.name,
                Cell("up", "green") if port.up else Cell("down", "red"),
                f"{port.frames:,}",
                Cell(f"{port.drops:,}", "yellow" if port.drops else None),
            )
            for port in status.interfaces
        ]
        show_table(("interface", "link", "frames", "lost"), rows, right="frames lost")
    if queues := queue_rows(status.counters):
        click.echo()
        show_table(HEAD, queues, right=" ".join(HEAD[1:]))
    if without := status.counters.get("tc_missing", 0):
        line = f"no traffic classes on {without} of the interfaces that [tc] names: "
        show_text(line + "`ids-appliance doctor`", "yellow")


def _prescreener(status: Status) -> Cell:
    """Return what Zeek does, where it prescreens; empty where our own rules do so by intention."""
    counters = status.counters
    if "zeek_alive" not in counters:
        return Cell("")
    if not counters["zeek_alive"]:
        return Cell("our own rules: Zeek is silent (`ids-appliance doctor`)", "yellow")
    if counters.get("standin_blind"):
        return Cell("our own rules: Zeek lives but gets no packets", "yellow")
    lost = counters["zeek_lost"]
    seen = f"Zeek: {counters['zeek_packets']:,} packets of its mirror, {lost:,} lost"
    return Cell(seen, "yellow" if lost else None)


def _enforcing(status: Status) -> Cell:
    if status.enforcing:
        return Cell("yes", "green")
    why = status.held or "off"
    if status.paused_s > 0:
        why += f", for another {duration_text(status.paused_s)}"
    return Cell(f"NO: {why}", "yellow")
