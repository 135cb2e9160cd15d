"""The packet record: names, widths, groups and the hash that travels with every model.

The definitions behind the names are in docs/features.md; the code that computes them is
ext/packet.pxd. A change to either changes ``DEFINITION_VERSION`` and with it the hash, so that a
model never judges numbers it was not trained on. A model's hash covers the columns up to the last
group that it asks of: a further group leaves the models without it as they were.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DEFINITION_VERSION: Final = 1
"""Version of the definitions behind the names; part of the hash."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the packet record."""

    name: str
    width: int
    """Bits of the value: 1, 8 or 16. The domain is 0 .. 2**width - 1."""
    group: str
    """Named group the feature belongs to; a model may use features of any group."""

    @property
    def domain(self) -> int:
        """Number of different values: 2, 256 or 65,536."""
        return 1 << self.width


def _packet_group() -> tuple[Feature, ...]:
    head = [
        ("src_port", 16),
        ("dst_port", 16),
        ("proto", 8),
        ("header_length", 16),
        ("length", 16),
        ("ttl", 8),
        ("tcp_flags", 8),
        ("payload_len", 16),
    ]
    payload = [(f"payload_{i}", 8) for i in range(32)]
    flags = [(f"{f}_flag", 1) for f in ("syn", "ack", "fin", "rst", "psh", "urg", "ece", "cwr")]
    protocols = ("tcp", "udp", "icmp", "arp")
    services = ("dns", "dhcp", "http", "https", "ssh", "smtp", "irc", "telnet")
    bits = [(f"is_{p}", 1) for p in protocols + services]
    return tuple(Feature(name, width, "packet") for name, width in head + payload + flags + bits)


def _header_group() -> tuple[Feature, ...]:
    octets = [f"{end}_octet_{i}" for end in ("src", "dst") for i in range(4)]
    return tuple(Feature(name, 8, "header") for name in octets)


FEATURES: Final[tuple[Feature, ...]] = _packet_group()
"""The 60 features of the group `packet`: the record's first columns, in order."""

COLUMNS: Final[tuple[Feature, ...]] = FEATURES + _header_group()
"""All of the record's columns, in order; a model's features are indices into these."""

FEATURE_NAMES: Final[tuple[str, ...]] = tuple(f.name for f in FEATURES)

N_FEATURES: Final = len(FEATURES)

N_COLUMNS: Final = len(COLUMNS)

HEADER_FEATURES: Final[tuple[int, ...]] = tuple(
    i for i, f in enumerate(COLUMNS) if f.group == "header" or f.name in ("length", "proto")
)
"""Indices of S2's ten: length, protocol, and the octets of both IPv4 addresses."""

PAYLOAD_FEATURES: Final[tuple[int, ...]] = tuple(
    i for i, f in enumerate(FEATURES) if f.name.startswith("payload_")
)
"""Indices of S1's 33 size and payload features (payload_len, payload_0 .. payload_31)."""


def schema_text(columns: Sequence[Feature] = FEATURES) -> str:
    """Return the canonical text the hash is taken over, one feature a line."""
    lines = [f"ids-appliance packet record, definition {DEFINITION_VERSION}"]
    lines += [f"{i} {f.group} {f.name} u{f.width}" for i, f in enumerate(columns)]
    return "\n".join(lines) + "\n"


def _hash(columns: Sequence[Feature]) -> bytes:
    return hashlib.sha256(schema_text(columns).encode()).digest()


SCHEMA_HASH: Final[bytes] = _hash(FEATURES)
"""SHA-256 of :func:`schema_text`, 32 bytes: of the 60 features, in every handshake."""

RECORD_HASH: Final[bytes] = _hash(COLUMNS)
"""The same of the whole record: in every table, and in bundles that ask of addresses."""


def model_hash(features: Sequence[int]) -> bytes:
    """Return the hash that a model of these features (indices into COLUMNS) carries."""
    return RECORD_HASH if any(i >= N_FEATURES for i in features) else SCHEMA_HASH
