"""What a corpus larger than memory costs: MB/s a core and resident memory, on repeated captures.

Real labelled captures are repeated, with ports and payload bytes changed at random, into a tree of
CICIoT2023's layout of a given size; then `extract` and `train` run on it as a user would run them,
each process of theirs is watched, and the scratch directory is emptied: by one process, by two
workers, by two with one killed (SIGKILL) while it writes and one while it draws, and by a process
killed and given again. Tables and bundles have to be the same to the byte, or the exit code is 1.

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


class Kill:
    """Ends a process of a command (SIGKILL): one that writes a table as soon as a third of the
    captures is done, or a worker that has been seen at a table ten times; or all of the command."""

    def __init__(self, tables: Path, captures: int = 0, *, whole: bool = False) -> None:
        """captures: of the corpus, whose tables are written; 0: the tables are read."""
        self.tables, self.captures, self.whole = tables, captures, whole
        self.seen, self.done_before = 0, 0

    def __call__(self, running: psutil.Process) -> bool:
        victim = self._writing(running) if self.captures else self._reading(running)
        if victim:
            os.kill(running.pid if self.whole else victim, signal.SIGKILL)
        return victim > 0

    def _writing(self, running: psutil.Process) -> int:
        self.done_before = sum(finished(path) for path in self.tables.glob("*.json"))
        if self.done_before < self.captures // 3:
            return 0
        workers = {child.pid for child in running.children(recursive=True)} | {running.pid}
        writing = [path.name for path in self.tables.glob(".writing-*.parquet")]
        prefix = f".writing-{platform.node()}-"
        pids = [int(name.removeprefix(prefix).partition("-")[0]) for name in writing]
        return next((pid for pid in pids if pid in workers), 0)

    def _reading(self, running: psutil.Process) -> int:
        for child in running.children(recursive=True):
            if any(Path(file.path).parent == self.tables for file in child.open_files()):
                self.seen += 1
                return child.pid if self.seen >= 10 else 0
        return 0


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


class Bench:
    """A corpus and what one process makes of it; every other way has to make the same."""

    def __init__(self, scratch: Path, rows: int) -> None:
        self.scratch, self.rows, self.wrong = scratch, rows, list[str]()
        self.tree, self.tables, self.model = (scratch / n for n in ("tree", "tables", "model"))

    def alike(self, what: str, same: bool) -> None:
        tell({what: same})
        if not same:
            self.wrong.append(what)

    def extract(self, tables: Path, *options: object, kill: Kill | None = None) -> Watched:
        arguments = ("extract", "--data", self.tree, "--tables", tables, *options)
        return Watched(*arguments, meanwhile=kill)

    def train(
        self, tables: Path, model: Path, *options: object, kill: Kill | None = None
    ) -> Watched:
        run = ("train", "--no-evaluate", "--rows", self.rows, "--data", tables, "--out", model)
        return Watched(*run, *options, meanwhile=kill)

    def compare(self, name: str, *options: object, deaths: str = "") -> None:
        """Make tables and a bundle another way, with deaths: of a "worker" in each of the two
        commands, or of the extraction as a "whole", which is then given again."""
        tables, model = (self.scratch / f"{what}-{name}" for what in ("tables", "model"))
        captures, whole = len(list(self.tree.rglob("*.pcap"))), deaths == "whole"
        total = sum(path.stat().st_size for path in self.tree.rglob("*.pcap"))
        kill = Kill(tables, captures, whole=whole) if deaths else None
        run = self.extract(tables, *options, kill=kill)
        told = {"captures_done_when_killed": kill.done_before} if kill else {}
        tell({f"extract_{name}": run.told(0 if whole else total) | told})
        if deaths:
            self.alike(f"extract_{name}_killed_in_time", run.disturbed)
        if whole:
            run = self.extract(tables, *options)
            tell({f"extract_{name}_again": run.told(), "said": run.output.strip()})
        self.alike(f"tables_{name}_identical", same_files(self.tables, tables))
        kill = Kill(tables) if deaths == "worker" else None
        run = self.train(tables, model, *options, kill=kill)
        tell({f"train_{name}": run.told()})
        if kill:
            self.alike(f"train_{name}_killed_in_time", run.disturbed)
        self.alike(f"bundles_{name}_identical", digest(model) == digest(self.model))
        shutil.rmtree(tables)


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
    bench = Bench(given.scratch.resolve(), given.rows)
    try:
        total = make_tree(Path(given.data), bench.tree, n_bytes)
        tell({"corpus_bytes": total, "cores": os.cpu_count()})
        one = bench.extract(bench.tables)
        tell({"extract_one_process": one.told(total), "said": one.output.strip()})
        tell({"table_bytes": sum(p.stat().st_size for p in bench.tables.iterdir())})
        tell({"extract_one_process_again": bench.extract(bench.tables).told()})
        tell({"train_one_process": bench.train(bench.tables, bench.model).told()})
        bench.compare("two", "--dask", "local:2")
        bench.compare("worker_killed", "--dask", "local:2", deaths="worker")
        bench.compare("interrupted", deaths="whole")
        if bench.wrong:
            raise SystemExit(f"not the same: {', '.join(bench.wrong)}")
    finally:
        shutil.rmtree(given.scratch)


if __name__ == "__main__":
    main()
