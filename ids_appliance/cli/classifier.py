"""`ids-appliance classifier`: the node."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

import click

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.connection import BinaryConnection, ServiceOptions
from ids_appliance.classify.jsonlink import JsonConnection
from ids_appliance.classify.service import ClassifierService
from ids_appliance.classify.tls import (
    Role,
    TlsFiles,
    own_identity,
    revoked_serials,
    server_context,
)
from ids_appliance.cli.options import (
    format_address,
    log_to_stderr,
    parse_address,
    tls_files,
    tls_options,
)
from ids_appliance.errors import BundleError, CertificateError

log = logging.getLogger("ids_appliance.node")


@click.command()
@click.option("--listen", required=True, metavar="HOST:PORT", help="Port 0 takes a free one.")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Model bundle.")
@click.option(
    "--transport",
    type=click.Choice(["binary", "json"]),
    default="binary",
    show_default=True,
    help="Cells in our protocol, or packets as JSON objects.",
)
@tls_options
def command(listen: str, model: Path, transport: str, **tls: Any) -> None:
    """Judge packets for gateways.

    Prints one line when it listens. SIGHUP reads the model, the certificate, the authority and the
    revocation list again; SIGTERM and SIGINT end it in good order.
    """
    log_to_stderr()
    asyncio.run(_run(parse_address(listen), model, json=transport == "json", tls=tls_files(tls)))


async def _run(address: tuple[str, int], model: Path, *, json: bool, tls: TlsFiles | None) -> None:
    # First of all: a SIGHUP would end a process that is not ready for it.
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    bundle = load_bundle(model)
    name = own_identity(tls, Role.NODE).name if tls is not None else "node"
    service = ClassifierService(
        bundle,
        ServiceOptions(node_id=name),
        tls=server_context(tls) if tls is not None else None,
        connection=JsonConnection if json else BinaryConnection,
    )
    bound = await service.listen(*address)
    where = ", ".join(format_address(*b) for b in bound)
    kind = ("JSON" if json else "binary") + (", plain TCP" if tls is None else ", TLS 1.3")
    click.echo(f"listening on {where} ({kind}), model {bundle.grid.model_id.hex()}")
    reloading = loop.create_task(_reload(service, model, tls, again))
    await stop.wait()
    reloading.cancel()
    await service.close()
    log.info("%s", " ".join(f"{name}={value}" for name, value in service.counts.items() if value))


async def _reload(
    service: ClassifierService, model: Path, tls: TlsFiles | None, again: asyncio.Event
) -> None:
    while True:
        await again.wait()
        again.clear()
        try:
            service.replace_model(await asyncio.to_thread(load_bundle, model))
            _, bundle = service.current()
            log.info("model %s in use", bundle.grid.model_id.hex())
        except BundleError as error:
            log.error("the old model stays: %s", error)
        if tls is not None:
            try:
                service.replace_tls(server_context(tls), revoked_serials(tls))
                log.info("certificates read again")
            except CertificateError as error:
                log.error("the old certificates stay: %s", error)
