"""A million damaged packets: the compiled record equals the twin, and every edge is reached.

usage: python -m tests.campaigns.mutated [--packets N] [--seed S] [--data DATA] [--alone]
The packets are drawn from the captures of DATA (IDS_DATA, then ../shared/data) and from one of
each kind made here; without captures, from the latter alone. Equal seeds, equal packets. --alone
gives each frame an allocation of exactly its size, for a build with sanitizers.
"""

import argparse
import os
import sys
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from tqdm import tqdm

from ids_appliance.types import FrameBatch
from tests.campaigns import captures
from tests.campaigns.compare import Comparison, report
from tests.campaigns.mutate import Link, layer3_at, mutate
from tests.campaigns.twin_all import capture_paths
from tests.ext import frames as f
from tests.fuzz.parse import HOSTS as BOTH_HOSTS
from tests.fuzz.parse import catalogue, check, layer3

BATCH = 1000
PER_CAPTURE = 40
"""Packets taken of each capture, spread over its first thousands: every origin counts alike."""
DIRECTIONS = (0, 1, 2, 3, 4, 4, 255, 255)
HOSTS = tuple(host for _, host in BOTH_HOSTS)


def originals(data: Path | None) -> list[Link]:
    """Return the packets to be damaged, the made ones weighing a quarter."""
    made = list(catalogue())
    if data is None:
        return made
    drawn: list[Link] = []
    for path in capture_paths(data):
        drawn += islice(captures.frames(path), 0, 50 * PER_CAPTURE, 50)
    return drawn + made * (len(drawn) // (3 * len(made)))


def run(
    packets: int, *, seed: int = 1, data: Path | None = None, progress: bool = False
) -> list[Comparison]:
    """Compare `packets` mutated packets, in turn for each host of HOSTS."""
    rng = Random(seed)
    sources = originals(data)
    comparisons = [Comparison(host) for host in HOSTS]
    bar = tqdm(total=packets, unit="packet", unit_scale=True, disable=not progress)
    for start in range(0, packets, BATCH):
        links = [mutate(rng, *rng.choice(sources)) for _ in range(min(BATCH, packets - start))]
        frames = [frame for _, frame in links]
        buffer, table = f.records(frames)
        table["linktype"] = [linktype for linktype, _ in links]
        table["direction"] = np.array(rng.choices(DIRECTIONS, k=len(links)), np.uint8)
        comparisons[start // BATCH % len(HOSTS)].take(FrameBatch(buffer, table), frames)
        bar.update(len(links))
    bar.close()
    return comparisons


def run_alone(packets: int, *, seed: int = 1, data: Path | None = None) -> None:
    """Check mutated frames one by one, on the layer-3 path too; AssertionError: a difference."""
    rng = Random(seed)
    sources = originals(data)
    for i in tqdm(range(packets), unit="packet", unit_scale=True):
        linktype, frame = mutate(rng, *rng.choice(sources))
        check(frame, linktype, rng.choice(DIRECTIONS), BOTH_HOSTS[i % len(BOTH_HOSTS)])
        layer3(frame[layer3_at(linktype, frame) :], i)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--packets", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--data", default=os.environ.get("IDS_DATA", "../shared/data"))
    options.add_argument("--alone", action="store_true")
    chosen = options.parse_args()
    data = Path(chosen.data)
    data_or_none = data if (data / "labels.json").is_file() else None
    if chosen.alone:
        run_alone(chosen.packets, seed=chosen.seed, data=data_or_none)
        return 0
    comparisons = run(chosen.packets, seed=chosen.seed, data=data_or_none, progress=True)
    whole = Comparison()
    for comparison in comparisons:
        whole.totals.update(comparison.totals)
        whole.differences += comparison.differences
    print(report(whole))
    return int(bool(whole.differences))


if __name__ == "__main__":
    sys.exit(main())
