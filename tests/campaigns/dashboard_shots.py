"""The dashboard's pictures for docs/: `python -m tests.campaigns.dashboard_shots` (root, Chromium).

A lab with a gateway is attacked, every panel is opened in headless Chromium, a drill is run and a
sender released by clicking; each picture is a PNG of few colours.
"""

import argparse
import time
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import require
from tests.dashboard.browser import missing
from tests.dashboard.live import Live

OUT: Final = Path("docs/images")
MAX_BYTES: Final = 200_000
LOOK_S: Final = 20.0
"""Traffic shown before the first picture."""


def main() -> None:
    """Take all pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=OUT)
    out = options.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    try:
        require("hping3", "bridge", "nsenter")
    except LabError as error:
        raise SystemExit(str(error)) from error
    if why := missing():
        raise SystemExit(why)
    with Live() as live:
        _take(live, out)


def _take(live: Live, out: Path) -> None:
    browser = live.browser
    flood = live.flood(seconds=LOOK_S + 10)
    time.sleep(LOOK_S)
    browser.await_charts(2)
    _shot(live, out, "overview", 1360)
    browser.fill("Token", live.token())
    browser.panel("Drills")
    browser.button("Drill: syn burst")
    browser.see("contained after")
    _shot(live, out, "drills", 1000)
    flood.stop()
    for panel, text in (
        ("Blocked senders", "DRILL"),
        ("Windows", "Scrutiny windows"),
        ("Votes", "Votes by model"),
        ("Health", "Losses since the start"),
    ):
        browser.panel(panel)
        browser.see(text)
        _shot(live, out, panel.partition(" ")[0].lower(), 900)
    browser.panel("Blocked senders")
    browser.button("Release")
    browser.see("is free")
    _shot(live, out, "released", 700)


def _shot(live: Live, out: Path, name: str, height: int) -> None:
    live.browser.settle()
    path = out / f"dashboard-{name}.png"
    live.browser.shot(path, height=height)
    size = path.stat().st_size
    print(f"{path}  {size:,} bytes")
    assert size <= MAX_BYTES, path


if __name__ == "__main__":
    main()
