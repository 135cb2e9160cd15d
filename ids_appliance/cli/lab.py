"""`ids-appliance lab`: a network of namespaces up, scenarios played in it, captures out."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from ids_appliance.errors import LabError
from ids_appliance.lab import scenarios, standing
from ids_appliance.lab.layouts import LAYOUTS
from ids_appliance.lab.namespaces import orderly, require, sweep
from ids_appliance.lab.network import Lab
from ids_appliance.lab.run import play
from ids_appliance.lab.services import NEEDS, offered

LAYOUT = click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    default="routed",
    show_default=True,
    help="How gateway, devices and outside are wired up.",
)


@click.group()
def command() -> None:
    """A home network of namespaces on this machine, with real tools that attack in it.

    Twenty IoT devices, a hub, a telephone, a compromised device (bot), a server and attackers
    outside, a classifier node, and the gateway (gw) between them. Nothing leaves the machine, and
    everything is removed at the end, also after a crash: the next start sweeps up. Needs root.

    \b
    Examples:
      ids-appliance lab list
      ids-appliance lab run syn_flood --out flood
      ids-appliance predict flood/capture.pcap --model models/iot-top20 --format summary
      ids-appliance lab up --layout bridge        in one terminal
      ids-appliance lab shell bot                 in another
    """


@command.command("list")
def list_() -> None:
    """Print the layouts and the scenarios that ship."""
    click.echo("layouts")
    for layout in LAYOUTS.values():
        click.echo(f"  {layout.name:22}{layout.about}")
    click.echo("scenarios")
    for name in scenarios.names():
        scenario = scenarios.read(name)
        attack = any(step.attack for step in scenario.steps)
        twin = next((f"twin of {s.twin_of}" for s in scenario.steps if s.twin_of), "ordinary")
        kind = "attack" if attack else twin
        click.echo(f"  {name:22}{kind:22}{scenario.seconds:>4.0f} s")
        click.echo(f"      {scenario.about}")


@command.command()
@click.argument("scenario")
@LAYOUT
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for capture.pcap, labels.json and timeline.jsonl; without it nothing is kept.",
)
def run(scenario: str, layout: str, out: Path | None) -> None:
    """Build a lab, play SCENARIO in it, remove the lab.

    SCENARIO is a name from `ids-appliance lab list`, or a TOML file of your own. The capture is
    made at the gateway's protected side; labels.json says of every packet what it truly was.
    """
    chosen = scenarios.read(scenario)
    require(*NEEDS, *chosen.needs)
    begin = time.monotonic_ns()
    with orderly(), Lab(layout) as lab, offered(lab):
        for moment in play(lab, chosen, out=out, clock=time.time_ns):
            elapsed = (time.monotonic_ns() - begin) / 1e9
            click.echo(f"{elapsed:7.2f} s  {moment.kind:10}{moment.step:12}{moment.text}")


@command.command()
@LAYOUT
def up(layout: str) -> None:
    """Build a lab and keep it, with its services, until Ctrl-C or `ids-appliance lab down`."""
    require(*NEEDS)
    standing.refuse_second()
    with orderly(), Lab(layout, tag=standing.TAG) as lab, offered(lab):
        click.echo(f"layout {layout} is up; Ctrl-C takes it down. The gateway is to watch")
        click.echo(f"  {', '.join(lab.interfaces)}   (ids-appliance lab shell gw)")
        for name in lab.hosts:
            click.echo(f"  {name:12}{lab.address(name)}")
        try:
            signal.pause()
        except KeyboardInterrupt:
            click.echo("taking it down")


@command.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("host")
@click.argument("words", nargs=-1)
def shell(host: str, words: tuple[str, ...]) -> None:
    """Run a shell, or WORDS, on HOST of the lab that is up."""
    require()
    namespace = standing.namespace(host)
    wanted = list(words) or [os.environ.get("SHELL", "/bin/sh")]
    if not words:
        click.echo(f"on {host}; exit leaves it", err=True)
    done = subprocess.run(["ip", "netns", "exec", namespace, *wanted], check=False)
    if words and done.returncode:
        click.echo(f"{shlex.join(words)} ended with {done.returncode}", err=True)
    sys.exit(done.returncode)


@command.command()
def down() -> None:
    """Take the lab down that is up, and remove what crashed ones have left."""
    require()
    ended = standing.end()
    swept = sweep()
    if not ended and not swept:
        raise LabError("no lab is up, and none has left anything")
    click.echo("the lab is down" if ended else f"removed what a crash had left: {len(swept)} hosts")
