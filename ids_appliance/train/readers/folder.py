"""A folder of one's own captures with captures.toml in, an entry for each capture out.

    origin = "our-home"

    [files]                      # the first pattern that fits a file's path decides
    "scan-*.pcap" = "malicious Recon"
    "*" = "benign"

    [addresses]                  # in every file, before what the file says
    "192.168.1.66" = "malicious Recon"
    "aa:bb:cc:dd:ee:ff" = "benign"

Labels are those of labels.json, a family follows a label other than benign. What an address with
the label malicious sends is malicious, and what is sent to it related; any other label holds for
both directions. A capture that no pattern fits is mislabelled, and a pattern that fits no capture
is an error (a slip in "scan-*" would leave the scan to "*"), so that nothing becomes ordinary by
oversight.
"""

import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from ids_appliance.errors import LabelError
from ids_appliance.train.labels import Entry, Label, Rule, address_rules, unusable

LABELS: Final = "captures.toml"
ENDINGS: Final = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz")


def entries(root: Path, *, on_error: str = "stop") -> list[Entry]:
    """Return an entry for every capture below the folder, in the order of their paths.

    on_error: what to do about a capture that no pattern fits: "stop" raises LabelError, "skip"
    lists it as mislabelled. A captures.toml that cannot be used, or one of whose patterns fits no
    capture, is raised either way.
    """
    path = root / LABELS
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise LabelError(f"{path} is not TOML: {error}") from error
    strange = set(document) - {"origin", "files", "addresses"}
    if strange:
        raise LabelError(f"{path}: there is no {sorted(strange)[0]!r} (origin, files, addresses)")
    origin = document.get("origin", root.resolve().name)
    if not isinstance(origin, str) or not origin:
        raise LabelError(f"{path}: origin is not a text")
    patterns = {k: _label(v, f"{path}: {k!r}") for k, v in _table(document, "files", path).items()}
    rules: list[Rule] = []
    for address, said in _table(document, "addresses", path).items():
        label, family = _label(said, f"{path}: {address!r}")
        try:
            both = address_rules(address, family)
        except LabelError as error:
            raise LabelError(f"{path}: {error}") from error
        rules += both if label is Label.MALICIOUS else [replace(r, label=label) for r in both]
    found, unused = [], set(patterns)
    for capture in sorted(p for p in root.rglob("*") if p.name.lower().endswith(ENDINGS)):
        file = capture.relative_to(root).as_posix()
        unused -= {one for one in unused if fnmatch(file, one)}
        fitting = next((patterns[one] for one in patterns if fnmatch(file, one)), None)
        if fitting is None:
            problem = f"no pattern of {LABELS} fits {file}"
            if on_error == "stop":
                raise LabelError(f"{path}: {problem}: add one to [files]")
            found.append(unusable(file, problem))
            continue
        label, family = fitting
        found.append(Entry(file, "pcap", family, origin, origin, tuple(rules), label, ""))
    if not found:
        raise LabelError(f"{root} holds no capture ({', '.join(ENDINGS)})")
    if unused:
        raise LabelError(
            f"{path}: {min(unused)!r} of [files] fits no capture: correct it, or take it out"
        )
    return found


def _table(document: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise LabelError(f"{path}: [{name}] is not a table")
    return table


def _label(value: Any, where: str) -> tuple[Label, str]:
    names = {label.name.lower(): label for label in Label}
    words = value.split() if isinstance(value, str) else []
    if not words or len(words) > 2 or words[0] not in names:
        raise LabelError(f'{where}: {value!r} is not "LABEL FAMILY" ({", ".join(names)})')
    label = names[words[0]]
    if label is Label.BENIGN:
        if len(words) > 1:
            raise LabelError(f"{where}: benign packets are of no family")
        return label, "Benign"
    if len(words) < 2:
        raise LabelError(f"{where}: say the family, as in '{words[0]} DoS'")
    return label, words[1]
