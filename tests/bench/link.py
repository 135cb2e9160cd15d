"""What the link costs: `python -m tests.bench.link [BUNDLE]`, one JSON object on standard output.

    codec       ns a cell to encode and decode CLASSIFY and VERDICTS (no table), one thread
    round trip  us from submit to answer over loopback, one request at a time under way
    node        CPU time a cell of the node's process, decode, forest and reply included
    fail-over   ms without answers when the node in use is killed, or hangs

Times hold for the machine they were taken on, and for how busy it was.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ids_appliance import _wire as wire
from ids_appliance.classify.bundle import load_bundle, save_bundle
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.types import CellRequest
from tests.bundles import random_bundle, random_rows
from tests.classify.nodes import NodeProcess, make_request
from tests.classify.test_remote import run_through_failure

BATCHES = (1, 16, 256, 1024)


def per_call_ns(work, times=20_000):
    began = time.perf_counter_ns()
    for _ in range(times):
        work()
    return (time.perf_counter_ns() - began) / times


def codec(bundle):
    figures = {}
    for n in BATCHES:
        cells = make_request(1, bundle, random_rows(n, n)).cells
        values = np.random.default_rng(n).random(n)
        asked, answered = wire.encode_classify(1, 0, cells), wire.encode_verdicts(1, 0, values)
        node, gateway = wire.Decoder(False), wire.Decoder(True)
        calls = {
            "encode_classify": lambda c=cells: wire.encode_classify(1, 0, c),
            "decode_classify": lambda m=asked, d=node: d.feed(m),
            "encode_verdicts": lambda v=values: wire.encode_verdicts(1, 0, v),
            "decode_verdicts": lambda m=answered, d=gateway: d.feed(m),
        }
        figures[n] = {name: round(per_call_ns(call) / n, 2) for name, call in calls.items()}
        figures[n] |= {"classify_bytes": len(asked), "verdicts_bytes": len(answered)}
    return figures


def round_trips(link, bundle):
    figures = {}
    for n in BATCHES[:3]:
        template = make_request(0, bundle, random_rows(n, n))
        took = []
        for seq in range(3000):
            began = time.perf_counter()
            request = CellRequest(seq, template.model_id, template.cells, template.rows)
            assert link.submit(request)
            while not link.answers(1.0):
                pass
            took.append((time.perf_counter() - began) * 1e6)
        p50, p99 = np.percentile(took[200:], (50, 99))
        figures[n] = {"p50_us": round(p50), "p99_us": round(p99)}
    return figures


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def node_cost(link, bundle, node):
    figures = {}
    rows = random_rows(2, 65536)
    cells = make_request(0, bundle, rows).cells
    for n in BATCHES[1:]:
        parts = [(cells[i : i + n], rows[i : i + n]) for i in range(0, len(rows), n)]
        wanted = (4 if n < 100 else 16) * len(parts)
        before, began = cpu_s(node.process.pid), time.perf_counter()
        sent = got = 0
        while got < wanted:
            while sent < wanted:
                part = parts[sent % len(parts)]
                if not link.submit(CellRequest(sent, bundle.grid.model_id, *part)):
                    break
                sent += 1
            got += len(link.answers(1.0))
        spent = cpu_s(node.process.pid) - before
        figures[n] = {
            "cells_per_s_and_core": round(wanted * n / spent),
            "cells_per_s_wall": round(wanted * n / (time.perf_counter() - began)),
        }
    return figures


def fail_over(path, bundle, scratch):
    figures = {}
    for how in ("kill", "hang"):
        gaps = []
        for _ in range(5):
            nodes = [NodeProcess(path, scratch / f"log{i}") for i in (0, 1)]
            _, gap, counters = run_through_failure(nodes, bundle, getattr(nodes[0], how))
            assert counters["unanswered"] == counters["stale"] == 0
            gaps.append(round(gap * 1e3))
            for node in nodes:
                node.close()
        figures[f"{how}_gap_ms"] = gaps
    return figures


def main():
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else scratch / "random"
        if len(sys.argv) == 1:
            save_bundle(random_bundle(1, n_trees=50, n_leaves=128), path)
        bundle = load_bundle(path)
        node = NodeProcess(path, scratch / "log")
        with RemoteClassifier.connect([node.address], LinkOptions(deadline_s=20.0)) as link:
            figures = {
                "key_bytes": bundle.forest.key_bytes,
                "codec_ns_per_cell": codec(bundle),
                "round_trip": round_trips(link, bundle),
                "node": node_cost(link, bundle, node),
            }
        node.close()
        figures["fail_over"] = fail_over(path, bundle, scratch)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
