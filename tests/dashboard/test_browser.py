"""The dashboard in headless Chromium over a live gateway: each panel filled, a block released."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import require
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.traffic import hping
from tests.dashboard.browser import Browser, Server, missing

pytestmark = [pytest.mark.net, pytest.mark.nightly]

ATTACKER, VICTIM = "bot", "dev01"


@pytest.fixture
def ground() -> Iterator[Ground]:
    try:
        require("hping3")
    except LabError as error:
        pytest.skip(str(error))
    if why := missing():
        pytest.skip(why)
    with Ground("bridge") as made:
        made.start()
        yield made


@pytest.fixture
def browser(ground: Ground, tmp_path: Path) -> Iterator[Browser]:
    config = ground.write_config("gateway", ground.where)
    with (
        Server("--config", str(config), log=tmp_path / "log") as server,
        Browser(server.address) as opened,
    ):
        yield opened


def test_each_panel_is_filled_and_a_block_is_released(ground: Ground, browser: Browser) -> None:
    lab = ground.lab
    flood = hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", seconds=300.0)
    assert ground.await_event("response", limit_s=120, action="applied", response="quarantine")
    browser.see("tcp", "of contained senders", "Enforcing.")
    browser.await_charts(2)
    flood.stop()
    for panel, texts in {
        "Windows": ("Scrutiny windows",),
        "Queues and delays": ("Waiting in the gateway",),
        "Votes": ("Verdicts by window", "malicious"),
        "Health": ("Interfaces", "Losses since the start"),
        "Model": ("What to expect", ground.status().model),
        "Blocked senders": (lab.mac(ATTACKER).hex(":"), "quarantine", "left"),
    }.items():
        browser.panel(panel)
        browser.see(*texts)
        if panel in ("Windows", "Votes"):
            browser.await_charts(1)

    browser.button("Release")
    browser.see("orders need the token")
    assert len(ground.decisions()) == 1
    browser.fill("Token", (ground.run_dir / "token").read_text())
    browser.button("Release")
    browser.see("is free", "Nobody is blocked.")
    assert ground.decisions() == []
    order = [e["health"] for e in ground.events("health") if e["health"].get("action") == "release"]
    assert [one["outcome"] for one in order][-1] == "done"
