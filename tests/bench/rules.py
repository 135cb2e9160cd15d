"""Labelled captures in, how far the further rules' counts lie above ordinary life out.

    python -m tests.bench.rules [--data DIR] [--jobs 2]

Every rule counts with a threshold of one; the highest count that a sender ever reaches in a window
is compared with the count that ships. Origins fall into two halves by a digest of their name, to
show how much the highest count depends on whom one has seen; counts were chosen with all of them in
view. docs/evaluation.md has the table.
"""

import argparse
import hashlib
import os
import re
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ids_appliance import assemble
from ids_appliance._evidence import canonical_senders
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance._screen import Screen
from ids_appliance.capture.forwarders import forwarders
from ids_appliance.capture.slices import Slices
from ids_appliance.config import Trigger
from ids_appliance.schema import N_FEATURES
from ids_appliance.train.labels import Entry, Label, Labeller, read_labels
from ids_appliance.trigger import embedded
from ids_appliance.types import SENDER, FrameBatch, Outcome

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
S = 10**9
COUNT = re.compile(r"\d+")
SHIPPED = embedded.settings(Trigger())
WATCHED = {
    "repeated_connections": ("repeated_connections", "repeated_alone"),
    "repeated_connections, 60 s": ("slow_repeated", "slow_repeated_alone"),
    "udp_exchanges": ("udp_exchanges", "udp_exchanges_alone"),
    "failed_connections": ("failed_connections", "failed_alone"),
    "icmp_rate": ("icmp_rate", "icmp_alone"),
    "unsolicited_answers": ("unsolicited_answers", "unsolicited_alone"),
    "arp_sweep": ("arp_sweep", "arp_sweep"),
    "arp_insistence": ("arp_insistence", "arp_insistence"),
    "slow_scan": ("slow_ports", ""),
    "port_scan": ("scan_ports", ""),
    "port_scan, failed TCP": ("scan_ports", "scan_alone"),
    "slow_scan, failed TCP": ("slow_ports", "slow_ports_alone"),
    "mirai": ("mirai_hosts", ""),
    "mirai, failed TCP": ("mirai_hosts", "mirai_alone"),
    "mirai, echo": ("mirai_echo_hosts", ""),
    "mirai, ARP": ("mirai_arp_targets", ""),
    "slow_scan, hosts": ("slow_hosts", ""),
    "slow_scan, hosts, failed TCP": ("slow_hosts", "slow_hosts_alone"),
    "connection_rate": ("connection_rate", ""),
    "udp_rate": ("udp_rate", ""),
    "idle_connections": ("idle_connections", ""),
    "impossible_flags": ("impossible_flags", "flags_alone"),
}
"""What is printed -> the setting that counts, and the one from which on it convicts alone."""
APART = (
    ("repeated_connections, 60 s",),
    ("port_scan", "mirai", "slow_scan, hosts"),
    ("port_scan, failed TCP", "mirai, failed TCP", "slow_scan, failed TCP"),
    ("mirai, echo", "slow_scan, hosts, failed TCP"),
    ("mirai, ARP",),
)
"""What has the same rule as another that is printed needs another screen than it."""


@dataclass
class Seen:
    """A capture: who sent what, and the highest count of each rule and sender."""

    entry: Entry
    peaks: dict[tuple[str, bytes], int] = field(default_factory=dict)
    lost: int = 0
    """Events for which a screen had no room in one call: counts may have been higher then."""
    attackers: set[bytes] = field(default_factory=set)
    others: set[bytes] = field(default_factory=set)

    @property
    def first_half(self) -> bool:
        """Whether its origin is in the first half."""
        return hashlib.sha256(self.entry.group.encode()).digest()[0] % 2 == 0


COUNTS = [
    name
    for name in SHIPPED
    if not name.endswith(("_ns", "_ratio")) and not name.startswith(("max_", "mirai_"))
]


def screen_of(*settings: str) -> Screen:
    """Return a screen that has these rules alone, and fires from the first on."""
    silent = dict.fromkeys(COUNTS, 0) | {"mirai_hosts": 0, "mirai_echo_hosts": 0}
    # Whether an address is another's is the ARP rule's to know.
    arp = {"mirai_arp_targets": 0, "arp_unsolicited": 1 << 20, "arp_mac_changes": 1 << 20}
    alone = {name: 0 for name in SHIPPED if name.endswith("_alone")}
    ones = dict.fromkeys(settings, 1)
    return Screen(SHIPPED | silent | arp | alone | ones | {"hold_down_ns": 0})


def screens() -> list[tuple[dict[str, str], Screen]]:
    """Return screens, each with the names of what it tells: by rule, of the failed alone apart."""
    together = [name for name in WATCHED if not any(name in names for names in APART)]
    found = []
    for names in (together, *APART):
        settings = {one for name in names if "failed" in name for one in WATCHED[name]}
        settings |= {WATCHED[name][0] for name in names}
        found.append(({name.split(",")[0]: name for name in names}, screen_of(*settings)))
    return found


def watch(entry: Entry, data: Path) -> Seen:
    """Play a capture to each rule."""
    seen = Seen(entry)
    with closing(assemble.capture_file(str(data / entry.file))) as source:
        host = HostIdentity(routers=forwarders(source.batches()))
    watching = screens()
    labeller, last = Labeller(entry), 0
    with closing(assemble.capture_file(str(data / entry.file))) as source:
        for batch in Slices(source).batches():
            if batch is None or not len(batch.frames):
                continue
            _senders(seen, batch, labeller, host)
            for at in range(0, len(batch.frames), 100):
                frames = np.ascontiguousarray(batch.frames[at : at + 100])
                last = max(last, int(frames["timestamp_ns"].max()))
                marks = np.zeros(len(frames), np.uint8)
                for names, screen in watching:
                    _told(seen, names, screen.screen(batch.data, frames, host.packed(), marks))
    for names, screen in watching:
        _told(seen, names, screen.expire(last + 3 * S))
        seen.lost += screen.counters()["events_lost"]
    return seen


def _told(seen: Seen, names: dict[str, str], events: list[Any]) -> None:
    for rule, _, _, _, sender, detail, decisive in events:
        found = COUNT.search(detail)
        name = names.get(rule, "")
        if found is not None and sender is not None and ("failed TCP" not in name or decisive):
            key = (name, sender)
            seen.peaks[key] = max(seen.peaks.get(key, 0), int(found.group()))


def _senders(seen: Seen, batch: FrameBatch, labeller: Labeller, host: HostIdentity) -> None:
    n = len(batch.frames)
    labels = labeller.label(batch)[0]
    senders, outcomes = np.zeros(n, SENDER), np.empty(n, np.uint8)
    rows, counts = np.empty((n, N_FEATURES), np.uint16), np.zeros(len(COUNTER_NAMES), np.uint64)
    frames = np.ascontiguousarray(batch.frames)
    extract(batch.data, frames, host, rows, senders, outcomes, counts)
    acting = outcomes == Outcome.JUDGED
    whose = canonical_senders(senders[acting]).view(f"V{SENDER.itemsize}").ravel()
    malicious = labels[acting] == Label.MALICIOUS
    known = (labels[acting] == Label.BENIGN) | (labels[acting] == Label.RELATED)
    seen.attackers |= set(np.unique(whose[malicious]).tolist())
    seen.others |= set(np.unique(whose[known]).tolist())


def row(name: str, captures: list[Seen]) -> str:
    """Return a line of the table."""
    setting, alone = WATCHED[name]
    counts = [SHIPPED[setting], SHIPPED[alone] if alone else 0]
    shown = [f"{count:,}" if count else "-" for count in counts]
    tops = []
    for first in (True, False):
        part = [one for one in captures if one.first_half is first]
        ordinary = [(one, one.others - one.attackers) for one in part]
        tops_of = [[one.peaks.get((name, who), 0) for who in whom] for one, whom in ordinary]
        highest = sorted((max(peaks, default=0) for peaks in tops_of), reverse=True)
        tops += [", ".join(f"{n:,}" for n in highest[:3])]
    limit = counts[1] or counts[0]
    hit = [
        one
        for one in captures
        if limit and any(one.peaks.get((name, who), 0) >= limit for who in one.attackers)
    ]
    found = f"{len(hit)} of {len({one.entry.group for one in hit})}"
    return f"| `{name}` | {' | '.join([*shown, *tops, found])} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2)
    chosen = parser.parse_args()
    entries = [one for one in read_labels(chosen.data / "labels.json") if one.kind == "pcap"]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        captures = list(pool.map(partial(watch, data=chosen.data), entries, chunksize=8))
    for first in (True, False):
        part = [one for one in captures if one.first_half is first]
        senders = sum(len(one.others - one.attackers) for one in part)
        half = "one" if first else "other"
        print(f"{half} half: {len({one.entry.group for one in part})} origins, {senders} ordinary")
    for one in captures:
        if one.lost:
            print(f"{one.entry.file} ({one.entry.family}): {one.lost:,} events lost")
    print("| rule | looks at | alone at | one half, ordinary | other half | attacks (origins) |")
    print("|---|---|---|---|---|---|")
    for name in WATCHED:
        print(row(name, captures))


if __name__ == "__main__":
    main()
