"""The dashboard's pictures for docs/: `python -m tests.campaigns.dashboard_shots` (root, Chromium).

A lab with a gateway is attacked, every panel is opened in headless Chromium, a drill is run and a
sender released by clicking; a second one, inline and with traffic classes, has the queues. Each
picture is a PNG of few colours. --only inline: the second alone.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import require
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.traffic import hping
from tests.dashboard.browser import Browser, Server, missing
from tests.dashboard.live import ATTACKER, VICTIM, Live

OUT: Final = Path("docs/images")
MAX_BYTES: Final = 200_000
LOOK_S: Final = 20.0
"""Traffic shown before the first picture."""


def main() -> None:
    """Take all pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--only", choices=("tapped", "inline"))
    given = options.parse_args()
    out = given.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        require("hping3", "bridge", "nsenter")
    except LabError as error:
        raise SystemExit(str(error)) from error
    if why := missing():
        raise SystemExit(why)
    if given.only != "inline":
        with Live() as live:
            _take(live, out)
    if given.only != "tapped":
        _inline(out)


def _inline(out: Path) -> None:
    """Take the panel of queues of a gateway that holds packets: a flood beside ordinary traffic."""
    settings: dict[str, Any] = {
        "inline.enabled": True,
        "tc.rates.wan0": "20 mbit",
        "tc.rates.iot0": "20 mbit",
    }
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="ids-dashboard-")))
        ground = stack.enter_context(Ground("routed", **settings))
        config = ground.write_config("gateway", ground.where)
        ground.start()
        server = stack.enter_context(Server("--config", str(config), log=scratch / "log"))
        browser = stack.enter_context(Browser(server.address))
        lab = ground.lab
        for host in ("dev02", "dev03", "phone"):
            words = ["ping", "-n", "-q", "-i", "0.01", "-w", "90", lab.address("server")]
            lab.popen(host, words, limit_s=100)
        stack.enter_context(
            hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", pps=300, seconds=90)
        )
        browser.panel("Queues and delays")
        browser.see("Inline queue", "Outgoing queues", "p99")
        time.sleep(LOOK_S)
        browser.await_charts(1)
        _shot(browser, out, "queues", 1500)


def _take(live: Live, out: Path) -> None:
    browser = live.browser
    flood = live.flood(seconds=LOOK_S + 10)
    time.sleep(LOOK_S)
    browser.await_charts(2)
    _shot(browser, out, "overview", 1360)
    browser.fill("Token", live.token())
    browser.panel("Drills")
    browser.button("Drill: syn burst")
    browser.see("contained after")
    _shot(browser, out, "drills", 1000)
    flood.stop()
    for panel, text in (
        ("Blocked senders", "DRILL"),
        ("Windows", "Scrutiny windows"),
        ("Votes", "Votes by model"),
        ("Health", "Losses since the start"),
    ):
        browser.panel(panel)
        browser.see(text)
        _shot(browser, out, panel.partition(" ")[0].lower(), 900)
    browser.panel("Blocked senders")
    browser.button("Release")
    browser.see("is free")
    _shot(browser, out, "released", 700)


def _shot(browser: Browser, out: Path, name: str, height: int) -> None:
    browser.settle()
    path = out / f"dashboard-{name}.png"
    browser.shot(path, height=height)
    size = path.stat().st_size
    print(f"{path}  {size:,} bytes")
    assert size <= MAX_BYTES, path


if __name__ == "__main__":
    main()
