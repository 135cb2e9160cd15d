"""What a corpus larger than memory costs: MB/s a core and resident memory, on repeated captures.

Real labelled captures are repeated, with ports and payload bytes changed at random, into a tree of
CICIoT2023's layout of a given size; then `extract` and `train` run on it as a user would run them,
each process of theirs is watched, and the scratch directory is emptied. Then once more with a
worker of two killed (SIGKILL) while it writes, and once with the whole run killed and given again:
the tables and the bundles have to be the same to the byte, or the exit code is 1.

    python -m tests.bench.scale --scratch build/scale --gigabytes 10
"""

import argparse
import filecmp
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from ids_appliance.capture.file import CaptureFile
from ids_appliance.train.labels import Label, read_labels

PLACES = {
    "Benign": ("Benign_Final/BenignTraffic",),
    "DoS": ("DoS-SYN_Flood/DoS-SYN_Flood", "DDoS-UDP_Flood/DDoS-UDP_Flood"),
    "Recon": ("Recon-PortScan/Recon-PortScan",),
    "Spoofing": ("MITM-ArpSpoofing/MITM-ArpSpoofing",),
    "Mirai": ("Mirai-greip_flood/Mirai-greip_flood",),
}
"""Family -> captures of the tree that are made of it."""

TEMPLATE_BYTES = 64 << 20
FILE_BYTES = 500 << 20
HEADER = np.frombuffer(
    bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 ffff0000 01000000"), np.uint8
)


def template(data: Path, family: str) -> tuple[np.ndarray, np.ndarray]:
    """Return records of a classic pcap (Ethernet) as bytes, and where their frames begin and end
    as (n, 2)."""
    parts, ends, size = [], [], 0
    for entry in read_labels(data / "labels.json"):
        if entry.kind != "pcap" or entry.family != family or size > TEMPLATE_BYTES:
            continue
        if entry.default is Label.IGNORE and not entry.rules:
            continue
        for batch in CaptureFile(data / entry.file).batches():
            for frame in batch.frames:
                if frame["linktype"] != 1:
                    continue
                begin, n = int(frame["offset"]), int(frame["caplen"])
                seconds, rest = divmod(int(frame["timestamp_ns"]), 10**9)
                head = np.array([seconds % 2**32, rest // 1000, n, n], "<u4").view(np.uint8)
                parts += [head, batch.data[begin : begin + n].copy()]
                ends.append((size + 16, size + 16 + n))
                size += 16 + n
    return np.concatenate(parts), np.array(ends)


def write_capture(path: Path, base: tuple[np.ndarray, np.ndarray], n_bytes: int, seed: int) -> int:
    """Write the records again and again, each time changed; return the bytes written."""
    rng = np.random.default_rng(seed)
    data, frames = base
    long = frames[frames[:, 1] - frames[:, 0] > 60]
    written = len(HEADER)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(HEADER.tobytes())
        while written < n_bytes:
            changed = data.copy()
            # Source port (without options), and one byte further on.
            changed[long[:, 0] + 34] = rng.integers(0, 256, len(long))
            changed[long[:, 0] + 35] = rng.integers(0, 256, len(long))
            changed[rng.integers(long[:, 0] + 54, long[:, 1])] = rng.integers(0, 256, len(long))
            stop = min(len(changed), max(n_bytes - written, 0))
            whole = int(frames[np.searchsorted(frames[:, 1], stop, side="right") - 1, 1])
            file.write(changed[: max(whole, int(frames[0, 1]))].tobytes())
            written += max(whole, int(frames[0, 1]))
    return written


def make_tree(data: Path, tree: Path, n_bytes: int) -> int:
    """Write a tree of about so many bytes, as many of each family; return the bytes."""
    total = 0
    for family, places in PLACES.items():
        base = template(data, family)
        each = n_bytes // len(PLACES) // len(places)
        for place in places:
            left, number = each, 0
            while left > 1 << 20:
                path = tree / f"{place}{number or ''}.pcap"
                seed = int.from_bytes(path.name.encode()[-8:], "big")
                n = write_capture(path, base, min(left, FILE_BYTES), seed)
                left, total, number = left - n, total + n, number + 1
    return total


class Watched:
    """Runs a command; seconds, processor seconds and the most that one process was resident."""

    def __init__(
        self, *arguments: object, meanwhile: Callable[[psutil.Process], bool] | None = None
    ) -> None:
        """meanwhile: asked ten times a second until it says that it has done what it is to do; may
        end the command."""
        self.meanwhile, self.disturbed = meanwhile, False
        self.resident_mb: dict[str, float] = {}
        begin, used = time.perf_counter(), _children_s()
        command = [sys.executable, "-m", "ids_appliance", *map(str, arguments)]
        running = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(running, over))
        watcher.start()
        self.output, errors = running.communicate()
        over.set()
        watcher.join()
        self.seconds = time.perf_counter() - begin
        self.processor_s = _children_s() - used
        if running.returncode and running.returncode != -signal.SIGKILL:
            raise SystemExit(f"{command}: {errors[-2000:]}")

    def _watch(self, running: psutil.Process, over: threading.Event) -> None:
        while not over.wait(0.1):
            try:
                if self.meanwhile and not self.disturbed:
                    self.disturbed = self.meanwhile(running)
                for process in [running, *running.children(recursive=True)]:
                    line = next(
                        line
                        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                        if line.startswith("VmHWM")
                    )
                    mb = int(line.split()[1]) / 1024
                    name = f"{process.pid}"
                    self.resident_mb[name] = max(self.resident_mb.get(name, 0), mb)
            except (psutil.NoSuchProcess, FileNotFoundError, StopIteration, ProcessLookupError):
                continue

    def told(self, n_bytes: int = 0) -> dict[str, float]:
        out = {"seconds": round(self.seconds, 1), "processor_s": round(self.processor_s, 1)}
        if n_bytes:
            # Of processor time: other work on the machine does not enter.
            out["mb_per_s_a_core"] = round(n_bytes / 1e6 / self.processor_s, 1)
        return out | {"most_resident_mb": round(max(self.resident_mb.values()), 1)}


class KillAWriter:
    """Ends a process that writes a table, as soon as a third of the captures is done."""

    def __init__(self, tables: Path, captures: int, *, whole: bool) -> None:
        """whole: end the command itself, not a worker of it."""
        self.tables, self.least, self.whole, self.killed = tables, captures // 3, whole, 0
        self.done_before = 0

    def __call__(self, running: psutil.Process) -> bool:
        done = sum(finished(path) for path in self.tables.glob("*.json"))
        writing = [path.name for path in self.tables.glob(".writing-*.parquet")]
        workers = {child.pid for child in running.children(recursive=True)} | {running.pid}
        for name in writing if done >= self.least else ():
            pid = int(name.removeprefix(f".writing-{platform.node()}-").partition("-")[0])
            if pid in workers:
                self.killed, self.done_before = running.pid if self.whole else pid, done
                os.kill(self.killed, signal.SIGKILL)
                return True
        return False

    def told(self) -> dict[str, int]:
        return {"captures_done_when_killed": self.done_before}


def finished(path: Path) -> bool:
    """Tell whether a table's description says how its capture ended."""
    try:
        return bool(json.loads(path.read_text()).get("report"))
    except (OSError, ValueError):
        return False


def same_files(one: Path, other: Path) -> bool:
    """Compare two directories' files, hidden ones (locks) apart, byte by byte."""
    names = sorted(p.name for p in one.iterdir() if p.name[0] != ".")
    return names == sorted(p.name for p in other.iterdir() if p.name[0] != ".") and all(
        filecmp.cmp(one / n, other / n, shallow=False) for n in names
    )


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tell(facts: dict[str, object]) -> None:
    print(json.dumps(facts), flush=True)


def digest(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix in (".json", ".npz")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("IDS_DATA", "../shared/data"))
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=300_000)
    given = parser.parse_args()
    n_bytes = int(given.gigabytes * 1e9)
    given.scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(given.scratch).free
    if free < 2 * n_bytes:
        n_bytes = free // 3
        print(f"only {free / 1e9:.1f} GB free: a corpus of {n_bytes / 1e9:.1f} GB", file=sys.stderr)
    tree, tables, model = (given.scratch / name for name in ("tree", "tables", "model"))
    try:
        total = make_tree(Path(given.data), tree, n_bytes)
        tell({"corpus_bytes": total, "cores": os.cpu_count()})
        one = Watched("extract", "--data", tree, "--tables", tables)
        tell({"extract_one_process": one.told(total), "said": one.output.strip()})
        tell({"table_bytes": sum(p.stat().st_size for p in tables.iterdir())})
        tell({"extract_again": Watched("extract", "--data", tree, "--tables", tables).told()})
        wrong = []

        def alike(what: str, same: bool) -> None:
            tell({what: same})
            wrong.extend([] if same else [what])

        dask = ("--dask", "local:2")
        captures = len(list(tree.rglob("*.pcap")))
        train = ("train", "--no-evaluate", "--rows", given.rows, "--data")
        tell({"train_one_process": Watched(*train, tables, "--out", model).told()})
        two, killed, again = (tables.with_name(f"tables-{n}") for n in ("two", "killed", "again"))
        extract = ("extract", "--data", tree, "--tables")

        run = Watched(*extract, two, *dask)
        tell({"extract_local_2": run.told(total)})
        alike("tables_identical", same_files(tables, two))
        other = model.with_name("model-two")
        tell({"train_local_2": Watched(*train, two, "--out", other, *dask).told()})
        alike("bundles_identical", digest(model) == digest(other))
        shutil.rmtree(two)

        kill = KillAWriter(killed, captures, whole=False)
        run = Watched(*extract, killed, *dask, meanwhile=kill)
        tell({"extract_worker_killed": run.told(total) | kill.told()})
        alike("killed_in_time", run.disturbed)
        alike("tables_identical_after_a_killed_worker", same_files(tables, killed))
        other = model.with_name("model-killed")
        tell({"train_after_it": Watched(*train, killed, "--out", other, *dask).told()})
        alike("bundles_identical_after_a_killed_worker", digest(model) == digest(other))
        shutil.rmtree(killed)

        kill = KillAWriter(again, captures, whole=True)
        run = Watched(*extract, again, meanwhile=kill)
        tell({"extract_killed": run.told() | kill.told()})
        alike("killed_under_way", run.disturbed)
        run = Watched(*extract, again)
        tell({"extract_goes_on": run.told(), "said": run.output.strip()})
        alike("tables_identical_after_a_killed_run", same_files(tables, again))
        if wrong:
            raise SystemExit(f"not the same: {', '.join(wrong)}")
    finally:
        shutil.rmtree(given.scratch)


if __name__ == "__main__":
    main()
