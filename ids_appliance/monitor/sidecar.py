"""Who attacked whom and when in, an entry of labels.json out, the format that training reads.

Rules are made from what is known of the attack, never from the packets: malicious is what the
attacker sent (to the victim, where one is named), related what came back. The first match wins.
"""

import gzip
import hashlib
import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ids_appliance.capture.file import GZIP_MAGIC, CaptureFile
from ids_appliance.errors import LabelError

LABELS: Final = "labels.json"
SLACK_S: Final = 5.0
"""How long after an attack answers to it may still come."""
_BYTES: Final = 64 << 20
_PIECE: Final = 1 << 20
_MAC: Final = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a capture file itself says."""

    path: Path
    packets: int
    first_ns: int
    last_ns: int
    sha256: str
    """Of the uncompressed file."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack, by hand."""

    family: str
    attackers: tuple[str, ...]
    """Addresses or MACs; at least one."""
    victims: tuple[str, ...] = ()
    """Addresses or MACs; empty: whoever it was."""
    proto: str = ""
    ports: tuple[int, ...] = ()
    """Of the victim."""
    start_ns: int | None = None
    stop_ns: int | None = None
    """None: from the first frame, to the last."""


def facts(path: Path) -> Facts:
    """Read a capture's times and size. Raises CaptureError, LabelError: no frame is in it."""
    capture = CaptureFile(path)
    packets = 0
    first = last = 0
    try:
        for batch in capture.batches():
            times = batch.frames["timestamp_ns"]
            if not packets and len(times):
                first = last = int(times[0])
            packets += len(times)
            last = max(last, int(times.max(initial=last)))
    finally:
        capture.close()
    if not packets:
        raise LabelError(f"{path} holds no frame: there is nothing to label")
    return Facts(path, packets, first, last, _sha256(path))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
    with gzip.open(path) if zipped else path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def rules(attack: Attack, capture: Facts) -> list[Json]:
    """Return the rules of an attack in a capture; none where it was over before, or came after.

    Raises LabelError: an attacker or victim is neither an address nor a MAC."""
    start = 0.0 if attack.start_ns is None else (attack.start_ns - capture.first_ns) / 1e9
    length = (capture.last_ns - capture.first_ns) / 1e9
    stop = length if attack.stop_ns is None else (attack.stop_ns - capture.first_ns) / 1e9
    if stop + SLACK_S < 0 or start > length:
        return []
    low = math.floor(max(0.0, start) * 1e6) / 1e6
    flow: Json = {"proto": attack.proto} if attack.proto else {}
    found = []
    senders, targets = _sides(attack.attackers), _sides(attack.victims) or [("", [])]
    for label, late in (("malicious", 0.0), ("related", SLACK_S)):
        ports = {"dport" if label == "malicious" else "sport": list(attack.ports)}
        # To the microsecond as training compares, never cutting the attack's own last frame off.
        when = {"t_min": low, "t_max": round(stop + late + 1e-6, 6)}
        for kind, who in senders:
            for other, whom in targets:
                ways = {"malicious": ("src", "dst"), "related": ("dst", "src")}[label]
                match = {f"{kind}_{ways[0]}": who}
                if other:
                    match[f"{other}_{ways[1]}"] = whom
                match |= flow | (ports if attack.ports else {}) | when
                found.append({"label": label, "family": attack.family, "match": match})
    return found if stop >= 0 else [rule for rule in found if rule["label"] == "related"]


def _sides(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return addresses and MACs apart: ("ip", [...]), ("eth", [...]), without empty ones."""
    addresses: list[str] = []
    macs: list[str] = []
    for name in names:
        try:
            addresses.append(str(ipaddress.ip_address(name)))
        except ValueError:
            if not _MAC.fullmatch(name):
                raise LabelError(
                    f"{name!r} is neither an address nor a MAC: write 10.0.0.5 or 02:00:00:00:00:01"
                ) from None
            macs.append(name.lower().replace("-", ":"))
    return [(kind, found) for kind, found in (("ip", addresses), ("eth", macs)) if found]


def shifted(entry: Json, *, first_ns: int, capture: Facts) -> list[Json]:
    """Return another capture's rules as they are in this one, by the time that both share.

    `first_ns` is the other's first frame. Rules that end before this one begins are left out."""
    shift = (first_ns - capture.first_ns) / 1e9
    length = (capture.last_ns - capture.first_ns) / 1e9
    found = []
    for rule in entry.get("rules", []):
        match = dict(rule["match"])
        for name in ("t_min", "t_max"):
            if name in match:
                match[name] = round(match[name] + shift, 6)
        if match.get("t_max", 0.0) >= 0 and match.get("t_min", 0.0) <= length:
            found.append({**rule, "match": match})
    return found


def entry(capture: Facts, found: list[Json], *, group: str, note: str, default: str) -> Json:
    """Return a file's entry. `default`: what a frame is that no rule matches."""
    attacks = [str(rule["family"]) for rule in found if rule["label"] == "malicious"]
    return {
        "file": capture.path.name,
        "kind": "pcap",
        "family": attacks[0] if attacks else "Benign",
        "rules": found,
        "default": default,
        "note": note,
        "group": group,
        "packets": capture.packets,
        "sha256_uncompressed": capture.sha256,
    }


def read(path: Path) -> Json:
    """Return a folder's labels as they are, or an empty document. Raises LabelError."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_BYTES))
    except FileNotFoundError:
        return {
            "version": 1,
            "about": "rules for every packet of each capture; the first match wins",
            "label_values": ["malicious", "related", "benign", "ignore"],
            "files": [],
        }
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("files"), list):
        raise LabelError(f"{path} is no labels.json")
    return document


def merged(document: Json, new: Json, *, replace: bool) -> Json:
    """Return the document with a file's entry in it: new, in the old one's place, or its rules
    after the old one's. Raises LabelError: the capture has changed since it was labelled."""
    files = list(document["files"])
    at = next((i for i, one in enumerate(files) if _name(one) == new["file"]), None)
    if at is None:
        files.append(new)
    elif replace:
        files[at] = new
    else:
        old = files[at]
        digest = old.get("sha256_uncompressed") or new["sha256_uncompressed"]
        if digest != new["sha256_uncompressed"]:
            raise LabelError(
                f"{new['file']} is not the file that was labelled before: label it anew (--replace)"
            )
        rules_ = [*old.get("rules", []), *(r for r in new["rules"] if r not in old["rules"])]
        family = old["family"] if old.get("family", "Benign") != "Benign" else new["family"]
        files[at] = {**old, "family": family, "rules": rules_}
    return {**document, "files": files}


def rules_of(document: Json, file: str) -> int:
    """Return how many rules a file has."""
    return next((len(one.get("rules", ())) for one in document["files"] if _name(one) == file), 0)


def _name(one: Any) -> str:
    return str(one.get("file")) if isinstance(one, dict) else ""


def write(path: Path, document: Json, *, check: Callable[[Path], None]) -> None:
    """Replace a folder's labels as a whole, once `check` has read them without an error.

    Raises what `check` raises, and LabelError: not to be written. The old ones stay then."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        check(part)
        os.replace(part, path)
    except OSError as error:
        raise LabelError(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
