"""Measure the budgets, all of them or some parts, and write docs/benchmarks/budgets.{json,md}.

    python -m tests.bench.budgets [--only PART ...] [--out FOLDER]

Parts that are not measured this time stay in the file as they were, each with its date and commit.
`rate` takes the longest: `--mixes`, `--rounds` and `--step` make it shorter. Needs root for the
parts in the lab; contestants that are not installed (tests/bench/others.txt) are left out by name.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ids_appliance.bench.machine import machine
from ids_appliance.bench.plan import Thoroughness
from ids_appliance.errors import IdsError
from ids_appliance.lab.namespaces import orderly, require
from tests.bench import spine
from tests.bench.budgets import cells, contained, delays, inlined, links, packets, rates
from tests.bench.budgets.others import ROOT, Others
from tests.bench.budgets.rows import Figure, Part, page, read, told

OUT = ROOT / "docs" / "benchmarks"
NEED_ROOT = ("cpu", "element", "contained", "rate", "literal", "inline")


def parts(asked: argparse.Namespace, scratch: Path) -> dict[str, Callable[[], list[Figure]]]:
    """Return part -> how it is measured, in the order in which they are."""
    others = Others(scratch, asked.others)
    captures = {name: path for name, path in spine.CAPTURES.items() if path.is_file()}
    how = Thoroughness(
        step_s=asked.step,
        confirmations=asked.confirmations,
        confirm_s=asked.confirm,
        rounds=asked.rounds,
        resolution=asked.resolution,
    )

    def left_out(measured: Callable[[], list[Figure]]) -> Callable[[], list[Figure]]:
        def work() -> list[Figure]:
            found = measured()
            for why in others.left_out.values():
                say(f"left out: {why}")
            others.left_out.clear()
            return found

        return work

    return {
        "known": left_out(lambda: packets.known(others, captures)),
        "extraction": lambda: packets.extraction(scratch, captures),
        "new": left_out(lambda: cells.measure(others, captures)),
        "link": left_out(lambda: [*links.bytes_a_packet(scratch), *links.encoding(others)]),
        "node": lambda: links.node(scratch),
        "cpu": lambda: rates.processor(seconds=asked.fixed, say=say),
        "element": lambda: delays.measure(samples=asked.samples),
        "contained": lambda: contained.measure(scratch, times=asked.times, say=say),
        "inline": lambda: inlined.measure(how, seconds=asked.fixed, say=say),
        "literal": lambda: rates.over_literal(how, say=say),
        **{
            f"rate-{mix}": (lambda mix=mix: rates.over_tapped(how, [mix], say=say))
            for mix in rates.MIXES
        },
    }


def say(line: str) -> None:
    """Tell people how far it is."""
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="+", default=[], help="parts; `rate` stands for all of it")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of budgets.json and .md")
    parser.add_argument("--others", type=Path, help="interpreter that has the contestants")
    parser.add_argument("--step", type=float, default=2.0, help="seconds a step of a search")
    parser.add_argument("--rounds", type=int, default=10, help="searches: pairs for the ratios")
    parser.add_argument("--resolution", type=float, default=0.05, help="of a search")
    parser.add_argument("--confirmations", type=int, default=0)
    parser.add_argument("--confirm", type=float, default=10.0, help="seconds a confirmation")
    parser.add_argument("--fixed", type=float, default=10.0, help="seconds at 15 kpps")
    parser.add_argument("--samples", type=int, default=300, help="senders of `element`")
    parser.add_argument("--times", type=int, default=5, help="rounds of `contained`")
    return parser.parse_args()


def main() -> int:
    """Measure and write."""
    asked = arguments()
    command = shlex.join(["python", "-m", "tests.bench.budgets", *sys.argv[1:]])
    file = asked.out / "budgets.json"
    known = read(json.loads(file.read_text())) if file.is_file() else {}
    with orderly(), TemporaryDirectory(prefix="ids-budgets-") as scratch:
        ways = parts(asked, Path(scratch))
        wanted = {w for w in ways if not asked.only or {w, w.partition("-")[0]} & {*asked.only}}
        if strange := {o for o in asked.only if not any(w.startswith(o) for w in ways)}:
            raise SystemExit(f"no such part: {', '.join(sorted(strange))}; {', '.join(ways)}")
        for name, measure in ways.items():
            if name not in wanted:
                continue
            known[name] = measured(name, measure, command)
            asked.out.mkdir(parents=True, exist_ok=True)
            document = told(machine(), [known[n] for n in ways if n in known])
            file.write_text(json.dumps(document, indent=1) + "\n")
            (asked.out / "budgets.md").write_text(page(document))
    return 0


def measured(name: str, measure: Callable[[], list[Figure]], command: str) -> Part:
    """Measure one part; what cannot be measured here says why."""
    date, load, start = time.strftime("%Y-%m-%d %H:%M", time.gmtime()), os.getloadavg()[0], now()
    figures: list[Figure] = []
    missing = ""
    try:
        if name.partition("-")[0] in NEED_ROOT:
            require()
        figures = measure()
    except IdsError as error:
        missing = str(error)
    say(f"{name}: {missing or f'{len(figures)} figures'} after {now() - start:.0f} s")
    for figure in figures:
        kept = {None: "", True: "kept", False: "MISSED"}[figure.met]
        say(f"  {figure.what}: {figure.value:.4g} {figure.unit} {kept} {figure.anchor}")
    return Part(
        name, command, f"{date} UTC", commit(), now() - start, load, tuple(figures), missing
    )


def now() -> float:
    """Seconds that only grow."""
    return time.monotonic()


def commit() -> str:
    """Return the state of the code, `+` where it is not quite that."""
    asked = ["git", "describe", "--always", "--dirty=+"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
