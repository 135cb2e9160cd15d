"""`ids-appliance certs`: an authority for the link, in one directory."""

from pathlib import Path

import click

from ids_appliance.classify.certificates import CA_DAYS, LEAF_DAYS, Authority, Request
from ids_appliance.classify.tls import Role

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


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
@click.option(
    "--role",
    type=click.Choice([r.value for r in Role]),
    required=True,
    help="What its holder may be; the other end checks it.",
)
@click.option("--host", "hosts", multiple=True, help="DNS name or IP address; repeatable.")
@click.option(
    "--days",
    type=click.FloatRange(0, CA_DAYS, min_open=True),
    default=LEAF_DAYS,
    show_default=True,
    help="How long it is valid; parts of a day are possible.",
)
def issue(directory: Path, name: str, role: str, hosts: tuple[str, ...], days: float) -> None:
    """Issue NAME.crt and NAME.key in DIRECTORY, for a gateway or a node of that name."""
    request = Request(name, Role(role), hosts=hosts, days=days)
    certificate, key = Authority.open(directory).issue(request)
    click.echo(f"{certificate} {key}")


@command.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("certificate", type=click.Path(path_type=Path, dir_okay=False))
def revoke(directory: Path, certificate: Path) -> None:
    """Add CERTIFICATE to DIRECTORY/crl.pem; nodes read it again on SIGHUP."""
    serial = Authority.open(directory).revoke(certificate)
    click.echo(f"{serial:x} is revoked: publish {directory / 'crl.pem'} and send nodes SIGHUP")
