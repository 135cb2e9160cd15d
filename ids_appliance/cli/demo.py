"""`ids-appliance demo`: the whole system at work in the lab, judged; or a recorded attack."""

import sys
import time
from pathlib import Path

import click

from ids_appliance.cli import recorded
from ids_appliance.cli.judging import MODEL
from ids_appliance.errors import LabError
from ids_appliance.gateway.replay import Label
from ids_appliance.lab.demo.show import TOOLS, Outside, show
from ids_appliance.lab.layouts import LAYOUTS
from ids_appliance.lab.namespaces import orderly, require
from ids_appliance.train.labels import Labeller, read_labels


@click.command()
@click.option(
    "--model",
    type=MODEL,
    default=recorded.MODELS / "iot-top20",
    metavar="BUNDLE",
    help="Model bundle to judge with; by default the shipped one of 20 features.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for events, captures, figures and plots.",
)
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    default="routed",
    show_default=True,
    help="How gateway, devices and outside are wired up.",
)
@click.option("--recorded", "offline", is_flag=True, help="Judge a recorded attack; needs no root.")
def command(model: Path, out: Path, layout: str, offline: bool) -> None:
    """Let the whole system be attacked in a lab on this machine, and see what it does.

    A home network of namespaces: twenty devices, a hub, a telephone, a server, attackers inside and
    outside; the gateway under test, and its node in a namespace of its own. Amid ordinary life come
    SYN floods, a port scan, a Mirai-style sweep and ARP spoofing, each followed by something
    ordinary that looks like it. What reaches the victims is counted by their own kernels. About
    four minutes; ends with 0 only if every attack was contained and nobody else accused, else 1.

    Needs root, namespaces and the attackers' tools. Where they are missing it says so, and judges a
    recorded attack instead, on the gateway, on a node and packet by packet in JSON, which must
    agree bit for bit.

    \b
    Examples:
      ids-appliance demo
      ids-appliance demo --layout bridge --out bridge-demo
      ids-appliance demo --recorded
    """
    if not offline:
        try:
            require(*TOOLS)
        except LabError as error:
            click.echo(f"No live demo here: {error}. A recorded attack instead:\n")
            offline = True
    if offline:
        recorded.show(model, out)
        return
    outside = Outside(
        clock=time.time_ns,
        write=click.echo,
        labels=_labels,
        colour=sys.stdout.isatty(),
    )
    with orderly():
        results = show(layout, model=model, folder=out, outside=outside)
    if not all(result.ok for result in results):
        sys.exit(1)


def _labels(path: Path) -> Label:
    """Return what labels the frames of the capture that a labels.json is about."""
    labeller = Labeller(read_labels(path)[0])
    return lambda batch: labeller.label(batch)[0]
