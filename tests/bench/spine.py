"""What the spine costs, beside scikit-learn and JSON, in one run: `make bench`.

    features       ns a packet, bytes to the packet record
    known cell     ns a packet, bytes to the probability, cell in the cache
    new cell       us a cell at batch 1, 16, 256: the shipped forest, and one of its size trained
                   here, against scikit-learn's on the same rows
    link           bytes a packet, both directions, against one JSON object a packet

Every contestant's results are compared with the others' before anything is timed. Times are the
best of several repeats on one thread, in processor time: what the code costs. They hold for
the machine that is named and say little about another; the ratios travel better.

Captures: a SYN flood of forged senders and a smart plug's ordinary life from the labelled captures
where they are (IDS_DATA or ../shared/data), and the demo's.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import ids_appliance
from ids_appliance._cells import Assignment, CellTable
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.file import CaptureFile
from ids_appliance.classify.bundle import Bundle, load_bundle, make_bundle
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.pipeline import Pipeline
from ids_appliance.schema import N_FEATURES
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.types import SENDER, Classifier, FrameBatch, Outcome
from tests.bench.judged import judge
from tests.classify.nodes import NodeProcess
from tests.test_modes import Keep
from tests.test_modes import judged as probabilities

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
SHIPPED = ROOT / "models" / "iot-top20"
DEMO = Path(ids_appliance.__file__).parent / "demo" / "lan.pcap.gz"
CAPTURES = {
    "SYN flood, forged senders": DATA / "stopddos" / "synflood_spoofed.pcap.gz",
    "ordinary life, one plug": DATA / "iot_sentinel" / "WeMoInsightSwitch.pcap.gz",
    "demo: home under attack": DEMO,
}

FEATURES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 20, 40, 41, 48, 49]
"""What the forest trained here looks at."""


def best(work: Callable[[], object], *, seconds: float = 1.5) -> float:
    """Return the shortest of the runs that fit into `seconds` (at least three), in seconds of
    processor time: what else runs on the machine is not in it."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def read(path: Path) -> list[FrameBatch]:
    with closing(CaptureFile(path)) as source:
        return [FrameBatch(b.data.copy(), b.frames.copy()) for b in source.batches()]


def parse(batches: list[FrameBatch]) -> np.ndarray:
    """Return the records of the packets that can be judged."""
    out = []
    for b in batches:
        n = len(b.frames)
        rows, outcomes = np.empty((n, N_FEATURES), np.uint16), np.empty(n, np.uint8)
        counters = np.zeros(len(COUNTER_NAMES), np.uint64)
        extract(b.data, b.frames, HostIdentity(), rows, np.empty(n, SENDER), outcomes, counters)
        out.append(rows[outcomes == Outcome.JUDGED])
    return np.concatenate(out)


def train(rows: np.ndarray, features: list[int]) -> tuple[Any, Bundle]:
    """Return a forest of the shipped size in both forms; what it predicts does not matter here."""
    rng = np.random.default_rng(0)
    classes = (rows[:, 6] == 2) ^ (rng.random(len(rows)) < 0.1)
    pipeline = make_pipeline(
        StandardScaler(),
        MinMaxScaler(),
        RandomForestClassifier(50, max_leaf_nodes=128, random_state=0, n_jobs=1),
    )
    pipeline.fit(rows[:, features].astype(float), classes)
    arrays = compile_pipeline(pipeline, features)
    return pipeline, make_bundle(arrays, 0.5, card={"created_by": "tests/bench"})


def time_features(batches: list[FrameBatch], n: int) -> float:
    host = HostIdentity()
    counters = np.zeros(len(COUNTER_NAMES), np.uint64)
    rooms = [
        (b, np.empty((len(b.frames), N_FEATURES), np.uint16), np.empty(len(b.frames), SENDER))
        for b in batches
    ]

    def work() -> None:
        for b, rows, senders in rooms:
            extract(b.data, b.frames, host, rows, senders, np.empty(len(rows), np.uint8), counters)

    return best(work) / n * 1e9


def time_known(batches: list[FrameBatch], n: int, bundle: Bundle) -> float:
    """From bytes to probability with every cell known, batches and their results included."""
    grid, host = bundle.grid, HostIdentity().packed()
    table = CellTable(grid.model_id, grid.features, grid.cuts)

    def work() -> int:
        return sum(judge(table, Assignment(b.frames), b.data, host, bundle.forest) for b in batches)

    work()
    assert work() == 0, "not every cell was kept: the capture has more cells than the cache"
    return best(work) / n * 1e9


def cells_of(rows: np.ndarray, bundle: Bundle) -> np.ndarray:
    grid = bundle.grid
    return CellTable(grid.model_id, grid.features, grid.cuts).encode(rows)


def time_forest(cells: np.ndarray, bundle: Bundle, batch: int) -> float:
    """us a cell, in batches of so many."""
    n = len(cells) // batch * batch
    parts = [cells[k : k + batch] for k in range(0, n, batch)]
    out = np.empty(batch)

    def work() -> None:
        for part in parts:
            bundle.forest.evaluate(part, out)

    return best(work) / n * 1e6


def time_new(
    rows: np.ndarray, pipeline: Any, bundle: Bundle, shipped: Bundle
) -> list[dict[str, Any]]:
    rows = rows[np.random.default_rng(1).permutation(len(rows))[:4096]]
    cells = cells_of(rows, bundle)
    shipped_cells = cells_of(rows, shipped)
    matrix = rows[:, FEATURES].astype(float)
    ours = np.empty(len(cells))
    bundle.forest.evaluate(cells, ours)
    theirs = pipeline.predict_proba(matrix)[:, 1]
    assert ours.tobytes() == theirs.tobytes(), "not equal to scikit-learn"
    found = []
    for batch in (1, 16, 256):
        some = [matrix[k * batch : (k + 1) * batch] for k in range(max(1, min(20, 512 // batch)))]

        def reference(some: list[np.ndarray] = some) -> None:
            for part in some:
                pipeline.predict_proba(part)

        found.append(
            {
                "batch": batch,
                "shipped_us": time_forest(shipped_cells, shipped, batch),
                "us": time_forest(cells, bundle, batch),
                "sklearn_us": best(reference) / (len(some) * batch) * 1e6,
            }
        )
    return found


def run(path: Path, connect: Callable[[], Classifier]) -> tuple[bytes, float, float]:
    """Return the probabilities, bytes a packet on the link and packets a second (best of three
    passes, each with an empty cache and a new connection)."""
    passes = [_pass(path, connect()) for _ in range(3)]
    return passes[0][0], passes[0][1], max(rate for _, _, rate in passes)


def _pass(path: Path, classifier: Classifier) -> tuple[bytes, float, float]:
    keep = Keep()
    with closing(classifier), closing(CaptureFile(path)) as source:
        start = time.perf_counter()
        pipeline = Pipeline(source, classifier, keep)
        pipeline.run()
        seconds = time.perf_counter() - start
        link = classifier.counters()
    judged = pipeline.counters()["judged"]
    sent = link.get("bytes_sent", 0) + link.get("bytes_received", 0)
    return probabilities(keep.batches).tobytes(), sent / judged, judged / seconds


def measure(scratch: Path) -> dict[str, Any]:
    captures = {name: path for name, path in CAPTURES.items() if path.is_file()}
    batches = {name: read(path) for name, path in captures.items()}
    every = np.concatenate([parse(b) for b in batches.values()])
    pipeline, bundle = train(every, FEATURES)
    shipped = load_bundle(SHIPPED)
    options = LinkOptions(deadline_s=60.0)
    nodes = {
        "binary": NodeProcess(SHIPPED, scratch / "binary.log"),
        "json": NodeProcess(
            SHIPPED, scratch / "json.log", options=("--plaintext", "--transport", "json")
        ),
    }
    results = []
    try:
        for name, path in captures.items():
            n = sum(len(b.frames) for b in batches[name])
            cells, rate, literal = (
                run(path, lambda: LocalClassifier(shipped)),
                run(path, lambda: RemoteClassifier.connect([nodes["binary"].address], options)),
                run(path, lambda: JsonClassifier.connect([nodes["json"].address], options)),
            )
            assert cells[0] == rate[0] == literal[0], "the modes disagree"
            results.append(
                {
                    "capture": name,
                    "packets": n,
                    "features_ns": time_features(batches[name], n),
                    "known_cell_ns": time_known(batches[name], n, shipped),
                    "link_bytes": rate[1],
                    "json_bytes": literal[1],
                    "local_pps": cells[2],
                    "remote_pps": rate[2],
                    "json_pps": literal[2],
                }
            )
    finally:
        for node in nodes.values():
            node.close()
    return {
        "machine": f"{cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "model": SHIPPED.name,
        "key_bytes": shipped.forest.key_bytes,
        "new_cells": time_new(every, pipeline, bundle, shipped),
        "captures": results,
    }


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def show(found: dict[str, Any]) -> None:
    print(f"{found['machine']}; {found['versions']}\n")
    print(f"{'capture':27}{'packets':>9}{'features':>10}{'known cell':>12}{'link':>9}{'JSON':>9}")
    print(f"{'':27}{'':>9}{'ns':>10}{'ns':>12}{'B/packet':>9}{'B/packet':>9}")
    for r in found["captures"]:
        print(
            f"{r['capture']:27}{r['packets']:>9,}{r['features_ns']:>10.1f}"
            f"{r['known_cell_ns']:>12.1f}{r['link_bytes']:>9.2f}{r['json_bytes']:>9.0f}"
        )
    print(f"\n{'new cell, us':27}{'shipped':>9}{'this one':>10}{'scikit-learn':>14}{'times':>8}")
    for r in found["new_cells"]:
        ratio = r["sklearn_us"] / r["us"]
        batch = f"  batch {r['batch']}"
        times = f"{r['shipped_us']:>9.3f}{r['us']:>10.3f}{r['sklearn_us']:>14.1f}{ratio:>8,.0f}"
        print(f"{batch:27}{times}")
    print(f"\n{'whole path, packets/s':27}{'gateway-only':>14}{'offloaded':>12}{'JSON':>9}")
    for r in found["captures"]:
        rates = f"{r['local_pps']:>14,.0f}{r['remote_pps']:>12,.0f}{r['json_pps']:>9,.0f}"
        print(f"{r['capture']:27}{rates}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the model and logs")
    chosen = parser.parse_args()
    chosen.scratch.mkdir(parents=True, exist_ok=True)
    found = measure(chosen.scratch)
    show(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
