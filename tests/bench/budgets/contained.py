"""Attacks with real tools in the lab in, seconds from the first packet to containment out."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.lab.demo.acts import Act, sequence
from ids_appliance.lab.demo.play import Player
from ids_appliance.lab.demo.results import judge
from ids_appliance.lab.demo.stage import Stage
from ids_appliance.lab.network import Lab
from ids_appliance.lab.services import offered
from tests.bench import spine
from tests.bench.budgets.rows import Figure

FLOOD_PPS: Final = 12_000
WINDOW_S: Final = 3.0
FLOOD_MEDIAN_S, FLOOD_WORST_S, WORST_S = 0.15, 1.0, 2.0
OTHERS: Final = ("port_scan", "mirai", "arp_spoof")
NEVER: Final = float("inf")
UNRESTRAINED: Final = "[policy]\nbreaker_per_minute = 1000000\nbreaker_lan_share = 1.0\n"
"""Else a gateway that has cut off five in a minute holds itself back in the second round."""


def measure(scratch: Path, *, times: int, say: Callable[[str], None]) -> list[Figure]:
    """Play floods and the other attacks so many times; return the times to containment."""
    seconds: dict[str, list[tuple[float, float]]] = {}
    rates = []
    with ExitStack() as stack:
        lab = stack.enter_context(Lab("routed", tag="b"))
        stack.enter_context(offered(lab))
        place = scratch / "stage"
        stage = Stage(
            lab, model=spine.SHIPPED, folder=place, window_s=WINDOW_S, settings=UNRESTRAINED
        )
        stack.enter_context(stage)
        player = Player(lab, stage, clock=_now, folder=None, mib=2)
        for number in range(times):
            acts = {act.name: act for act in sequence(WINDOW_S, bridged=False, round_=number)}
            floods = [_faster(acts["syn_flood"])] * 2
            for act in (*floods, *(acts[name] for name in OTHERS)):
                one = player.play(act, window_s=WINDOW_S, say=lambda kind, line: None)
                result = judge(one, baseline=None)
                reached = result.containment
                if act.name == "syn_flood" and reached is not None:
                    rates.append(reached.sent / (act.seconds - 0.6))
                held = reached.after_s if reached is not None else None
                pair = tuple(NEVER if s is None else s for s in (held, result.kernel_s))
                seconds.setdefault(act.name, []).append((pair[0], pair[1]))
                say(f"{act.name}: contained after {pair[0]:.3f} s, element {pair[1]:.3f} s")
    floods = [held for held, _ in seconds["syn_flood"]]
    elements = [element for _, element in seconds["syn_flood"]]
    note = f"{len(floods)} floods of {min(rates, default=0):,.0f} packets a second and more"
    median, worst = statistics.median(floods), max(floods)
    found = [
        Figure("contained", "SYN flood, median", median, "s", FLOOD_MEDIAN_S, note=note),
        Figure("contained", "SYN flood, worst", worst, "s", FLOOD_WORST_S, note=note),
        Figure("contained", "SYN flood, kernel element, median", statistics.median(elements), "s"),
    ]
    for name in OTHERS:
        worst = max(held for held, _ in seconds[name])
        title = name.replace("_", " ")
        note = f"of {len(seconds[name])}"
        found.append(Figure("contained", f"{title}, worst", worst, "s", WORST_S, note=note))
    return found


def _faster(act: Act) -> Act:
    """Return a flood's act at this budget's rate."""
    steps = [msgspec.structs.replace(s, with_=s.with_ | {"pps": FLOOD_PPS}) for s in act.steps]
    return dataclasses.replace(act, steps=tuple(steps))


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME)
