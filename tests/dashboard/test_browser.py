"""The dashboard in headless Chromium over a live gateway: every panel, a drill, a release."""

from collections.abc import Iterator

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import require
from tests.dashboard.browser import missing
from tests.dashboard.live import ATTACKER, NAMES, Live

pytestmark = [pytest.mark.net, pytest.mark.nightly]


@pytest.fixture
def live() -> Iterator[Live]:
    try:
        require("hping3", "bridge", "nsenter")
    except LabError as error:
        pytest.skip(str(error))
    if why := missing():
        pytest.skip(why)
    with Live() as made:
        yield made


def test_each_panel_is_filled_and_a_block_is_released(live: Live) -> None:
    ground, browser = live.ground, live.browser
    flood = live.flood()
    browser.see("tcp", "of contained senders", "Enforcing.")
    browser.await_charts(2)
    flood.stop()
    for panel, texts in {
        "Windows": ("Scrutiny windows",),
        "Queues and delays": ("Waiting in the gateway",),
        "Votes": ("Verdicts by window", "malicious"),
        "Health": ("Interfaces", "Losses since the start"),
        "Model": ("What to expect", ground.status().model),
        "Drills": ("2,000 SYNs to one port",),
        "Blocked senders": (
            ground.lab.mac(ATTACKER).hex(":"),
            NAMES[ATTACKER],
            "quarantine",
            "left",
        ),
    }.items():
        browser.panel(panel)
        browser.see(*texts)
        if panel in ("Windows", "Votes"):
            browser.await_charts(1)

    browser.button("Release")
    browser.see("orders need the token")
    assert len(ground.decisions()) == 1
    browser.fill("Token", live.token())
    browser.button("Release")
    browser.see("is free", "Nobody is blocked.")
    assert ground.decisions() == []
    order = [e["health"] for e in ground.events("health") if e["health"].get("action") == "release"]
    assert order[-1]["outcome"] == "done"


def test_a_drill_is_run_by_clicking(live: Live) -> None:
    ground, browser = live.ground, live.browser
    browser.fill("Token", live.token())
    browser.panel("Drills")
    browser.button("Drill: syn burst")
    browser.see("contained after", "frames sent")
    (decision,) = ground.decisions()
    assert decision.drill and decision.response == "quarantine"
    told = [event for event in ground.events("trigger", "decision", "response")]
    assert told and all(event[event["event_type"]]["drill"] for event in told)
    browser.panel("Blocked senders")
    browser.see("DRILL", decision.subject)
