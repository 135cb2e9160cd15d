"""`ids-appliance monitor controller`: a small OpenFlow 1.3 learning switch."""

import importlib
import ipaddress
import logging
import signal
import sys
import threading
import time
from typing import Any

import click

from ids_appliance.errors import MonitorError
from ids_appliance.monitor.controller_settings import ControllerSettings
from ids_appliance.monitor.learning import MAX_MACS, MAX_PER_PORT

MODULE = "ids_appliance.monitor.controller"
LIBRARY = "os_ken"


@click.command()
@click.option(
    "--listen",
    default="127.0.0.1:6653",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where switches connect; only this machine's own unless you name another address.",
)
@click.option("--cert", default="", metavar="FILE", help="Our certificate (PEM): TLS only, then.")
@click.option("--key", default="", metavar="FILE", help="Key of the certificate.")
@click.option("--ca", default="", metavar="FILE", help="Authority of the switches' certificates.")
@click.option(
    "--max-macs",
    type=click.IntRange(1, 65_536),
    default=MAX_MACS,
    show_default=True,
    help="Addresses to learn on a switch.",
)
@click.option(
    "--max-macs-per-port",
    type=click.IntRange(1, 65_536),
    default=MAX_PER_PORT,
    show_default=True,
    help="Addresses to learn at one port; with more it asks no more for a while.",
)
@click.option(
    "--forward",
    type=click.Choice(["normal", "entries"]),
    default="normal",
    show_default=True,
    help="As the switch itself would, VLANs of its ports included; or by an entry per address.",
)
@click.option(
    "--discovery",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Send LLDP out of every port so often; 0 never.",
)
@click.option(
    "--bddp/--no-bddp",
    default=True,
    show_default=True,
    help="Discovery frames of EtherType 0x8942 as well.",
)
def command(listen: str, cert: str, key: str, ca: str, **more: Any) -> None:
    """Let Open vSwitch forward like an ordinary switch, by OpenFlow 1.3.

    Learns who is at which port, within bounds, and forgets who is silent. Entries of the
    gateway's enforcement come first and are never touched. Ends on SIGTERM or Ctrl-C; the switch
    then goes on with what it knows. Needs the extra `monitor` (os-ken).

    \b
    Examples:
      ids-appliance monitor controller
      ovs-vsctl set-controller s1 tcp:127.0.0.1:6653
    """
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("ids_appliance").setLevel(logging.INFO)
    host, port = _address(listen)
    if any((cert, key, ca)) and not all((cert, key, ca)):
        raise click.UsageError("--cert, --key and --ca belong together")
    settings = ControllerSettings(
        host,
        port,
        cert,
        key,
        ca,
        max_macs=more["max_macs"],
        max_macs_per_port=more["max_macs_per_port"],
        forward=more["forward"],
        discovery_s=more["discovery"],
        bddp=more["bddp"],
    )
    stop = threading.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stop.set())
    try:
        controller = importlib.import_module(MODULE)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != LIBRARY:
            raise
        raise MonitorError(
            f"the controller needs os-ken: {sys.executable} -m pip install 'ids-appliance[monitor]'"
        ) from error
    totals = controller.run(settings, stop, clock=time.monotonic)
    click.echo(" ".join(f"{name}={n}" for name, n in sorted(totals.items())), err=True)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError as error:
        line = f"{listen!r}: ADDRESS:PORT is expected, the address in numbers"
        raise click.BadParameter(line, param_hint="--listen") from error
    if not 0 < number < 65_536:
        raise click.BadParameter("a port is 1 to 65535", param_hint="--listen")
    return host, number
