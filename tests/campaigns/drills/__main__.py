"""Runs the drills one after the other; prints what each has seen; writes it as JSON."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import orderly, require
from tests.campaigns.drills import deaths, endings, evasion, forgery, lockout, odds
from tests.campaigns.drills.report import Line, Report, table

Drill = Callable[[str, Report], None]
DRILLS: Final[dict[str, Drill]] = {
    "lock-out": lockout.play,
    **forgery.DRILLS,
    "busy-attacker": evasion.busy,
    "node-local": deaths.node("local"),
    "node-open": deaths.node("open"),
    "node-closed": deaths.node("closed"),
    "gateway": deaths.gateway,
    "endings": endings.play,
    "disk-full": odds.disk_full,
    "clock-jumps": odds.clock_jumps,
}
TOOLS: Final = ("hping3", "nmap", "arpspoof", "mosquitto", "mosquitto_pub", "mosquitto_sub", "ping")


def main() -> int:
    """Run the drills that were asked for."""
    parser = argparse.ArgumentParser(description="Drills of the whole gateway in the lab.")
    parser.add_argument("--layout", choices=["routed", "bridge"], default="routed")
    parser.add_argument("--only", action="append", choices=list(DRILLS), metavar="NAME")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    try:
        require(*TOOLS)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    lines: list[Line] = []
    with orderly():
        for name in asked.only or DRILLS:
            report = Report(name)
            begin = time.monotonic()
            DRILLS[name](asked.layout, report)
            lines += report.lines
            print(f"\n{name} ({asked.layout}, {time.monotonic() - begin:.0f} s)")
            print(table(report.lines), flush=True)
    harmed = [line for line in lines if line.mark == "HARM"]
    print(f"\n{len(lines)} things looked at, {len(harmed)} of them harm")
    if asked.out is not None:
        found = {"layout": asked.layout, "lines": [asdict(line) for line in lines]}
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if harmed else 0


if __name__ == "__main__":
    sys.exit(main())
