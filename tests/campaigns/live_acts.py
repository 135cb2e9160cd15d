"""The demo's attacks and their benign twins, many times each, on one running system.

    python -m tests.campaigns.live_acts [--layout routed] [--times 10] [--act NAME ...] [--out DIR]

Root. One lab, one gateway, one node; between two acts everybody is released. Writes results.json
and prints a table: contained and accused counts, time from the first attack packet to the kernel's
element and to containment. Ends with 1 unless every single act went as it has to.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from ids_appliance.lab.demo.acts import sequence
from ids_appliance.lab.demo.play import Player
from ids_appliance.lab.demo.results import Result, judge
from ids_appliance.lab.demo.show import TOOLS
from ids_appliance.lab.demo.stage import Stage
from ids_appliance.lab.namespaces import orderly, require
from ids_appliance.lab.network import Lab
from ids_appliance.lab.services import offered

ROOT = Path(__file__).resolve().parents[2]
WINDOW_S = 3.0
"""Short, so that twenty acts fit into three minutes."""
DOWNLOAD_MIB = 25


def play(
    layout: str, times: int, *, only: Sequence[str], out: Path, model: Path
) -> Iterator[tuple[int, Result]]:
    """Yield (round, result) of every act as it ends."""
    with orderly(), Lab(layout) as lab, offered(lab):
        bridged = lab.layout.bridged
        rounds = [sequence(WINDOW_S, bridged=bridged, round_=n) for n in range(times)]
        chosen = [[a for a in acts if _wanted(a.kind, a.name, only)] for acts in rounds]
        bar = tqdm(total=sum(map(len, chosen)) + 1, desc=layout, unit="act")
        with bar, Stage(lab, model=model, folder=out, window_s=WINDOW_S) as stage:
            player = Player(lab, stage, clock=time.time_ns, folder=None, mib=DOWNLOAD_MIB)
            first = player.play(rounds[0][0], window_s=WINDOW_S, say=lambda kind, line: None)
            bar.update()
            for number, acts in enumerate(chosen, 1):
                for act in acts:
                    one = player.play(act, window_s=WINDOW_S, say=lambda kind, line: None)
                    yield (
                        number,
                        judge(one, baseline=first.figures.goodput, true_mac=lab.mac("phone")),
                    )
                    bar.update()


def _wanted(kind: str, name: str, only: Sequence[str]) -> bool:
    return name in only if only else kind in ("attack", "twin")


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield a line per act: counts, and median and worst times."""
    acts: dict[str, list[Result]] = {}
    for result in results:
        acts.setdefault(result.name, []).append(result)
    yield (
        f"{'':22}{'as it':>7}{'con-':>8}{'window':>8}{'decided':>9}{'accused':>9}"
        f"{'kernel element':>17}{'containment':>17}"
    )
    yield (
        f"{'':22}{'should':>7}{'tained':>8}{'opened':>8}{'':>9}{'others':>9}"
        f"{'median   worst':>17}{'median   worst':>17}"
    )
    for name, found in acts.items():
        n = len(found)
        attack = found[0].kind == "attack"
        good = sum(r.ok for r in found)
        contained = sum(bool(r.containment and r.containment.contained) for r in found)
        after = [r.containment.after_s if r.containment else None for r in found]
        yield (
            f"{name:22}{f'{good}/{n}':>7}{f'{contained}/{n}' if attack else '-':>8}"
            f"{f'{sum(bool(r.windows) for r in found)}/{n}':>8}"
            f"{f'{sum(bool(r.decided) for r in found)}/{n}':>9}"
            f"{sum(len(r.accused) for r in found):>9}"
            f"{times([r.kernel_s for r in found]):>17}{times(after):>17}"
        )


def times(seconds: Sequence[float | None]) -> str:
    """Return median and worst; what never came is worse than all."""
    if not any(s is not None for s in seconds):
        return "-"
    known = sorted(float("inf") if s is None else s for s in seconds)
    worst = "never" if known[-1] == float("inf") else f"{known[-1]:.2f} s"
    return f"{statistics.median_low(known):.2f} s {worst:>7}"


def extremes(results: Sequence[Result]) -> Iterator[str]:
    """Yield what ordinary life suffered at worst, and every failure."""
    lost, sent = (sum(r.lost[i] for r in results) for i in (0, 1))
    worst = max((r.lost_share for r in results), default=0.0)
    yield f"ordinary streams: {lost:,} of {sent:,} packets lost, {worst:.3%} in the worst act"
    goodput = [r.goodput for r in results if r.goodput is not None]
    if goodput:
        yield f"download: {min(goodput):.1%} of its goodput in the worst act"
    newcomers = [r.newcomers for r in results if r.newcomers and r.newcomers[1]]
    if newcomers:
        share = min(good / n for good, n in newcomers)
        yield f"new connections to a flooded port: {share:.1%} succeeded in the worst act"
    healed = [r.healed_s for r in results if r.poisoned]
    if healed:
        yield f"ARP cache right again after (median, worst): {times(healed)}"
    for number, r in enumerate(results, 1):
        for failure in r.failures:
            yield f"  act {number}, {r.name}: {failure}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--layout", default="routed", choices=["routed", "vlan", "bridge"])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--act", nargs="+", default=[], help="only these acts")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "iot-top20")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path("build", f"live-acts-{options.layout}")
    require(*TOOLS)
    results: list[Result] = []
    rows = []
    try:
        for number, result in play(
            options.layout, options.times, only=options.act, out=out, model=options.model
        ):
            results.append(result)
            rows.append({"round": number} | result.as_json())
    finally:
        out.mkdir(parents=True, exist_ok=True)
        document = {"layout": options.layout, "window_s": WINDOW_S, "acts": rows}
        (out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
        lines = [*table(results), *extremes(results)]
        (out / "table.txt").write_text("\n".join(lines) + "\n")
        print("\n".join(lines))
    return 0 if results and all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
