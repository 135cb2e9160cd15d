"""The tree of captures of CICIoT2023 in, an entry for each of its files out.

Layout as published (Neto et al., Sensors 2023, 23(13), 5941): one folder for each of 33 attacks,
`DDoS-ICMP_Flood/DDoS-ICMP_Flood.pcap`, `DDoS-ICMP_Flood1.pcap` ..., and `Benign_Final` apart. A
capture belongs to the attack that its own name starts with, else to that of the nearest folder.

Its authors label whole files, and so does this reader: every packet of an attack's capture counts
as malicious, the answers of its victims and what other devices did meanwhile too. Where the
attacking devices are named, only what they send is malicious, what is sent to them is related, and
the rest of an attack's capture is ignored.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabelError
from ids_appliance.train.labels import Entry, Label, address_rules, unusable

REPO: Final = "CICIoT2023"
ORIGIN: Final = "ciciot2023"
"""One laboratory: to a split by origin the whole tree is one."""

ATTACKS: Final[dict[str, str]] = {
    # Twelve attacks from many senders, four from one: for a gateway both are floods.
    **dict.fromkeys(
        (
            "DDoS-ACK_Fragmentation",
            "DDoS-HTTP_Flood",
            "DDoS-ICMP_Flood",
            "DDoS-ICMP_Fragmentation",
            "DDoS-PSHACK_Flood",
            "DDoS-RSTFINFlood",
            "DDoS-SlowLoris",
            "DDoS-SYN_Flood",
            "DDoS-SynonymousIP_Flood",
            "DDoS-TCP_Flood",
            "DDoS-UDP_Flood",
            "DDoS-UDP_Fragmentation",
            "DoS-HTTP_Flood",
            "DoS-SYN_Flood",
            "DoS-TCP_Flood",
            "DoS-UDP_Flood",
        ),
        "DoS",
    ),
    **dict.fromkeys(
        (
            "Recon-HostDiscovery",
            "Recon-OSScan",
            "Recon-PingSweep",
            "Recon-PortScan",
            "VulnerabilityScan",
        ),
        "Recon",
    ),
    **dict.fromkeys(("DNS_Spoofing", "MITM-ArpSpoofing"), "Spoofing"),
    **dict.fromkeys(("Mirai-greeth_flood", "Mirai-greip_flood", "Mirai-udpplain"), "Mirai"),
    "DictionaryBruteForce": "BruteForce",
    # Web attacks and what follows them: one family that the appliance has no rule for.
    **dict.fromkeys(
        (
            "Backdoor_Malware",
            "BrowserHijacking",
            "CommandInjection",
            "SqlInjection",
            "Uploading_Attack",
            "XSS",
        ),
        "Other",
    ),
}
"""The 33 attacks by their published names -> our family."""

BENIGN: Final = ("BenignTraffic", "Benign_Final", "Benign")
ENDINGS: Final = (".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz")


def _letters(name: str) -> str:
    # Copies of the dataset differ in separators and case: "DDoS-RSTFINFLOOD", "DDoS-HTTP_Flood-".
    return re.sub(r"[^a-z]", "", name.lower())


_KNOWN: Final = {_letters(name): name for name in (*ATTACKS, *BENIGN)}


def looks_like(root: Path) -> bool:
    """Tell whether a directory has a folder or capture named as an attack of CICIoT2023."""
    return any(_attack(Path(path.name)) for path in root.iterdir())


def entries(root: Path, *, on_error: str = "stop", attackers: Sequence[str] = ()) -> list[Entry]:
    """Return an entry for every capture of the tree, in the order of their paths.

    attackers: MACs or addresses. A capture that neither its name nor a folder places is mislabelled
    (on_error "skip") or raises LabelError ("stop"), as does a tree without captures.
    """
    found = []
    for path in sorted(p for p in root.rglob("*") if p.name.lower().endswith(ENDINGS)):
        file = path.relative_to(root)
        name = _attack(file)
        if name is not None:
            found.append(_entry(file.as_posix(), name, attackers))
            continue
        problem = f"{file} is named like no attack of CICIoT2023, nor is its folder"
        if on_error == "stop":
            raise LabelError(f"{root}: {problem}: rename it, or move it out of the tree")
        found.append(unusable(file.as_posix(), problem))
    if not found:
        raise LabelError(f"{root} holds no capture ({', '.join(ENDINGS)})")
    return found


def _attack(file: Path) -> str | None:
    # The file's own name first: the captures of all attacks may lie in the root.
    for part in (file.name.split(".")[0], *(p.name for p in file.parents if p.name)):
        if (name := _KNOWN.get(_letters(part))) is not None:
            return name
    return None


def _entry(file: str, name: str, attackers: Sequence[str]) -> Entry:
    if name in BENIGN:
        return Entry(file, "pcap", "Benign", ORIGIN, REPO, (), Label.BENIGN, "")
    family = ATTACKS[name]
    rules = tuple(rule for one in attackers for rule in address_rules(one, family))
    default = Label.IGNORE if attackers else Label.MALICIOUS
    return Entry(file, "pcap", family, ORIGIN, REPO, rules, default, "")
