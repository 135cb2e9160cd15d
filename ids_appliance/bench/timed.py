"""An interface and a model in, how long each packet waited for its verdict out.

    python -m ids_appliance.bench.timed INTERFACE MIB RETIRE_MS MODEL [HOST:PORT]

The gateway's ring, pipeline and classifier without what stands around them (screen, evidence,
events). A latency is the time from the kernel's stamp on the frame to the moment at which its batch
comes out judged; a block of the ring that is not full waits RETIRE_MS before that begins.
"""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from ids_appliance import assemble
from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.types import Classifier, JudgedBatch, Outcome

EDGES_US = np.concatenate(([0.0], np.geomspace(1, 1e8, 1601)))
"""Bins of 1.2 % each: a percentile is right to that."""


class Stopwatch:
    """A verdict sink that keeps a histogram of latencies, in microseconds."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._bins = np.zeros(len(EDGES_US) - 1, np.int64)

    def take(self, batch: JudgedBatch) -> None:
        """VerdictSink."""
        judged = batch.outcomes == Outcome.JUDGED
        waited = (self._clock_ns() - batch.frames["timestamp_ns"][judged]) / 1000
        self._bins += np.histogram(np.clip(waited, 0, 1e8), EDGES_US)[0]

    def percentile(self, share: float) -> int:
        """Return the latency below which that share stays, in microseconds; 0 of nothing."""
        total = int(self._bins.sum())
        if not total:
            return 0
        edge = int(np.searchsorted(np.cumsum(self._bins), share * total))
        return round(float(EDGES_US[edge + 1]))


def main(arguments: list[str], clock_ns: Callable[[], int]) -> None:
    """Be the process; ends with its standard input."""
    interface, mib, retire_ms, model, *node = arguments
    classifier: Classifier
    options = RingOptions(blocks=max(2, int(mib) * 4), retire_ms=int(retire_ms))
    with closing(RingSource(interface, options)) as source:
        if node:
            host, _, port = node[0].rpartition(":")
            remote = RemoteClassifier.connect([(host, int(port))], LinkOptions(wait_s=10.0))
            remote.on_answer(source.wake)
            classifier = remote
        else:
            classifier = assemble.local_classifier(Path(model))
        watch = Stopwatch(clock_ns)
        pipeline = Pipeline(source, classifier, watch, limits=Limits(shed=True))

        def asked() -> bool:
            if not select.select([0], [], [], 0)[0]:
                return False
            if not os.read(0, 4096):
                return True
            told = {f"latency_p{p}_us": watch.percentile(p / 100) for p in (50, 99)}
            print(json.dumps(pipeline.counters() | source.counters() | told), flush=True)
            return False

        print("ready", flush=True)
        with closing(classifier):
            pipeline.run(asked)


if __name__ == "__main__":
    main(sys.argv[1:], lambda: time.clock_gettime_ns(time.CLOCK_REALTIME))
