"""`ids-appliance drill`: simulated anomalies through the real path, to nobody real."""

import json
import time
import tomllib
from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of
from ids_appliance.cli.screens import show_fields, show_json, show_table, show_text
from ids_appliance.config_file import load
from ids_appliance.drill.frames import KINDS
from ids_appliance.drill.messages import Report
from ids_appliance.drill.place import NAME, Place
from ids_appliance.drill.run import Clocks, Drill
from ids_appliance.drill.serve import Served
from ids_appliance.errors import DrillError, NotRunning
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import AskStatus
from ids_appliance.lab.namespaces import orderly, run

CLOCKS = Clocks(monotonic=time.monotonic, wall_ns=time.time_ns)

name_option = click.option(
    "--name", default=NAME, show_default=True, help="What namespaces and ports are called after."
)


@click.group()
def command() -> None:
    """Play a simulated anomaly through the real path, and see when the gateway notices.

    Two namespaces behind ports of their own are attacker and victim. A kernel table of ours lets
    nothing through these ports but frames between the two, so no real device can be touched. All
    that the gateway sees there is labelled as a drill: events, decisions, windows, dashboard.

    Needs root. `prepare` comes before the gateway starts: it captures the ports that a bridge has
    at its start.

    \b
    Examples:
      ids-appliance drill prepare --config /etc/ids-appliance/gateway.toml
      ids-appliance drill run syn_burst
      ids-appliance drill remove
    """


@command.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="The gateway's configuration: what it captures.",
)
@name_option
def prepare(config: Path, name: str) -> None:
    """Make the two namespaces, joined to the captured bridge.

    A gateway that captures no bridge routes: the ports get networks of their own (198.18.0.0/15,
    which nobody uses), and their names belong in `interfaces`. What an earlier `prepare` has left
    is replaced. Made for a oneshot unit before the gateway's.

    \b
    Example:
      ids-appliance drill prepare --config /etc/ids-appliance/gateway.toml
    """
    settings = load(config)
    bridges = [one for one in settings.interfaces if one in _bridges()]
    place = Place(name)
    place.prepare(bridges[0] if bridges else "")
    ports = (place.attacker, place.victim)
    where = f"at {bridges[0]}" if bridges else "with networks of their own"
    show_text(f"{ports[0]} and {ports[1]} are ready {where}")
    if not bridges and not set(ports) <= set(settings.interfaces):
        show_text(f"add {', '.join(ports)} to `interfaces`, then start the gateway", "yellow")
        return
    try:
        ask(Path(settings.run_dir), AskStatus())
    except NotRunning:
        return
    show_text("the gateway runs already: restart it, it does not capture them yet", "yellow")


@command.command(name="run")
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@name_option
@format_option
@gateway_options
def run_one(kind: str, *, name: str, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Play one anomaly and say when it was noticed, judged, contained.

    Bounded: 2,000 frames, 500 a second, 20 seconds. What stood about the drill's sender from the
    time before is released first.

    \b
    Examples:
      ids-appliance drill run scan
      ids-appliance drill run syn_burst --format json
    """
    drill = Drill(KINDS[kind], Place(name), run_dir_of(config, run_dir), clocks=CLOCKS)
    with orderly():
        report = drill.run()
    if form == "json":
        show_json(report)
    else:
        _show(report)


@command.command()
@name_option
@gateway_options
def serve(name: str, config: Path | None, run_dir: Path | None) -> None:
    """Let the dashboard start drills: a socket beside the gateway's, until it is ended.

    Who may ask the gateway sees the reports, who has its token starts one.

    \b
    Example:
      ids-appliance drill serve --config /etc/ids-appliance/gateway.toml
    """
    where = run_dir_of(config, run_dir)
    place = Place(name)
    place.line()  # nothing prepared is said now, not at the first click
    group = ""
    if config is not None:
        with config.open("rb") as file:
            group = str(tomllib.load(file).get("group", ""))
    served = Served(
        where,
        lambda kind: Drill(kind, place, where, clocks=CLOCKS),
        group=group,
        clock=time.monotonic,
    )
    with orderly(), served:
        show_text(f"drills are served in {where}")
        served.serve()


@command.command(name="list")
def list_kinds() -> None:
    """Say which anomalies there are.

    \b
    Example:
      ids-appliance drill list
    """
    show_table(("drill", "what it sends"), [(one.name, one.about) for one in KINDS.values()])


@command.command(name="remove")
@name_option
def remove_all(name: str) -> None:
    """Take namespaces, ports and the kernel's table away again.

    \b
    Example:
      ids-appliance drill remove
    """
    gone = Place(name).remove()
    show_text("the drill's namespaces are gone" if gone else "there was nothing to remove")


def _show(report: Report) -> None:
    rows = [(f"{step.after_s:.3f}", step.what, step.detail) for step in report.steps]
    show_table(("s", "what", "detail"), rows, right="s")
    last = "none" if report.last_arrival_s is None else f"{report.last_arrival_s:.3f} s"
    show_fields(
        [
            ("sent", f"{report.sent:,} frames"),
            ("arrived", f"{report.arrived:,}, the last after {last}"),
            ("outcome", report.outcome),
        ]
    )


def _bridges() -> set[str]:
    try:
        found = json.loads(run("ip", "-j", "link", "show", "type", "bridge") or "[]")
    except OSError as error:
        raise DrillError("`ip` is not installed: apt-get install iproute2") from error
    return {one["ifname"] for one in found if "ifname" in one}
