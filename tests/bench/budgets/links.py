"""The link: bytes a packet, a node's new cells a second of a core, and other ways to say them."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ids_appliance import _wire as wire
from ids_appliance.bench import mixes
from ids_appliance.classify.bundle import Bundle, load_bundle
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.pipeline import Pipeline
from ids_appliance.schema import FEATURE_NAMES, FEATURES, SCHEMA_HASH
from ids_appliance.types import FRAME, FrameBatch
from tests.bench import spine
from tests.bench.budgets.others import Others
from tests.bench.budgets.rows import Figure
from tests.classify.nodes import NodeProcess

PACKETS = {"syn-spoofed": 262_144, "syn-single": 1_000_000, "ordinary": 16_501}
"""Mix -> packets: no forged sender and no ordinary packet comes twice."""
LIMITS = {"syn-spoofed": 1.5, "syn-single": 0.1, "ordinary": 20.0}
CELLS_S = 500_000.0
ROWS, IN_FLIGHT = 1024, 16
_WIDTHS = tuple(feature.width for feature in FEATURES)


class Pool:
    """A `Source` of a mix's frames, again and again, until there were so many packets."""

    def __init__(self, mix: str, packets: int) -> None:
        self._data, self._ends = mixes.make(mix)
        self._left = packets

    def batches(self) -> Iterator[FrameBatch | None]:
        """Source."""
        frames = np.zeros(len(self._ends), FRAME)
        frames["offset"] = np.concatenate(([0], self._ends[:-1]))
        frames["caplen"] = frames["wirelen"] = np.diff(np.concatenate(([0], self._ends)))
        frames["linktype"] = 1
        while self._left > 0:
            for first in range(0, len(frames), 4096):
                some = frames[first : min(first + 4096, first + self._left)]
                self._left -= len(some)
                if len(some):
                    yield FrameBatch(self._data, some)

    def counters(self) -> dict[str, int]:
        """Source."""
        return {}

    def close(self) -> None:
        """Source."""


class Nobody:
    """A verdict sink."""

    def take(self, batch: object) -> None:
        """VerdictSink."""


def bytes_a_packet(scratch: Path) -> list[Figure]:
    """Return both directions' bytes, handshake and model included, beside one object a packet."""
    options, found = LinkOptions(deadline_s=60.0), []
    nodes = {
        name: NodeProcess(spine.SHIPPED, scratch / f"{name}.log", options=("--plaintext", *more))
        for name, more in {"binary": (), "json": ("--transport", "json")}.items()
    }
    try:
        for mix, limit in LIMITS.items():
            n = PACKETS[mix]
            ours = _sent(mix, n, RemoteClassifier.connect([nodes["binary"].address], options))
            literal = _sent(
                mix, min(n, 20_000), JsonClassifier.connect([nodes["json"].address], options)
            )
            found.append(
                Figure(
                    "link",
                    f"{mix}, {n:,} packets",
                    ours,
                    "bytes a packet",
                    limit,
                    anchor=f"one JSON object a packet: {literal:,.0f}",
                    ratio=literal / ours,
                )
            )
    finally:
        for node in nodes.values():
            node.close()
    return found


def _sent(mix: str, packets: int, classifier: Any) -> float:
    with_all = Pipeline(Pool(mix, packets), classifier, Nobody())
    with_all.run()
    counted = classifier.counters()
    classifier.close()
    judged = with_all.counters()["judged"]
    assert judged == packets, f"{mix}: {judged:,} of {packets:,} packets judged"
    return float(counted["bytes_sent"] + counted["bytes_received"]) / judged


def node(scratch: Path, *, seconds: float = 4.0) -> list[Figure]:
    """Return the new cells that a node decodes, judges and answers in a second of its own core's
    time, asked over TCP on this machine."""
    bundle = load_bundle(spine.SHIPPED)
    data, ends = mixes.make("random")
    cells = _cells(bundle, data, ends)
    expected = np.empty(len(cells))
    bundle.forest.evaluate(cells, expected)
    process = NodeProcess(spine.SHIPPED, scratch / "node.log")
    try:
        with socket.create_connection(process.address) as link:
            link.sendall(wire.encode_hello("budgets", SCHEMA_HASH))
            gateway, got = wire.Decoder(True, widths=_WIDTHS), []
            while len(got) < 2:
                got += gateway.feed(link.recv(1 << 20))
            asked = [cells[k : k + ROWS] for k in range(0, len(cells) - ROWS + 1, ROWS)]
            messages = [wire.encode_classify(k, got[1].slot, c) for k, c in enumerate(asked)]
            used = psutil.Process(process.process.pid)
            before, start = used.cpu_times(), time.perf_counter()
            n = sent = answered = 0
            while time.perf_counter() - start < seconds:
                while sent - answered < IN_FLIGHT:
                    link.sendall(messages[sent % len(messages)])
                    sent += 1
                for message in gateway.feed(link.recv(1 << 20)):
                    k = message.seq
                    right = expected[k * ROWS : (k + 1) * ROWS]
                    assert message.probabilities.tobytes() == right.tobytes()
                    answered += 1
                    n += len(right)
            took, after = time.perf_counter() - start, used.cpu_times()
    finally:
        process.close()
    core_s = after.user + after.system - before.user - before.system
    note = f"{n / took:,.0f} a second; client and node share two cores"
    return [Figure("node", "new cells", n / core_s, "a second of a core", CELLS_S, ">=", note=note)]


def _cells(bundle: Bundle, data: Any, ends: Any) -> Any:
    frames = np.zeros(len(ends), FRAME)
    frames["offset"] = np.concatenate(([0], ends[:-1]))
    frames["caplen"] = frames["wirelen"] = np.diff(np.concatenate(([0], ends)))
    frames["linktype"] = 1
    return np.unique(spine.cells_of(spine.parse([FrameBatch(data, frames)]), bundle), axis=0)


def encoding(others: Others) -> list[Figure]:
    """Return ns an item, question and answer written and read, against JSON and msgpack."""
    bundle = load_bundle(spine.SHIPPED)
    rows = spine.parse([batch for batch in Pool("ordinary", 10_000).batches() if batch is not None])
    cells = spine.cells_of(rows, bundle)
    chances = np.empty(len(cells))
    bundle.forest.evaluate(cells, chances)
    features = list(bundle.grid.features)
    problem = others.problem(
        "link",
        rows=rows[:, features],
        names=np.array([FEATURE_NAMES[k] for k in features]),
        cells=cells,
        chances=chances,
        bundle=str(spine.SHIPPED),
    )
    ours = others.run("link", "ours", problem, ours=True)
    if ours is None:
        return []
    found = []
    for rival in ("json", "msgpack"):
        made = others.run("link", rival, problem, ours=rival == "json")
        if made is None:
            continue
        assert abs(float(made.results["total"]) - float(ours.results["total"])) < 1e-6, rival
        anchor = f"{rival}: {made.said['ns']:,.0f} ns, {made.said['bytes']:.0f} bytes; ours: "
        anchor += f"{ours.said['ns']:.3g} ns, {ours.said['bytes']:.0f} bytes"
        times = made.said["ns"] / ours.said["ns"]
        found.append(
            Figure("link", f"encode + decode an item: {rival} / ours", times, "times", None, ">=",
                   anchor, times)
        )  # fmt: skip
    return found
