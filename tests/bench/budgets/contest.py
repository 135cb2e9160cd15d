"""One contestant in a process of its own: a file's problem in, its results and best time out.

    python -m tests.bench.budgets.contest forest onnxruntime PROBLEM.npz RESULTS.npz

Prints one JSON object: us (or ns) an item, and the contestant's version. It may run under another
interpreter than ours, into which tests/bench/others.txt was installed: only the
contestants that are ours import the package. Results go to RESULTS, to be held against the
others' before any time is told. Exit code 3: not installed, and which.

A forest's problem: `train` and `test` (float32, scaled already, which spares the others what our
cells have behind them too), `classes`, `batches`. Every contestant fits the same forest itself: one
seed, one scikit-learn. Packets: `data`, `ends`, the captured bytes of Ethernet frames.
"""

# One that is not installed must not keep the others from running.
# ruff: noqa: PLC0415

import json
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Judge = Callable[[Any], Any]
"""(n, features) float32 -> (n,) probabilities of class 1."""
TREES, LEAVES, LIGHT_TREES, LIGHT_LEAVES = 50, 128, 50, 32


def best(work: Callable[[], object], *, seconds: float) -> float:
    """Return the shortest of the runs that fit into `seconds` (at least three), in seconds of
    processor time, that of processes it has started and waited for included."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        start = used()
        work()
        times.append(used() - start)
    return min(times)


def used() -> float:
    """Seconds of processor time so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


# Forests -----------------------------------------------------------------------------------------


def fitted(problem: Any) -> Any:
    """Return the forest; the same in every process with one version of scikit-learn."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, max_leaf_nodes=LEAVES, random_state=0, n_jobs=1)
    return forest.fit(problem["train"], problem["classes"])


def sklearn_forest(problem: Any) -> Judge:
    """scikit-learn."""
    forest = fitted(problem)
    return lambda rows: forest.predict_proba(rows)[:, 1]


def onnxruntime_forest(problem: Any) -> Judge:
    """ONNX Runtime, one thread, by skl2onnx."""
    import onnxruntime
    from skl2onnx import to_onnx

    forest = fitted(problem)
    model = to_onnx(forest, problem["train"][:1], options={id(forest): {"zipmap": False}})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name, wanted = session.get_inputs()[0].name, [session.get_outputs()[1].name]
    return lambda rows: session.run(wanted, {name: rows})[0][:, 1]


def tl2cgen_forest(problem: Any) -> Judge:
    """tl2cgen: the trees as C, compiled with -O3, one thread."""
    import tl2cgen
    import treelite

    model = treelite.sklearn.import_model(fitted(problem))
    where = tempfile.TemporaryDirectory()
    path = Path(where.name, "forest.so")
    tl2cgen.export_lib(
        model, toolchain="gcc", libpath=path, params={"parallel_comp": 8}, options=["-O3"]
    )
    predictor = tl2cgen.Predictor(path, nthread=1)

    def judge(rows: Any, _keep: Any = where) -> Any:
        return predictor.predict(tl2cgen.DMatrix(rows))[:, 0, 1]

    return judge


def lightgbm_fitted(problem: Any) -> Any:
    """Return the boosted trees; the same in every process with one version of LightGBM."""
    import lightgbm

    options = {"objective": "binary", "num_leaves": LIGHT_LEAVES, "num_threads": 1, "seed": 0}
    options |= {"deterministic": True, "force_row_wise": True, "verbose": -1}
    data = lightgbm.Dataset(problem["train"], problem["classes"].astype(int))
    return lightgbm.train(options, data, LIGHT_TREES)


def lightgbm_trees(problem: Any) -> Judge:
    """LightGBM, one thread."""
    model = lightgbm_fitted(problem)
    return lambda rows: model.predict(rows, num_threads=1)


def lleaves_trees(problem: Any) -> Judge:
    """lleaves: the trees by LLVM, one thread."""
    import lleaves

    with tempfile.TemporaryDirectory() as where:
        path = Path(where, "model.txt")
        lightgbm_fitted(problem).save_model(str(path))
        model = lleaves.Model(model_file=str(path))
        model.compile()
    return lambda rows: model.predict(rows.astype(float), n_jobs=1)


def judged(make: Callable[[Any], Judge], problem: Any, results: Path) -> dict[str, Any]:
    """Return us a row at each batch size; what was judged goes to `results`."""
    judge, test = make(problem), problem["test"]
    np.savez(results, probabilities=np.asarray(judge(test), float).ravel())
    found = {}
    for batch in problem["batches"].tolist():
        n = min(len(test), max(batch, 2048 if batch > 1 else 64)) // batch * batch
        parts = [np.ascontiguousarray(test[k : k + batch]) for k in range(0, n, batch)]

        def work(parts: list[Any] = parts) -> None:
            for part in parts:
                judge(part)

        found[str(batch)] = best(work, seconds=0.7) / n * 1e6
    return {"us": found}


# Packets -----------------------------------------------------------------------------------------

Fields = tuple[int, int, int, int, int, int]
"""Protocol, TTL, length (IP's), source port, destination port, TCP flags; ports 0 without."""
PORTS = struct.Struct("!HH")


def frames_of(problem: Any) -> list[bytes]:
    """Return the frames, each as bytes."""
    data, ends = problem["data"].tobytes(), problem["ends"].tolist()
    return [data[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def dpkt_fields(problem: Any) -> Callable[[], list[Fields]]:
    """dpkt: six fields of each frame."""
    import dpkt

    frames = frames_of(problem)

    def work() -> list[Fields]:
        found = []
        for frame in frames:
            ip = dpkt.ethernet.Ethernet(frame).data
            inner = ip.data
            tcp = isinstance(inner, dpkt.tcp.TCP)
            ports = (inner.sport, inner.dport) if tcp or isinstance(inner, dpkt.udp.UDP) else (0, 0)
            found.append((ip.p, ip.ttl, ip.len, *ports, inner.flags if tcp else 0))
        return found

    return work


def scapy_fields(problem: Any) -> Callable[[], list[Fields]]:
    """scapy: six fields of each frame."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether

    frames = frames_of(problem)

    def work() -> list[Fields]:
        found = []
        for frame in frames:
            ip = Ether(frame)[IP]
            inner = ip.getlayer(TCP) or ip.getlayer(UDP)
            ports = (inner.sport, inner.dport) if inner is not None else (0, 0)
            flags = int(inner.flags) if inner is not None and inner.name == "TCP" else 0
            found.append((ip.proto, ip.ttl, ip.len, *ports, flags))
        return found

    return work


def python_features(problem: Any) -> Callable[[], list[Fields]]:
    """Plain Python, all 60 features: the published system as the benchmark builds it."""
    from ids_appliance.bench.literal_features import features

    frames = frames_of(problem)
    return lambda: [_chosen(features(frame)) for frame in frames]


def _chosen(row: Any) -> Fields:
    return (row[2], row[5], row[4], row[0], row[1], row[6])


def nfstream_packets(problem: Any) -> Callable[[], list[Fields]]:
    """NFStream: flows, not packets; it says how many packets it has counted."""
    from nfstream import NFStreamer

    where = tempfile.TemporaryDirectory()
    path = Path(where.name, "c.pcap")
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for k, frame in enumerate(frames_of(problem)):
        records.append(struct.pack("<IIII", 1 + k // 1000000, k % 1000000, len(frame), len(frame)))
        records.append(frame)
    path.write_bytes(b"".join(records))

    def work(_keep: Any = where) -> list[Fields]:
        streamer = NFStreamer(str(path), statistical_analysis=True, n_meters=1, n_dissections=0)
        return [(sum(flow.bidirectional_packets for flow in streamer), 0, 0, 0, 0, 0)]

    return work


def extracted(make: Callable[[Any], Any], problem: Any, results: Path) -> dict[str, Any]:
    """Return ns a packet; the fields go to `results`."""
    work = make(problem)
    np.savez(results, fields=np.array(work(), int))
    return {"ns": best(work, seconds=1.0) / len(problem["ends"]) * 1e9}


# Messages ----------------------------------------------------------------------------------------


def json_link(problem: Any) -> Callable[[], tuple[int, float]]:
    """JSON, one object a packet: written, parsed, and the answer the same way."""
    names, rows = problem["names"].tolist(), problem["rows"].tolist()
    chances = problem["chances"].tolist()

    def work() -> tuple[int, float]:
        n, total = 0, 0.0
        for seq, (row, chance) in enumerate(zip(rows, chances, strict=True)):
            line = json.dumps({"seq": seq} | dict(zip(names, row, strict=True)))
            answer = json.dumps({"seq": json.loads(line)["seq"], "probability": chance})
            total += json.loads(answer)["probability"]
            n += len(line) + len(answer) + 2
        return n, total

    return work


def msgpack_link(problem: Any) -> Callable[[], tuple[int, float]]:
    """msgpack, the same objects."""
    import msgpack

    names, rows = problem["names"].tolist(), problem["rows"].tolist()
    chances = problem["chances"].tolist()

    def work() -> tuple[int, float]:
        n, total = 0, 0.0
        for seq, (row, chance) in enumerate(zip(rows, chances, strict=True)):
            line = msgpack.packb({"seq": seq} | dict(zip(names, row, strict=True)))
            answer = msgpack.packb({"seq": msgpack.unpackb(line)["seq"], "probability": chance})
            total += msgpack.unpackb(answer)["probability"]
            n += len(line) + len(answer)
        return n, total

    return work


def our_link(problem: Any) -> Callable[[], tuple[int, float]]:
    """Cells and probabilities, 256 a message."""
    from ids_appliance import _wire as wire
    from ids_appliance.classify.bundle import load_bundle
    from ids_appliance.schema import FEATURES

    grid = load_bundle(str(problem["bundle"])).grid
    cells, chances = np.ascontiguousarray(problem["cells"]), problem["chances"]
    widths = [feature.width for feature in FEATURES]
    node, gateway = wire.Decoder(False, widths=widths), wire.Decoder(True, widths=widths)
    node.feed(wire.encode_hello("g", bytes(32)))
    gateway.feed(wire.encode_welcome("n", 4096, max_in_flight=256) + wire.encode_model(0, grid))

    def work() -> tuple[int, float]:
        n, total = 0, 0.0
        for first in range(0, len(cells), 256):
            asked = wire.encode_classify(first, 0, cells[first : first + 256])
            (got,) = node.feed(asked)
            answer = wire.encode_verdicts(got.seq, 0, chances[first : first + 256])
            (back,) = gateway.feed(answer)
            total += float(back.probabilities.sum())
            n += len(asked) + len(answer)
        return n, total

    return work


def carried(make: Callable[[Any], Any], problem: Any, results: Path) -> dict[str, Any]:
    """Return ns and bytes an item; the sum of what has come goes to `results`."""
    work = make(problem)
    n_bytes, total = work()
    np.savez(results, total=total)
    n = len(problem["chances"])
    return {"ns": best(work, seconds=0.7) / n * 1e9, "bytes": n_bytes / n}


# ------------------------------------------------------------------------------------------------

CONTESTS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "forest": (
        judged,
        {
            "scikit-learn": sklearn_forest,
            "onnxruntime": onnxruntime_forest,
            "tl2cgen": tl2cgen_forest,
            "lightgbm": lightgbm_trees,
            "lleaves": lleaves_trees,
        },
    ),
    "packets": (
        extracted,
        {
            "python": python_features,
            "dpkt": dpkt_fields,
            "scapy": scapy_fields,
            "nfstream": nfstream_packets,
        },
    ),
    "link": (carried, {"json": json_link, "msgpack": msgpack_link, "ours": our_link}),
}
MISSING = 3


def main(arguments: list[str]) -> int:
    """Be the process."""
    contest, name, problem, results = arguments
    run, contestants = CONTESTS[contest]
    try:
        with np.load(problem, allow_pickle=False) as loaded:
            found = run(contestants[name], {k: loaded[k] for k in loaded.files}, Path(results))
    except ModuleNotFoundError as error:
        print(f"{name}: {error.name} is not installed", file=sys.stderr)
        return MISSING
    try:
        found["version"] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found["version"] = ""
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
