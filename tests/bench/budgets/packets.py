"""Packets: known cells, extraction from captures, and the others' way to the same fields."""

import json
import resource
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.bench import mixes
from ids_appliance.capture.file import CaptureFile
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import FRAME, SENDER, FrameBatch
from tests.bench import spine
from tests.bench.budgets.others import ROOT, Others
from tests.bench.budgets.rows import Figure

KNOWN_NS = 100.0
EXTRACTED = 300.0
"""Megabytes a second."""
FLAT = 1.1
"""Resident memory of eight times the file, over that of the file."""
SMALL, LARGE = 64 << 20, 512 << 20
FIELDS = (2, 5, 4, 0, 1, 6)
"""Columns that the others' parsers are asked for as well: contest.Fields."""
RIVALS = ("python", "dpkt", "scapy", "nfstream")


def known(others: Others, captures: dict[str, Path]) -> list[Figure]:
    """Return ns a packet, from bytes to a probability that the cache has."""
    bundle, found = load_bundle(spine.SHIPPED), []
    for name, path in captures.items():
        batches = spine.read(path)
        n = sum(len(batch.frames) for batch in batches)
        ns = spine.time_known(batches, n, bundle)
        found.append(Figure("known", f"known cell, {name}", ns, "ns a packet", KNOWN_NS))
    return found + _parsers(others)


def _parsers(others: Others) -> list[Figure]:
    """Return all 60 features against what others need for six fields of the same packets."""
    data, ends = mixes.make("ordinary")
    frames = np.zeros(len(ends), FRAME)
    frames["offset"] = np.concatenate(([0], ends[:-1]))
    frames["caplen"] = frames["wirelen"] = np.diff(np.concatenate(([0], ends)))
    frames["linktype"] = 1
    batch = FrameBatch(data, frames)
    rows, ns = np.empty((len(frames), N_FEATURES), np.uint16), 0.0
    senders, outcomes = np.empty(len(frames), SENDER), np.empty(len(frames), np.uint8)
    counters = np.zeros(len(COUNTER_NAMES), np.uint64)
    host = HostIdentity()
    ns = (
        spine.best(lambda: extract(data, batch.frames, host, rows, senders, outcomes, counters))
        / len(frames)
        * 1e9
    )
    found = [Figure("known", "parse + 60 features, ordinary", ns, "ns a packet")]
    problem = others.problem("packets", data=data, ends=ends)
    for rival in RIVALS:
        made = others.run("packets", rival, problem, ours=rival == "python")
        if made is None:
            continue
        got = made.results["fields"]
        if rival == "nfstream":
            same = int(got[0, 0]) <= len(frames)
            note = f"flows; it counted {int(got[0, 0]):,} of {len(frames):,} packets"
        else:
            same = np.array_equal(got, rows[:, FIELDS].astype(int))
            note = "all 60 features, equal" if rival == "python" else "six fields, equal to ours"
        if not same:
            apart = int((got != rows[:, FIELDS]).any(axis=1).sum()) if len(got) > 1 else 0
            others.left_out[rival] = f"{rival}: {apart} packets' fields differ: not timed"
            continue
        theirs = made.said["ns"]
        anchor = f"{rival} {made.said['version']}: {theirs:,.0f} ns".replace("  ", " ")
        found.append(
            Figure("known", f"{rival} / ours", theirs / ns, "times", None, ">=", anchor, note=note)
        )
    return found


def extraction(scratch: Path, captures: dict[str, Path]) -> list[Figure]:
    """Return MB a second of a core, from uncompressed files of two sizes, and whether memory
    grows with the file."""
    found = []
    for name, path in captures.items():
        sizes = {}
        for n_bytes in (SMALL, LARGE):
            file = scratch / "repeated.pcap"
            _repeat(path, file, n_bytes)
            words = [sys.executable, "-m", "tests.bench.budgets.packets", str(file)]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
            sizes[n_bytes] = json.loads(done.stdout)
            file.unlink()
        large = sizes[LARGE]
        note = f"{large['packets']:,} packets of {large['bytes'] / large['packets']:.0f} bytes"
        found.append(Figure("extraction", name, large["mb_s"], "MB/s", EXTRACTED, ">=", note=note))
        grown = large["resident_mib"] / sizes[SMALL]["resident_mib"]
        note = f"{large['resident_mib']:.0f} MiB with {LARGE >> 20} MiB"
        what = f"{name}: memory with 8 times the file"
        found.append(Figure("extraction", what, grown, "times", FLAT, note=note))
    return found


def _repeat(path: Path, file: Path, n_bytes: int) -> None:
    """Write a capture's frames again and again as a classic pcap (Ethernet)."""
    parts = []
    for batch in spine.read(path):
        for frame in batch.frames:
            begin, n = int(frame["offset"]), int(frame["caplen"])
            seconds, rest = divmod(int(frame["timestamp_ns"]), 10**9)
            head = np.array([seconds % 2**32, rest // 1000, n, n], "<u4").view(np.uint8)
            parts += [head, batch.data[begin : begin + n]]
    once = np.concatenate(parts).tobytes()
    with file.open("wb") as out:
        out.write(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        for _ in range(max(1, n_bytes // len(once))):
            out.write(once)


def main(path: Path) -> None:
    """Be a process: read one file into arrays, and say what that took."""
    host, counters = HostIdentity(), np.zeros(len(COUNTER_NAMES), np.uint64)
    best, n = float("inf"), 0
    for _ in range(3):
        n, start = 0, time.process_time()
        with closing(CaptureFile(path)) as source:
            for batch in source.batches():
                n += _extracted(batch, host, counters)
        best = min(best, time.process_time() - start)
    size = path.stat().st_size
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told: dict[str, Any] = {"mb_s": size / 1e6 / best, "packets": n, "bytes": size}
    print(json.dumps(told | {"resident_mib": resident}))


def _extracted(batch: FrameBatch, host: HostIdentity, counters: Any) -> int:
    n = len(batch.frames)
    rows, senders = np.empty((n, N_FEATURES), np.uint16), np.empty(n, SENDER)
    extract(batch.data, batch.frames, host, rows, senders, np.empty(n, np.uint8), counters)
    return n


if __name__ == "__main__":
    main(Path(sys.argv[1]))
