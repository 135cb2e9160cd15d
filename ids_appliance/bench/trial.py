"""A mode, a mix and a rate in, one step out: what was offered, forwarded, judged and used."""

import json
import math
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from ids_appliance.bench.bed import START_S, Bed
from ids_appliance.bench.modes import Mode, Running, Stage
from ids_appliance.bench.sender import Sent
from ids_appliance.bench.steps import Step
from ids_appliance.bench.usage import Usage

SETTLE_S: Final = 0.25
STILL: Final = 6
"""Counters that show the same so often in a row, `SETTLE_S` apart, are final."""
SETTLE_LIMIT_S: Final = 20.0
TOLD: Final[tuple[str, ...]] = (
    *("delivered", "judged", "unparsable", "own", "echo", "unanswered", "shed", "contained"),
    *("screened", "under_way", "kernel_packets", "kernel_drops", "in_ring", "malformed"),
    *("cell_asks", "classifier_bytes_sent", "classifier_bytes_received"),
    *("latency_p50_us", "latency_p99_us"),
    *("flow_emergencies", "flows_refused"),  # another system's
)
"""Of a gateway's counters, those that a step keeps."""


@dataclass(frozen=True, slots=True)
class BedTrials:
    """Trials (plan.py) on the test bed; fresh processes each time."""

    bed: Bed
    stage: Stage

    def run(self, mode: Mode, mix: str, pps: float, seconds: float) -> Step:
        """Offer a mix at a rate for so long, and count. Raises LabError."""
        pool = self.bed.pool(mix)
        words = [sys.executable, "-m", "ids_appliance.bench.sender", "eth0", str(pool)]
        words += [f"{pps:.6g}", f"{seconds:g}"]
        with (
            self.stage.running(mode) as running,
            closing(self.bed.process("gen", *words)) as sender,
        ):
            sender.line(START_S)  # ready
            arrived, before = self.bed.arrived(), running.counters()
            usage = Usage(running.pids | {"generator": sender.pid})
            sender.say()
            sent = Sent(**json.loads(sender.line(seconds * 3 + START_S)))
            used, machine, softirq = usage.read(sent.seconds)
            n = sent.packets
            wanted = (arrived + n, before.get("judged", 0) + n)
            forwarded, after, behind_s = self._settled(running, wanted)
        gone = {name: after[name] - before.get(name, 0) for name in TOLD if name in after}
        return Step(
            mode.name,
            mix,
            sent,
            forwarded - arrived,
            gone.get("judged"),
            used,
            machine_percent=machine,
            softirq_percent=softirq,
            counters=gone,
            behind_s=behind_s,
        )

    def _settled(
        self, running: Running, wanted: tuple[int, int]
    ) -> tuple[int, dict[str, int], float]:
        """Return what has arrived and the mode's counters, once all that was wanted is there or
        neither grows any more; and after how many seconds they have last grown, totals that lag
        taken as young as they can be."""
        begin_s, behind_s = time.monotonic(), 0.0
        last: tuple[int, int | None] = (-1, None)
        pause = threading.Event()
        still, enough = 0, STILL + math.ceil(running.lag_s / SETTLE_S)
        for _ in range(round((SETTLE_LIMIT_S + running.lag_s) / SETTLE_S)):
            arrived, counters = self.bed.arrived(), running.counters()
            now = (arrived, counters.get("judged"))
            if now == last:
                still += 1
            else:
                still, behind_s = 0, max(0.0, time.monotonic() - begin_s - running.lag_s)
            if still >= enough or (now[0] >= wanted[0] and (now[1] is None or now[1] >= wanted[1])):
                break
            last = now
            pause.wait(SETTLE_S)
        return arrived, counters, behind_s
