"""Options that say who the gateway was in a capture, so that its TTLs and own frames are known."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import click

from ids_appliance._features import HostIdentity


def _mac(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[bytes]:
    macs = []
    for value in values:
        if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", value):
            raise click.BadParameter(f"{value!r} is not a MAC address such as 02:00:5e:10:00:01")
        macs.append(bytes.fromhex(re.sub("[:-]", "", value)))
    return macs


def _address(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[bytes]:
    try:
        return [ipaddress.ip_address(value).packed for value in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def identity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --gateway-mac and --gateway-address; see `identity`."""
    function = click.option(
        "--gateway-address",
        "addresses",
        multiple=True,
        metavar="IP",
        callback=_address,
        help="An address of the gateway itself; its own frames are not judged. Repeatable.",
    )(function)
    return click.option(
        "--gateway-mac",
        "macs",
        multiple=True,
        metavar="MAC",
        callback=_mac,
        help="The capture was made at a gateway with this MAC: frames it forwarded get back the "
        "one it took off their TTL. Repeatable.",
    )(function)


def identity(macs: list[bytes], addresses: list[bytes]) -> HostIdentity:
    """Build the identity; too many entries are a usage error."""
    try:
        return HostIdentity(macs, addresses)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
