"""A gateway that Zeek prescreens, with a real Zeek behind the real mirror: attacked, and left."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.campaigns import zeek_live
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.traffic import hping
from tests.campaigns.zeek_live import Behind
from tests.net.namespaces import require

VICTIM = "dev01"
PATIENCE_S = 120.0

pytestmark = [pytest.mark.nightly, pytest.mark.net, pytest.mark.zeek]


@pytest.fixture(autouse=True)
def tools() -> None:
    require("hping3")
    if shutil.which("zeek") is None:
        pytest.skip("no zeek on the PATH: packages as in docs/zeek.md")


def test_what_the_mirror_holds_back_is_said() -> None:
    result = zeek_live.passage("zeek", pps=10_000, seconds=5.0, mirror_pps=200)
    assert zeek_live.wrong(result) == [] and result["limited"] > 0


def test_below_the_limit_zeeks_own_rule_speaks() -> None:
    result = zeek_live.passage("zeek", pps=1_000, seconds=5.0, mirror_pps=100_000)
    assert zeek_live.wrong(result) == [] and result["limited"] == 0
    assert "dos (Zeek)" in result["trigger_s"]


def test_our_own_rules_alone() -> None:
    result = zeek_live.passage("embedded", pps=10_000, seconds=5.0)
    assert zeek_live.wrong(result) == [] and "dos (own)" in result["trigger_s"]


@contextmanager
def prescreened(settings: str = "", *, silence_s: float = 5.0) -> Iterator[tuple[Ground, Behind]]:
    """A gateway in the lab that hears a Zeek, and acts."""
    ground = Ground("routed")
    ground.services = False
    with ground:
        where = ground.where / "zeek"
        with zeek_live.behind_the_mirror(ground.lab, where, 100_000, settings=settings) as zeek:
            ground.settings |= {"trigger.kind": "zeek", "zeek.log": str(zeek.log)}
            ground.settings |= {"zeek.mirror_pps": 100_000, "zeek.silence_s": silence_s}
            ground.start()
            ground.lab.forget_neighbours()
            assert ground.wait(lambda: count(ground, "zeek_alive"), limit_s=PATIENCE_S)
            yield ground, zeek


def count(ground: Ground, name: str) -> int:
    return ground.status().counters[name]


def named(ground: Ground, host: str) -> str:
    return f"{ground.lab.mac(host).hex(':')}@{ground.lab.port(host)}"


def contained(ground: Ground, attacker: str) -> dict[str, Any]:
    """Let somebody flood a device until the kernel has cut him off; return the first trigger."""
    before = len(ground.events())
    attack = hping(ground.lab, attacker, ground.lab.address(VICTIM), "-S", "-p", "80", seconds=240)
    wanted = {"action": "applied", "response": "quarantine"}
    there = ground.await_event("response", limit_s=PATIENCE_S, after=before, **wanted)
    attack.stop()
    assert there, [one["event_type"] for one in ground.events()[before:]]
    mac = ground.lab.mac(attacker).hex(":")
    assert ground.accused(before) == {named(ground, attacker): "quarantine"}
    assert mac in ground.ruleset()
    found = [one["trigger"] for one in ground.events("trigger") if one in ground.events()[before:]]
    return dict(found[0])


def states(ground: Ground) -> list[str]:
    """What the events say of Zeek, in order."""
    found = (event["health"] for event in ground.events("health"))
    return [one["state"] for one in found if one.get("component") == "zeek"]


def test_zeek_opens_the_window_and_the_attacker_is_contained() -> None:
    with prescreened() as (ground, zeek):
        first = contained(ground, "bot")
        assert first["rule"] == "dos" and first["detail"].startswith("Zeek:")
        assert ground.events("window") and zeek.alive() and states(ground) == ["up"]


def test_a_killed_zeek_is_stood_in_for_and_heard_again() -> None:
    with prescreened() as (ground, zeek):
        zeek.kill()
        assert ground.wait(lambda: states(ground) == ["up", "down"], limit_s=PATIENCE_S)
        first = contained(ground, "bot")
        assert first["rule"] == "dos" and not first["detail"].startswith("Zeek:")
        # It empties its log, which the gateway has open.
        zeek.start()
        assert ground.wait(lambda: states(ground) == ["up", "down", "up"], limit_s=PATIENCE_S)
        assert count(ground, "zeek_log_truncated") + count(ground, "zeek_log_opened") >= 2
        assert contained(ground, "hub")["detail"].startswith("Zeek:")


def test_zeek_killed_in_mid_attack_costs_nobody_the_containment() -> None:
    with prescreened() as (ground, zeek):
        attack = hping(ground.lab, "bot", ground.lab.address(VICTIM), "-S", "-p", "80", seconds=240)
        # Its mirror stands, its log is open, and it says nothing more.
        zeek.kill()
        wanted = {"action": "applied", "response": "quarantine"}
        assert ground.await_event("response", limit_s=PATIENCE_S, **wanted)
        attack.stop()
        assert ground.accused() == {named(ground, "bot"): "quarantine"}


def test_a_log_that_zeek_rotates_and_somebody_writes_into() -> None:
    often = "redef IdsAppliance::rotate_after = 4 secs;\n"
    with prescreened(often, silence_s=30.0) as (ground, zeek):
        opened = count(ground, "zeek_log_opened")
        assert ground.wait(
            lambda: count(ground, "zeek_log_opened") >= opened + 3, limit_s=PATIENCE_S
        )
        assert count(ground, "zeek_malformed") == 0 and states(ground) == ["up"]
        # Longer than Zeek's next line, which it writes where it believes the end to be.
        with zeek.log.open("ab") as file:
            file.write(b'{"ts":1e999,"kind":"alive"}\n\xff\xfe{{{{\n' * 20)
        assert ground.wait(lambda: count(ground, "zeek_malformed"), limit_s=PATIENCE_S)
        lines = count(ground, "zeek_lines")
        assert ground.wait(lambda: count(ground, "zeek_lines") > lines + 3, limit_s=PATIENCE_S)
        assert contained(ground, "bot")["detail"].startswith("Zeek:")
        assert states(ground) == ["up"]
