"""SENDER records and what people write in, subjects of decisions out; and subjects as text."""

import ipaddress
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from ids_appliance.errors import SubjectError
from ids_appliance.policy.spans import Network, Span, of_network, of_subject
from ids_appliance.types import SENDER, Kind, Side, Standing, Subject

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SENDER: Final = struct.Struct("<IBB6s16s")
assert _SENDER.size == SENDER.itemsize
_MAC: Final = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
_INTERFACE: Final = re.compile(r"[^\s/@:]{1,15}")  # IFNAMSIZ less the final zero (linux/if.h)
MAX_TEXT: Final = 128
FORMS: Final = "write an ADDRESS, a MAC or MAC@INTERFACE"


def subject_of(sender: bytes, names: Callable[[int], str], *, standing: int = 0) -> Subject | None:
    """Return whom a decision about a canonical SENDER record would name; None where nobody.

    names: interface index to name, "" where unknown. A sender beyond us is `proven` only by the
    bits of `standing`, and not if our devices call it: then established flows are left alone, too;
    one on the protected side is named by MAC and port, which need no proof.
    """
    if len(sender) != _SENDER.size:
        return None
    ifindex, side, family, mac, address = _SENDER.unpack(sender)
    if side == Side.LAN and any(mac):
        return Subject(Kind.MAC, mac, interface=names(ifindex))
    if family not in (4, 6) or not any(address):
        return None
    whole = address[: 4 if family == 4 else 16]
    if side == Side.FLOOD:
        return Subject(Kind.FLOOD, whole, port=ifindex) if 0 < ifindex < 65536 else None
    interface = names(ifindex) if side == Side.LAN else ""
    # Whoever forges the address of a peer that our devices call must not have it cut off from them.
    proven = standing & (Standing.PROVEN | Standing.CALLED) == Standing.PROVEN
    return of_address(whole, interface=interface, proven=bool(interface) or proven)


def of_address(address: bytes, *, interface: str = "", proven: bool = True) -> Subject:
    """Return the subject of an IPv4 address (4 bytes) or of an IPv6 address' /64 (16 or 8)."""
    if len(address) == 4:
        return Subject(Kind.IPV4, address, interface=interface, proven=proven)
    return Subject(Kind.IPV6, address[:8], interface=interface, proven=proven)


def identity(subject: Subject) -> Subject:
    """Return what stays the same of a subject, whether its address is proven by now or not."""
    return subject if subject.proven else replace(subject, proven=True)


def network_of(subject: Subject) -> Network | None:
    """Return the addresses that a decision about a subject concerns; None for a MAC."""
    if subject.kind is Kind.MAC:
        return None
    if subject.kind is Kind.IPV6:
        return ipaddress.IPv6Network((subject.value + bytes(8), 64))
    return ipaddress.ip_network(ipaddress.ip_address(subject.value))


def address_text(address: bytes) -> str:
    """Return 4 or 16 bytes as people write an address; "" for anything else."""
    return str(ipaddress.ip_address(address)) if len(address) in (4, 16) else ""


def subject_text(subject: Subject) -> str:
    """Return a subject as `release` and `why` take it, without its interface."""
    if subject.kind is Kind.MAC:
        return subject.value.hex(":")
    if subject.kind is Kind.IPV6:
        return str(network_of(subject))
    text = address_text(subject.value)
    if subject.kind is not Kind.FLOOD:
        return text
    return f"[{text}]:{subject.port}" if len(subject.value) == 16 else f"{text}:{subject.port}"


def told(subject: Subject) -> str:
    """Return a subject as a sentence names it: with its port, or as the flood it is."""
    text = subject_text(subject)
    if subject.kind is Kind.FLOOD:
        return f"the flood of {text}"
    return f"{text}@{subject.interface}" if subject.interface else text


@dataclass(frozen=True, slots=True)
class Named:
    """What people have written: exactly one of MAC and network, or a flood's victim with port."""

    mac: bytes = b""
    network: Network | None = None
    interface: str = ""
    port: int = 0
    span: Span | None = field(init=False, compare=False, default=None)
    """The network's addresses."""

    def __post_init__(self) -> None:
        if self.network is not None:
            object.__setattr__(self, "span", of_network(self.network))

    @property
    def address(self) -> bytes:
        """The single address (4 or 16 bytes); empty for a network of several or a MAC."""
        if self.network is None or self.network.prefixlen != self.network.max_prefixlen:
            return b""
        return self.network.network_address.packed

    def means(self, subject: Subject, address: bytes = b"") -> bool:
        """Say whether this names a subject; `address` is the latest one seen from a MAC."""
        if self.interface and self.interface != subject.interface:
            return False
        if self.mac:
            return subject.kind is Kind.MAC and subject.value == self.mac
        if self.port and (subject.kind is not Kind.FLOOD or subject.port != self.port):
            return False
        if self.span is None:
            return False
        own = of_subject(subject)
        return self.span.has(address) if own is None else self.span.overlaps(own)


def parse(text: str, interface: str = "") -> Named:
    """Return what ADDRESS, NETWORK, MAC, each perhaps @INTERFACE, or VICTIM:PORT names.

    Raises SubjectError that says what to write.
    """
    if len(text) > MAX_TEXT:
        raise SubjectError(f"{text[:20]!r}... is too long: {FORMS}")
    body, at, place = text.strip().partition("@")
    place = place if at else interface
    if (at or place) and not _INTERFACE.fullmatch(place):
        raise SubjectError(f"{place!r} is not an interface: {FORMS}")
    if _MAC.fullmatch(body.lower()):
        return Named(mac=bytes.fromhex(body.replace("-", ":").replace(":", "")), interface=place)
    victim = re.fullmatch(r"\[([0-9a-fA-F:.]+)\]:(\d{1,5})|([0-9.]+):(\d{1,5})", body)
    port = int(victim[2] or victim[4]) if victim else 0
    if victim and not 0 < port < 65536:
        raise SubjectError(f"{text!r}: a port is 1 .. 65535")
    try:
        return Named(
            network=ipaddress.ip_network((victim[1] or victim[3]) if victim else body),
            interface=place,
            port=port,
        )
    except ValueError as error:
        raise SubjectError(f"{text!r} names nobody: {_hint(body)}") from error


def _hint(text: str) -> str:
    """Return what to write instead: the network that an address with a prefix length is in."""
    try:
        return f"did you mean {ipaddress.ip_network(text, strict=False)}?"
    except ValueError:
        return FORMS
