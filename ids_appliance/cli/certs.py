"""`ids-appliance certs`: an authority for the link, in one directory."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

import click

from ids_appliance.classify import requests
from ids_appliance.classify.certificates import CA_DAYS, LEAF_DAYS, Authority, Request
from ids_appliance.classify.tls import Role

MAX_CSR: Final = 1 << 16
_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_HOST = click.option("--host", "hosts", multiple=True, help="DNS name or IP address; repeatable.")
_ROLE = click.option(
    "--role",
    type=click.Choice([r.value for r in Role]),
    required=True,
    help="What its holder may be; the other end checks it.",
)
_DAYS = click.option(
    "--days",
    type=click.FloatRange(0, CA_DAYS, min_open=True),
    default=LEAF_DAYS,
    show_default=True,
    help="How long it is valid; parts of a day are possible.",
)


@click.group()
def command() -> None:
    """Make certificates for gateways and nodes, with an authority of your own.

    The authority lives in one directory; keep it on a machine that is neither.
    """


@command.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("--name", default="ids-appliance", show_default=True, help="Name of the authority.")
@click.option(
    "--days",
    type=click.IntRange(1, CA_DAYS),
    default=CA_DAYS,
    show_default=True,
    help="How long it is valid.",
)
def ca(directory: Path, name: str, days: int) -> None:
    """Make an authority in DIRECTORY: ca.crt, ca.key and an empty crl.pem."""
    Authority.create(directory, name, days=days)
    click.echo(f"{directory / 'ca.crt'}")


@command.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("name")
@_ROLE
@_HOST
@_DAYS
def issue(directory: Path, name: str, role: str, hosts: tuple[str, ...], days: float) -> None:
    """Issue NAME.crt and NAME.key in DIRECTORY, for a gateway or a node of that name."""
    request = Request(name, Role(role), hosts=hosts, days=days)
    certificate, key = Authority.open(directory).issue(request)
    click.echo(f"{certificate} {key}")


@command.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("name")
@_HOST
@click.option(
    "--renew-before",
    type=click.FloatRange(0, CA_DAYS),
    default=30,
    show_default=True,
    help="Days before its end from which on a certificate is asked for anew.",
)
@click.option("--dry-run", is_flag=True, help="Only say whether a certificate is needed.")
def request(
    directory: Path, name: str, hosts: tuple[str, ...], renew_before: float, dry_run: bool
) -> None:
    """Make NAME.key and the request NAME.csr in DIRECTORY, on the machine that will use them.

    The key never leaves that machine; `certs sign` answers the request where the authority is.
    Nothing is done while NAME.crt is good, for these hosts, and of the authority in ca.crt.
    """
    by = datetime.now(UTC) + timedelta(days=renew_before)
    why = requests.needed(directory, name, hosts=hosts, by=by)
    if not why:
        click.echo(f"good: {directory / name}.crt")
    elif dry_run:
        click.echo(f"needed: {why}")
    else:
        click.echo(f"made: {requests.ask(directory, name)} ({why})")


@command.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("name")
@click.argument("csr", metavar="REQUEST", type=click.File("rb"))
@_ROLE
@_HOST
@_DAYS
def sign(
    directory: Path, name: str, csr: BinaryIO, role: str, hosts: tuple[str, ...], days: float
) -> None:
    """Answer REQUEST (a file made by `certs request`) with NAME.crt in DIRECTORY.

    Of the request only its key counts: name, role and hosts are what is said here.
    """
    wanted = Request(name, Role(role), hosts=hosts, days=days)
    click.echo(f"{Authority.open(directory).sign(wanted, csr.read(MAX_CSR))}")


@command.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("certificate", type=click.Path(path_type=Path, dir_okay=False))
def revoke(directory: Path, certificate: Path) -> None:
    """Add CERTIFICATE to DIRECTORY/crl.pem; nodes read it again on SIGHUP."""
    serial = Authority.open(directory).revoke(certificate)
    click.echo(f"{serial:x} is revoked: publish {directory / 'crl.pem'} and send nodes SIGHUP")
