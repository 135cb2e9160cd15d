"""How much one reader carries, and what stops first: with and without forwarding on its core.

    python -m tests.bench.reader [--mixes syn-single,random] [--kpps 150,250,500] [--seconds 6]

The benchmark's bed, gateway and kernel on one CPU, generator and node on the others. Where nothing
is forwarded, the kernel only hands frames to the ring, and what is left of the CPU is the reader's:
its share of it says how many packets a second it would judge with a core of its own. A frame that
is lost between the CPUs never reached the ring: that is the kernel's, and stands apart from what
the reader lost (full ring, given up).
"""

import argparse
import os

from ids_appliance.bench.bed import Bed
from ids_appliance.bench.cpus import Camps
from ids_appliance.bench.modes import MODES, Stage
from ids_appliance.bench.trial import BedTrials
from ids_appliance.lab.namespaces import orderly
from tests.bench import spine

ROW = "{:8} {:12} {:>8} {:>8} {:>10} {:>10} {:>10} {:>8} {:>9}"


def main() -> None:
    """Print one row a step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--mixes", default="syn-single,random")
    parser.add_argument("--kpps", default="150,250,350,500")
    parser.add_argument("--seconds", type=float, default=6.0)
    asked = parser.parse_args()
    before = os.sched_getaffinity(0)
    camps = Camps.found()
    print(ROW.format("", "mix", "kpps", "achieved", "forwarded", "to ring", "judged", "core", "us"))
    with orderly():
        os.sched_setaffinity(0, camps.others)
        try:
            for forwards in (True, False):
                with (
                    Bed(camps, forwards=forwards) as bed,
                    Stage(bed, spine.SHIPPED, prefix=camps.prefix) as stage,
                ):
                    steps(BedTrials(bed, stage), asked, forwards=forwards)
        finally:
            os.sched_setaffinity(0, before)


def steps(trials: BedTrials, asked: argparse.Namespace, *, forwards: bool) -> None:
    """Offer every mix at every rate once."""
    for mix in asked.mixes.split(","):
        for kpps in asked.kpps.split(","):
            step = trials.run(MODES["gateway-only"], mix, 1000 * float(kpps), asked.seconds)
            sent, used = step.sent.packets, step.used["gateway"].cpu_percent
            ring = step.counters["kernel_packets"]
            print(
                ROW.format(
                    "forwards" if forwards else "drops",
                    mix,
                    kpps,
                    f"{100 * step.sent.achieved:.1f} %",
                    f"{100 * step.forwarded / sent:.3f} %" if forwards else "-",
                    f"{100 * ring / sent:.3f} %",
                    f"{100 * (step.judged or 0) / max(1, ring):.3f} %",
                    f"{used:.0f} %",
                    f"{1e4 * used / step.offered_pps:.2f}",
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
