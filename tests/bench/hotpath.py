"""What a packet costs on the live path, stage by stage and for each size of batch, in one process.

    python -m tests.bench.hotpath [--mixes syn-spoofed,ordinary] [--batches 60,256,2048]

Frames of the benchmark's mixes are handed over as the ring would hand them over: screen, window,
cells, forest, evidence, ledger; the window is open and nothing is done about anybody. `whole` is
one packet's share of a batch with everything, the stages below it are run alone on the same
frames, and `fixed` is what a batch costs beyond its packets: the slope between the smallest and
the largest batch. The anchor is `make bench`'s first figure, bytes to the packet record of the
same frames: ratios to it travel better between machines than nanoseconds do.

Times are the processor's, the best of several passes on one thread. `--profile` prints where Python
spends its time instead, and `--once` runs one of them alone, for perf and callgrind.
"""

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ids_appliance._cells import Assignment, CellTable
from ids_appliance._evidence import EvidenceTable
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance._screen import Screen
from ids_appliance.bench import mixes
from ids_appliance.classify.bundle import Bundle, load_bundle
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.switch import SwitchClassifier
from ids_appliance.config import Config, Enforce, Trigger
from ids_appliance.gateway.appliance import Appliance, give_up_under_pressure
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.schema import N_FEATURES
from ids_appliance.telemetry.traffic import Traffic
from ids_appliance.trigger import embedded
from ids_appliance.types import FRAME, SENDER, FrameBatch, Source
from tests.bench.judged import judge

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models" / "iot-top20"
FRAMES = 65_536
PPS = 15_000
"""Rate at which the frames' stamps go on: it decides how often time-outs are looked at."""


def pool(mix: str, frames: int = FRAMES) -> FrameBatch:
    """Return a mix's frames as one batch, 1 / PPS apart."""
    data, ends = mixes.make(mix, frames=frames)
    records = np.zeros(len(ends), FRAME)
    records["offset"][1:] = ends[:-1]
    records["caplen"] = records["wirelen"] = np.diff(ends, prepend=0)
    records["timestamp_ns"] = 10**18 + np.arange(len(ends)) * (10**9 // PPS)
    records["number"] = np.arange(1, len(ends) + 1)
    records["ifindex"], records["linktype"] = 2, 1
    return FrameBatch(data, records)


class Blocks(Source):
    """A pool cut into batches of so many frames, as often as asked; time and numbers go on."""

    def __init__(self, whole: FrameBatch, frames: int) -> None:
        self._whole = whole
        self._frames = frames
        self.passes = 1
        span_ns = len(whole.frames) * (10**9 // PPS)
        self._step = np.uint64(len(whole.frames)), np.int64(span_ns)
        self._room = np.zeros(frames, FRAME)

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield the pool once more, later than before."""
        records, data = self._whole.frames, self._whole.data
        for _ in range(self.passes):
            for at in range(0, len(records), self._frames):
                part = records[at : at + self._frames]
                room = self._room[: len(part)]
                room[:] = part  # as the ring writes its records anew each time
                yield FrameBatch(data, room)
            records["number"] += self._step[0]
            records["timestamp_ns"] += self._step[1]

    def counters(self) -> dict[str, int]:
        """Nothing is lost here."""
        return {}

    def close(self) -> None:
        """There is nothing to close."""


def path(source: Source, model: Path) -> tuple[Pipeline, Appliance]:
    """Return the live path of a gateway that judges everything itself and does nothing."""
    config = Config(
        interfaces=("lan0",),
        model=str(model),
        trigger=Trigger(kind="always"),
        enforce=Enforce(enabled=False, backend="dry-run"),
    )
    parts = offline_parts(config, time.monotonic_ns)
    appliance = Appliance(config, parts, clock=time.monotonic_ns)
    pipeline = Pipeline(
        source,
        SwitchClassifier(LocalClassifier(load_bundle(model))),
        appliance,
        gate=appliance,
        limits=Limits(shed=True),
    )
    appliance.pipeline = pipeline
    appliance.gate.on_frames = Traffic().count
    give_up_under_pressure(appliance, pipeline.pressure)
    return pipeline, appliance


def best(work: Callable[[], object], *, passes: int) -> float:
    """Return the processor's seconds of the cheapest of so many runs, the first one left out."""
    times = []
    for _ in range(passes + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times[1:])


def whole_ns(frames: FrameBatch, batch: int, *, passes: int, model: Path) -> float:
    """ns a packet of everything but the ring itself."""
    source = Blocks(frames, batch)
    pipeline, appliance = path(source, model)
    seconds = best(pipeline.run, passes=passes)
    counters = pipeline.counters()
    assert counters["delivered"] == len(frames.frames) * (passes + 1)
    assert counters["judged"] + counters["unparsable"] == counters["delivered"], counters
    appliance.finish()
    return seconds / len(frames.frames) * 1e9


def source_ns(frames: FrameBatch, batch: int, *, passes: int) -> float:
    """ns a packet of handing them over, which is the benchmark's own."""
    source = Blocks(frames, batch)
    return best(lambda: sum(1 for _ in source.batches()), passes=passes) / len(frames.frames) * 1e9


def stages_ns(frames: FrameBatch, *, passes: int, bundle: Bundle) -> dict[str, float]:
    """ns a packet of each stage's C loop alone, in one batch."""
    n, host = len(frames.frames), HostIdentity()
    packed, grid = host.packed(), bundle.grid
    rows, outcomes = np.empty((n, N_FEATURES), np.uint16), np.empty(n, np.uint8)
    senders, counters = np.empty(n, SENDER), np.zeros(len(COUNTER_NAMES), np.uint64)

    def parse() -> None:
        extract(frames.data, frames.frames, host, rows, senders, outcomes, counters)

    screen = embedded.build(Trigger(kind="always"))
    counting = embedded.build(Trigger(kind="embedded"))
    later = np.int64(n * (10**9 // PPS))

    def look(which: Screen) -> None:
        which.screen(frames.data, frames.frames, packed, outcomes)
        frames.frames["timestamp_ns"] += later

    table = CellTable(grid.model_id, grid.features, grid.cuts, shed=False, max_asks=1 << 20)

    judge(table, Assignment(frames.frames), frames.data, packed, bundle.forest)
    known = Assignment(frames.frames)
    table.assign(known, frames.data, packed)
    floods = np.zeros(16, SENDER)
    evidence = EvidenceTable()

    def weigh() -> None:
        evidence.add(
            known.frames, known.senders, known.outcomes, known.probabilities, known.cells, floods
        )

    found = {"parse": parse, "screen, no rules": lambda: look(screen)}
    found |= {
        "screen, all rules": lambda: look(counting),
        "cells and forest": judge,
        "evidence": weigh,
    }
    return {name: best(work, passes=passes) / n * 1e9 for name, work in found.items()}


def measure(
    names: list[str], batches: list[int], *, passes: int, model: Path
) -> list[dict[str, Any]]:
    """Return a row for each mix."""
    bundle = load_bundle(model)
    rows = []
    for mix in names:
        frames = pool(mix)
        stages = stages_ns(frames, passes=passes, bundle=bundle)
        whole, given = {}, {}
        for batch in batches:
            whole[batch] = whole_ns(frames, batch, passes=passes, model=model)
            given[batch] = source_ns(frames, batch, passes=passes)
        net = {batch: whole[batch] - given[batch] for batch in batches}
        low, high = min(batches), max(batches)
        fixed = (net[low] - net[high]) / (1 / low - 1 / high) if low != high else 0.0
        rows.append({"mix": mix, "stages": stages, "whole": net, "fixed_us": fixed / 1000})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        anchor = row["stages"]["parse"]
        print(
            f"\n{row['mix']}{'':{24 - len(row['mix'])}}{'ns a packet':>12}{'times the anchor':>18}"
        )
        for name, ns in row["stages"].items():
            print(f"  {name:22}{ns:12.1f}{ns / anchor:18.2f}")
        for batch, ns in row["whole"].items():
            print(f"  {f'whole, {batch} a batch':22}{ns:12.1f}{ns / anchor:18.2f}")
        print(f"  {'fixed, us a batch':22}{row['fixed_us']:12.1f}")


def profile(mix: str, batch: int, *, model: Path) -> None:
    source = Blocks(pool(mix), batch)
    pipeline, _ = path(source, model)
    pipeline.run()
    source.passes = 3
    profiler = cProfile.Profile()
    profiler.runcall(pipeline.run)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


def once(mix: str, batch: int, *, passes: int, model: Path) -> None:
    source = Blocks(pool(mix), batch)
    source.passes = passes
    pipeline, _ = path(source, model)
    pipeline.run()
    print(json.dumps(pipeline.counters()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mixes", default="syn-single,syn-spoofed,ordinary,random")
    parser.add_argument("--batches", default="60,256,2048", help="frames a batch")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--profile", action="store_true", help="cProfile of the first of each")
    parser.add_argument("--once", action="store_true", help="only --passes of the first of each")
    chosen = parser.parse_args()
    names, sizes = chosen.mixes.split(","), [int(n) for n in chosen.batches.split(",")]
    if chosen.profile:
        profile(names[0], sizes[0], model=chosen.model)
    elif chosen.once:
        once(names[0], sizes[0], passes=chosen.passes, model=chosen.model)
    else:
        rows = measure(names, sizes, passes=chosen.passes, model=chosen.model)
        show(rows)
        if chosen.json:
            chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))


if __name__ == "__main__":
    main()
