"""`ids-appliance monitor export`: the monitor's figures in, Prometheus' text or an endpoint out."""

import signal
import threading
import time

import click

from ids_appliance.cli.options import format_address, parse_address
from ids_appliance.errors import LinkError, MetricsError
from ids_appliance.monitor.exporter import serve, text
from ids_appliance.monitor.read import DEFAULT_PATH, load
from ids_appliance.monitor.status import Status, status


@click.command()
@click.option(
    "--config",
    default=DEFAULT_PATH,
    show_default=True,
    help="File of the monitor (TOML), or the name of an example.",
)
@click.option("--listen", metavar="HOST:PORT", help="Answer GET /metrics there until Ctrl-C.")
def command(config: str, listen: str | None) -> None:
    """Print ports, flows and mirrors with their losses for Prometheus, once or on request.

    Whoever reaches the address may read: name one of this machine's own, such as 127.0.0.1:9742.
    """
    monitor = load(config)

    def look() -> Status:
        return status(monitor)

    if listen is None:
        look()  # a switch that does not answer is an error here, and a figure below
        click.echo(text(look, clock=time.monotonic), nl=False)
        return
    try:
        where = parse_address(listen)
    except LinkError as error:
        raise MetricsError(f"--listen: {error}") from error
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server = serve(look, where, clock=time.monotonic)
    try:
        click.echo(f"answering at http://{format_address(*server.where)}/metrics; Ctrl-C ends it")
        over.wait()
    finally:
        server.close()
