"""Instructions a packet of the hot path's stages, counted by callgrind: figures that do not waver.

    python -m tests.bench.instructions [--out docs/benchmarks/instructions.json]

Nanoseconds say what a machine needs on a good day, instructions what the code asks of any machine
of its kind: later changes are held against docs/benchmarks/instructions.json by a nightly test.
Stages run on the benchmark's mixes in one process; counting is switched on around each, after one
pass that fills caches. Counts hold for one compiler and architecture, both named in the file.

Needs valgrind with its headers, and gcc.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ids_appliance._cells import Assignment, CellTable
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import SENDER
from tests.bench import hotpath, spine
from tests.bench.judged import judge

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "docs" / "benchmarks" / "instructions.json"
FRAMES, BATCH, CELLS = 4096, 256, 256
MIXES = ("syn-single", "ordinary", "random")
SWITCHES = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""
Stage = tuple[Callable[[], object], int]
"""Work, and of how many packets (or cells)."""


def stages() -> dict[str, Stage]:
    """Return what is counted, by name."""
    bundle, found = load_bundle(spine.SHIPPED), dict[str, Stage]()
    for mix in MIXES:
        frames = hotpath.pool(mix, FRAMES)
        n = len(frames.frames)
        found[f"parse + features, {mix}"] = _parse(frames), n
        if mix != "random":
            found[f"known cell, {mix}"] = _known(frames, bundle), n
        source = hotpath.Blocks(frames, BATCH)
        pipeline, _ = hotpath.path(source, spine.SHIPPED)
        found[f"whole live path, {BATCH} a batch, {mix}"] = pipeline.run, n
    rows = spine.parse([hotpath.pool("random", 2 * CELLS)])[:CELLS]
    cells, out = spine.cells_of(rows, bundle), np.empty(CELLS)
    found[f"new cell, batch {CELLS}"] = lambda: bundle.forest.evaluate(cells, out), CELLS

    def one_by_one() -> None:
        for k in range(CELLS):
            bundle.forest.evaluate(cells[k : k + 1], out[k : k + 1])

    return found | {"new cell, batch 1": (one_by_one, CELLS)}


def _parse(frames: Any) -> Callable[[], object]:
    n, host = len(frames.frames), HostIdentity()
    rows, outcomes = np.empty((n, N_FEATURES), np.uint16), np.empty(n, np.uint8)
    senders, counters = np.empty(n, SENDER), np.zeros(len(COUNTER_NAMES), np.uint64)
    return lambda: extract(frames.data, frames.frames, host, rows, senders, outcomes, counters)


def _known(frames: Any, bundle: Any) -> Callable[[], object]:
    grid, host = bundle.grid, HostIdentity().packed()
    table = CellTable(grid.model_id, grid.features, grid.cuts)

    return lambda: judge(table, Assignment(frames.frames), frames.data, host, bundle.forest)


def counted(switches: Path) -> None:
    """Be the process under callgrind: each stage once to warm it, once counted."""
    switch = ctypes.CDLL(str(switches))
    for name, (work, n) in stages().items():
        work()
        switch.begin()
        work()
        switch.end(f"{name}|{n}".encode())


def missing() -> str:
    """Return which tool is not there; "" if all are."""
    for tool in ("valgrind", "gcc"):
        if shutil.which(tool) is None:
            return tool
    there = Path("/usr/include/valgrind/callgrind.h").is_file()
    return "" if there else "valgrind's headers"


def kind() -> dict[str, str]:
    """Return what the counts hold for."""
    version = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True, check=True)
    return {
        "architecture": platform.machine(),
        "gcc": version.stdout.strip().split(".")[0],
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def measure(scratch: Path) -> dict[str, float]:
    """Return instructions a packet by stage. Raises SystemExit with what valgrind said."""
    source, switches = scratch / "switches.c", scratch / "switches.so"
    source.write_text(SWITCHES)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", switches, source], check=True)
    words = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-instr=no"]
    words += [f"--callgrind-out-file={scratch}/out", "--compress-strings=no", sys.executable]
    words += ["-m", "tests.bench.instructions", "--within", str(switches)]
    # One order of sets and dictionaries, one thread: nothing but the code decides.
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = {}
    for dump in sorted(scratch.glob("out.*"), key=lambda path: int(path.suffix[1:])):
        text = dump.read_text(errors="replace")
        name = re.search(r"^desc: Trigger: Client Request: (.*)\|(\d+)$", text, re.MULTILINE)
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1]] = round(int(total[1]) / int(name[2]), 1)
    return found


def main() -> None:
    """Count, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=RECORDED)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.within:
        counted(asked.within)
        return
    if tool := missing():
        raise SystemExit(f"{tool} is not there: apt-get install valgrind gcc")
    with TemporaryDirectory(prefix="ids-callgrind-") as scratch:
        found = measure(Path(scratch))
    told = {"command": "python -m tests.bench.instructions", **kind(), "instructions": found}
    asked.out.write_text(json.dumps(told, indent=1) + "\n")
    for name, count in found.items():
        print(f"{name:46}{count:12,.1f}")


if __name__ == "__main__":
    main()
