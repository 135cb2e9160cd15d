"""Options that several commands share: where the node is and how to reach it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.tls import TlsFiles
from ids_appliance.config_file import host_port
from ids_appliance.errors import CertificateError, LinkError

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT or [IPV6]:PORT. Raises LinkError."""
    try:
        return host_port(text)
    except ValueError as error:
        raise LinkError(str(error)) from error


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_options(command: F) -> F:
    """Add --cert, --key, --ca, --crl and --plaintext."""
    for option in (
        click.option("--plaintext", is_flag=True, help="Plain TCP: no TLS, no certificates."),
        click.option("--crl", type=_FILE, help="Revocation list (PEM)."),
        click.option("--ca", type=_FILE, help="The authority of both ends (PEM)."),
        click.option("--key", type=_FILE, help="Key of the certificate (PEM)."),
        click.option("--cert", type=_FILE, help="Our certificate (PEM)."),
    ):
        command = option(command)
    return command


def node_options(command: F) -> F:
    """Add --node, --transport, --deadline and the TLS options; pass them to `connect_nodes`."""
    command = tls_options(command)
    for option in (
        click.option(
            "--deadline",
            type=click.FloatRange(min=0.0, min_open=True),
            default=1.0,
            show_default=True,
            help="Seconds until a request to the node counts as unanswered.",
        ),
        click.option(
            "--transport",
            type=click.Choice(["binary", "json"]),
            default="binary",
            show_default=True,
            help="Cells in our protocol, or packets as JSON objects.",
        ),
        click.option(
            "--node",
            "nodes",
            multiple=True,
            metavar="HOST:PORT",
            help="Let this node judge; repeat it to name others for when it fails.",
        ),
    ):
        command = option(command)
    return command


def tls_files(options: dict[str, Any]) -> TlsFiles | None:
    """Return the files that the TLS options name, or None for --plaintext.

    Takes them out of `options`. Raises CertificateError if neither is chosen, or both."""
    plaintext = options.pop("plaintext")
    files = {name: options.pop(name) for name in ("cert", "key", "ca", "crl")}
    if plaintext:
        if any(files.values()):
            raise CertificateError("--plaintext and certificates exclude each other")
        return None
    if not (files["cert"] and files["key"] and files["ca"]):
        raise CertificateError("give --cert, --key and --ca, or --plaintext for TCP without TLS")
    return TlsFiles(**files)


def connect_nodes(
    nodes: tuple[str, ...], *, wait_s: float = 0.0, **options: Any
) -> RemoteClassifier:
    """Return a classifier connected to one of the nodes; takes what `node_options` adds.

    Raises LinkError (address, node, handshake, certificate) with one clear line."""
    addresses = [parse_address(node) for node in nodes]
    kind = JsonClassifier if options.pop("transport") == "json" else RemoteClassifier
    deadline_s = options.pop("deadline")
    tls = tls_files(options)
    return kind.connect(addresses, LinkOptions(tls=tls, deadline_s=deadline_s, wait_s=wait_s))


def log_to_stderr() -> None:
    """Let a daemon's log lines go to standard error, with the time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
