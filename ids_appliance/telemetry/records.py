"""An event's fields in, one line of JSON out: bounded in length, without payloads and secrets."""

import dataclasses
import enum
import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, Final, Literal

import msgspec
import numpy as np

from ids_appliance.telemetry.community_id import community_id

EventType = Literal["trigger", "window", "decision", "response", "drop", "stats", "health"]
VERSION: Final = 1
"""Of the format; grows when a field changes its meaning."""
MAX_LINE: Final = 15_360
"""Bytes of a line, its end included."""

_MAX_TEXT: Final = 512
_MAX_ITEMS: Final = 64
_MAX_STATS: Final = 512
"""Entries of a table near the top: all counters of the appliance find room."""
_MAX_DEPTH: Final = 4
_MAX_TOP: Final = 64
"""Characters of a text outside of the type's own object; JSON makes six bytes of one at most."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_NS: Final = 253_402_300_799 * 10**9  # the end of 9999
_SECRET: Final = re.compile(r"secret|passw|passphrase|token|private_?key|credential|cookie", re.I)
_PROTOCOLS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132}

_TEXTS: Final = ("src_ip", "dest_ip", "src_mac", "dest_mac", "interface", "community_id")
_NUMBERS: Final = ("src_port", "dest_port", "vlan")
TOP: Final = frozenset({*_TEXTS, *_NUMBERS, "proto"})
"""Fields beside the type's own object, named as in Suricata's EVE."""

Describe = Callable[[str, str], Mapping[str, str]]
"""MAC and address ("" where unknown) -> name and vendor, those that are known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What makes an event findable."""

    event_type: EventType
    event_id: str
    timestamp_ns: int
    host: str


def line(head: Head, fields: Mapping[str, object], describe: Describe | None = None) -> bytes:
    """Return the event as a line of at most MAX_LINE bytes, its end included.

    Addresses and MACs may be texts or bytes. The fields that are not in TOP become the object
    named after the type. Never raises for what the fields hold.
    """
    record: dict[str, Any] = {
        "timestamp": timestamp(head.timestamp_ns),
        "event_type": head.event_type,
        "event_id": head.event_id,
        "version": VERSION,
        "host": _text(head.host, _MAX_TOP),
    }
    for name in _TEXTS:
        if text := _name(fields.get(name)):
            record[name] = text
    for name in _NUMBERS:
        number = fields.get(name)
        if isinstance(number, int | np.integer) and 0 <= number <= 0xFFFF:
            record[name] = int(number)
    if (proto := fields.get("proto")) is not None:
        record["proto"] = _text(str(proto), _MAX_TOP)
    if "community_id" not in record and (found := _flow(record)):
        record["community_id"] = found
    if describe is not None and (device := _device(record, describe)):
        record["device"] = device
    detail = {name: value for name, value in fields.items() if name not in TOP}
    record[head.event_type] = plain(detail)
    encoded = msgspec.json.encode(record)
    if len(encoded) >= MAX_LINE:
        record[head.event_type] = {"truncated_bytes": len(encoded)}
        encoded = msgspec.json.encode(record)
    return encoded + b"\n"


def timestamp(ns: int) -> str:
    """Return nanoseconds since the epoch as ISO 8601 with microseconds, in UTC."""
    microseconds = min(max(int(ns), 0), _LAST_NS) // 1000
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds")


def plain(value: object, depth: int = 0) -> Any:
    """Return what JSON can hold of a value: cut to size, without bytes and secrets."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, np.generic):
        return plain(value.item(), depth)
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _text(value, _MAX_TEXT)
    if isinstance(value, bytes | bytearray | memoryview):
        # An identifier is short; whatever is longer may be somebody's data.
        return bytes(value).hex() if len(value) <= 16 else f"({len(value)} bytes)"
    if isinstance(value, PurePath | ipaddress.IPv4Address | ipaddress.IPv6Address):
        return _text(str(value), _MAX_TEXT)
    if depth >= _MAX_DEPTH:
        return f"({type(value).__name__})"
    return _nested(value, depth + 1)


def _nested(value: object, depth: int) -> Any:
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            if len(found) >= (_MAX_STATS if depth <= 2 else _MAX_ITEMS):
                break
            name = _text(str(key), _MAX_TOP)
            found[name] = "(hidden)" if _SECRET.search(name) else plain(item, depth)
        return found
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth) for _, item in zip(range(_MAX_ITEMS), value, strict=False)]
    return f"({type(value).__name__})"


def _text(text: str, most: int) -> str:
    """Return a text cut to `most` characters that UTF-8 can hold."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return cut.encode("utf-8", "replace").decode("utf-8")


def _name(value: object) -> str:
    """Return an address, a MAC or a name as a text; "" where there is none."""
    if isinstance(value, bytes) and len(value) in (4, 16):
        return str(ipaddress.ip_address(value))
    if isinstance(value, bytes) and len(value) == 6:
        return value.hex(":")
    return "" if value is None or isinstance(value, bytes) else _text(str(value), _MAX_TOP)


def _flow(record: Mapping[str, Any]) -> str:
    """Return the Community ID where the record names a whole flow, else ""."""
    proto = str(record.get("proto", "")).lower()
    number = int(proto) if proto.isascii() and proto.isdigit() else _PROTOCOLS.get(proto)
    if number is None or number > 255 or not {"src_port", "dest_port"} <= record.keys():
        return ""
    try:
        source = ipaddress.ip_address(record.get("src_ip", "")).packed
        destination = ipaddress.ip_address(record.get("dest_ip", "")).packed
        return community_id(
            (source, record["src_port"]), (destination, record["dest_port"]), protocol=number
        )
    except ValueError:
        return ""


def _device(record: Mapping[str, Any], describe: Describe) -> dict[str, str]:
    found = describe(record.get("src_mac", ""), record.get("src_ip", ""))
    return {name: _text(found[name], _MAX_TOP) for name in ("name", "vendor") if found.get(name)}
