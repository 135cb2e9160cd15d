"""Texts of the configuration in (addresses, networks, MACs, names), their parts out.

Every function raises ValueError with what was expected instead; the caller knows the place.
"""

import ipaddress
import re
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_INTERFACE_BYTES: Final = 15
"""IFNAMSIZ without the final zero."""
_WIDEST: Final = {4: 8, 6: 16}
"""A network wider than this would protect nearly everybody."""


def host_port(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT or [IPV6]:PORT."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not an address: write an IPv6 address as [::1]:7447")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 65536
    if not host or not colon or number > 65535:
        raise ValueError(f"{text!r} is not an address: write HOST:PORT")
    return host, number


def mac(text: str) -> bytes:
    """Return the six bytes of one device's MAC."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC: write 02:00:5e:00:53:01")
    value = bytes.fromhex(text.replace(":", ""))
    if value[0] & 1 or not any(value):
        raise ValueError(f"{text!r} is the MAC of a group or of nobody, not of one device")
    return value


def address(text: str) -> Address:
    """Return an IPv4 or IPv6 address of one host."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id:
        raise ValueError(f"{text!r} names a zone: write ADDRESS@INTERFACE")
    if found.is_multicast or found.is_unspecified:
        raise ValueError(f"{text!r} is not the address of one host")
    return found


def network(text: str) -> Network:
    """Return an IPv4 or IPv6 network, or the one of a single address."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        try:
            near = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is not a network: write 192.0.2.0/24") from None
        raise ValueError(f"{text!r} has bits past its mask: did you mean {near}") from None
    if found.prefixlen < _WIDEST[found.version]:
        raise ValueError(
            f"{text!r} covers nearly everybody: at least /{_WIDEST[found.version]} is expected"
        )
    return found


def interface(text: str) -> str:
    """Return the name of a network interface as the kernel allows it."""
    if (
        not 0 < len(text.encode("utf-8", "replace")) <= _INTERFACE_BYTES
        or text in {".", ".."}
        or re.search(r"[\s/:\x00-\x1f\x7f]", text)
    ):
        raise ValueError(f"{text!r} is not the name of an interface: at most 15 characters")
    return text


def network_at(text: str) -> tuple[Network, str]:
    """Return network and interface ("" for none) of NETWORK or NETWORK@INTERFACE."""
    value, where = _at(text)
    return network(value), where


def address_at(text: str) -> tuple[Address, str]:
    """Return address and interface ("" for none) of ADDRESS or ADDRESS@INTERFACE."""
    value, where = _at(text)
    return address(value), where


def mac_at(text: str) -> tuple[bytes, str]:
    """Return MAC and interface of MAC@INTERFACE."""
    value, where = _at(text)
    if not where:
        raise ValueError(f"{text!r} does not say where: write MAC@INTERFACE")
    return mac(value), where


def device(text: str) -> bytes | Address:
    """Return what names a device: a MAC's bytes or an address."""
    if _MAC.fullmatch(text):
        return mac(text)
    try:
        return address(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a MAC nor an address") from None


def label(text: str) -> str:
    """Return a name for people: printable, 1 .. 64 characters."""
    if not 0 < len(text) <= 64 or not text.isprintable():
        raise ValueError(f"{text!r} is no name: 1 to 64 printable characters are expected")
    return text


def _at(text: str) -> tuple[str, str]:
    value, at, where = text.partition("@")
    return value, interface(where) if at else ""
