"""labels.json in, a label and a family for every frame out.

Format: {"version": 1, "files": [{"file", "kind", "family", "rules", "default", "group", "origin",
...}]}. Rules are tried in order, the first that matches wins, else `default`. A rule's `match` is
an AND of fields; a list means any of; `x_not` negates; `t_min` and `t_max` are seconds since the
file's first frame, inclusive.
"""

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.errors import LabelError
from ids_appliance.train.fields import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    Field,
    Mask,
    address_text,
    read_fields,
)
from ids_appliance.types import U8, FrameBatch


class Label(IntEnum):
    """What is known of a packet."""

    BENIGN = 0
    MALICIOUS = 1
    """Sent by the attack."""
    RELATED = 2
    """The victim's answer to it, or traffic that a man in the middle diverted or relayed."""
    IGNORE = 3
    """Cannot be decided from what the source says."""


@dataclass(frozen=True, slots=True)
class Rule:
    label: Label
    family: str
    conditions: tuple[tuple[str, tuple[Any, ...], bool], ...]
    """(field, values any of which will do, negated); t_min and t_max hold their one number."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of labels.json."""

    file: str
    kind: str
    family: str
    group: str
    """The origin: one lab or network."""
    repo: str
    rules: tuple[Rule, ...]
    default: Label
    sha256: str
    """Of the uncompressed file; empty if not given."""
    problem: str = ""
    """Why its labels cannot be used; empty if they can."""


_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "igmp": 2}
_FLAGS: Final = "FSRPAUEC"
_ETYPES: Final = {"arp": ETH_ARP, "ipv4": ETH_IPV4, "ipv6": ETH_IPV6}


def read_labels(path: Path, *, on_error: str = "stop") -> list[Entry]:
    """Read labels.json.

    on_error: "stop" raises LabelError naming the file and rule that cannot be used; "skip" returns
    such a file as an Entry with its `problem`. What is no labels.json at all is raised either way.
    """
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != 1:
        raise LabelError(f"{path} is not a labels.json of version 1")
    files = document.get("files")
    if not isinstance(files, list) or not files:
        raise LabelError(f"{path} lists no files")
    entries: dict[str, Entry] = {}
    for i, raw in enumerate(files):
        where = f"{path}: file {i + 1}"
        try:
            entry = _entry(raw, where)
            if entry.file in entries:
                raise LabelError(f"{path}: {entry.file} is listed twice")
        except LabelError as error:
            if on_error == "stop":
                raise
            name = raw.get("file") if isinstance(raw, dict) else None
            name = name if isinstance(name, str) and name not in entries else f"file {i + 1}"
            entry = unusable(name, str(error))
        entries[entry.file] = entry
    return list(entries.values())


def unusable(file: str, problem: str) -> Entry:
    """Return the Entry of a file whose labels cannot be used: it is named and counted."""
    return Entry(file, "pcap", "Benign", "", "", (), Label.IGNORE, "", problem)


def _entry(raw: Any, where: str) -> Entry:
    if not isinstance(raw, dict) or not isinstance(raw.get("file"), str):
        raise LabelError(f"{where} has no name")
    file = raw["file"]
    where = f"{where} ({file})"
    parts = PurePosixPath(file).parts
    if PurePosixPath(file).is_absolute() or ".." in parts or not parts:
        raise LabelError(f"{where} lies outside the data directory")
    kind = _text(raw, "kind", where, "pcap")
    family = _text(raw, "family", where, "Benign")
    origin = raw.get("origin", {})
    repo = _text(origin if isinstance(origin, dict) else {}, "repo", where, "")
    group = _text(raw, "group", where, parts[0] if len(parts) > 1 else file)
    sha256 = _text(raw, "sha256_uncompressed", where, "")
    if kind != "pcap":
        return Entry(file, kind, family, group, repo, (), Label.IGNORE, sha256)
    rules = raw.get("rules", [])
    if not isinstance(rules, list):
        raise LabelError(f"{where}: rules is not a list")
    return Entry(
        file,
        kind,
        family,
        group,
        repo,
        tuple(_rule(rule, family, f"{where}, rule {i + 1}") for i, rule in enumerate(rules)),
        _label(raw.get("default"), where),
        sha256,
    )


def _text(raw: Mapping[str, Any], name: str, where: str, default: str) -> str:
    value = raw.get(name, default)
    if not isinstance(value, str):
        raise LabelError(f"{where}: {name} is not a text")
    return value


def _label(value: Any, where: str) -> Label:
    names = {label.name.lower(): label for label in Label}
    if not isinstance(value, str) or value not in names:
        raise LabelError(f"{where}: {value!r} is not a label ({', '.join(names)})")
    return names[value]


def _rule(raw: Any, family: str, where: str) -> Rule:
    if not isinstance(raw, dict) or not isinstance(raw.get("match"), dict):
        raise LabelError(f"{where} has no match")
    conditions = []
    for key, value in raw["match"].items():
        if key in ("t_min", "t_max"):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise LabelError(f"{where}: {key} is not a number")
            conditions.append((key, (float(value),), False))
            continue
        name = key.removesuffix("_not")
        if name not in _READ:
            raise LabelError(f"{where}: there is no field {key!r}")
        wanted = value if isinstance(value, list) else [value]
        try:
            values = tuple(_READ[name](one) for one in wanted)
        except (ValueError, TypeError, AttributeError) as error:
            raise LabelError(f"{where}: {key} cannot be {value!r}") from error
        conditions.append((name, values, key != name))
    return Rule(
        _label(raw.get("label"), where),
        _text(raw, "family", where, family),
        tuple(conditions),
    )


def _mac(value: Any) -> bytes:
    octets = bytes.fromhex(value.replace(":", ""))
    if len(octets) != 6:
        raise ValueError("not a MAC")
    return octets


def _ip(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("an address is a text")
    return address_text(ipaddress.ip_address(value).packed)


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise ValueError("not a port or operation")
    return value


def _proto(value: Any) -> int:
    return _PROTOCOLS[value] if value in _PROTOCOLS else int(value.strip(), 10)


def _etype(value: Any) -> int:
    return _ETYPES[value] if value in _ETYPES else int(value.strip(), 16)


def _tcp_flags(value: Any) -> int:
    if value == "0":
        return 0
    bits = [_FLAGS.index(letter) for letter in value]
    if not bits or bits != sorted(set(bits)):
        raise ValueError("flags are letters of FSRPAUEC, in that order")
    return sum(1 << bit for bit in bits)


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("eth_src", "eth_dst", "arp_sha", "arp_tha"), _mac),
    **dict.fromkeys(("ip_src", "ip_dst", "arp_spa", "arp_tpa"), _ip),
    **dict.fromkeys(("sport", "dport", "arp_op"), _number),
    "proto": _proto,
    "etype": _etype,
    "tcp_flags": _tcp_flags,
}


def address_rules(address: str, family: str) -> tuple[Rule, ...]:
    """Return the rules for one attacking device: what it sends is malicious, what it gets related.

    address: its MAC or its address. Raises LabelError if it is neither.
    """
    # Addresses first: an IPv6 address may be six octets to who asks for a MAC, never the reverse.
    for read, names in ((_ip, _IP_ENDS), (_mac, (("eth_src",), ("eth_dst",)))):
        try:
            value = read(address)
        except ValueError:
            continue
        return tuple(
            Rule(label, family, ((name, (value,), False),))
            for label, ends in zip((Label.MALICIOUS, Label.RELATED), names, strict=True)
            for name in ends
        )
    raise LabelError(f"{address!r} is neither a MAC nor an address")


_IP_ENDS: Final = (("ip_src", "arp_spa"), ("ip_dst", "arp_tpa"))


class Labeller:
    """Labels the frames of one file, batch after batch in the file's order."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._first_s: float | None = None
        default = "Benign" if entry.default is Label.BENIGN else entry.family
        self.families: tuple[str, ...] = (default, *(rule.family for rule in entry.rules))
        """Family of a frame, by what `label` returns second."""

    def label(self, batch: FrameBatch) -> tuple[U8, npt.NDArray[np.uint32]]:
        """Return (n,) of Label, and (n,) of the number of the rule that decided (0: none)."""
        n = len(batch.frames)
        labels = np.full(n, self._entry.default, np.uint8)
        decided = np.zeros(n, np.uint32)  # an attacker's address makes four rules of each file
        if n == 0 or not self._entry.rules:
            return labels, decided
        # The reference reader adds the fraction as a float: equal values need the same sum.
        seconds, rest = np.divmod(batch.frames["timestamp_ns"], 10**9)
        times = seconds + rest / 1e9
        if self._first_s is None:
            self._first_s = float(times[0])
        fields = read_fields(batch)
        fields["t"] = Field(times - self._first_s, np.ones(n, np.bool_))
        open_ = np.ones(n, np.bool_)
        for number, rule in enumerate(self._entry.rules, start=1):
            found = open_ & _matches(rule, fields)
            labels[found] = rule.label
            decided[found] = number
            open_ &= ~found
        return labels, decided


def _matches(rule: Rule, fields: Mapping[str, Field]) -> Mask:
    found = np.ones(len(fields["t"].values), np.bool_)
    for name, values, negated in rule.conditions:
        if name == "t_min":
            found &= fields["t"].values >= values[0]
        elif name == "t_max":
            found &= fields["t"].values <= values[0]
        else:
            field = fields[name]
            equal = np.zeros(len(found), np.bool_)
            for value in values:
                if isinstance(value, bytes):
                    equal |= field.values == np.void(value)
                else:
                    equal |= field.values == value
            found &= field.present & (equal != negated)
    return found
