"""The real gateway process in the lab: whom it never locks out, and what is left when it is killed.

The short form of tests/campaigns/drills.
"""

import signal
import time
from collections.abc import Iterator

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY
from ids_appliance.lab.measure import reach
from ids_appliance.lab.namespaces import require
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.traffic import flows, hping

pytestmark = pytest.mark.net

ADMIN, DEVICE, OTHER = "admin", "dev05", "dev02"
ATTACKER, VICTIM = "bot", "dev01"


@pytest.fixture
def layout() -> str:
    return "routed"


@pytest.fixture
def ground(layout: str) -> Iterator[Ground]:
    try:
        require("hping3", "ping")
    except LabError as error:
        pytest.skip(str(error))
    made = Ground(layout)
    made.services = False
    with made:
        yield made


def named(ground: Ground, host: str) -> str:
    return f"{ground.lab.mac(host).hex(':')}@{ground.lab.port(host)}"


def banned_behind_its_back(ground: Ground, *hosts: str) -> None:
    for host in hosts:
        key = f'"{ground.lab.port(host)}" . {ground.lab.mac(host).hex(":")} timeout 1h'
        ground.nft(f"add element netdev ids_ports lan_quarantine {{ {key} }}")


@pytest.mark.parametrize("layout", ["routed", "bridge"])
def test_who_is_protected_is_never_cut_off(ground: Ground) -> None:
    lab = ground.lab
    ground.settings["protect.administrators"] = [lab.address(ADMIN)]
    # What another hand puts in is gone at the next comparison; here it has to stay.
    ground.settings["enforce.reconcile_s"] = 600.0
    ground.start()
    lab.forget_neighbours()
    for host in (ADMIN, DEVICE):
        assert flows(lab, host, lab.next_hop(lab.segment(host)))
    mac = lab.mac(ADMIN).hex(":")
    assert ground.wait(lambda: mac in ground.ruleset(), limit_s=12)  # known to be the administrator

    own = lab.mac(GATEWAY, lab.interfaces[0]).hex(":")
    beyond = "isp" if not lab.layout.bridged else "router"
    orders = {
        "our own": (*lab.addresses(GATEWAY)[:2], f"{own}@{lab.port(DEVICE)}"),
        "default router": lab.addresses(beyond)[:1],
        "administrator": (lab.address(ADMIN), named(ground, ADMIN)),
    }
    for why, texts in orders.items():
        for text in texts:
            line = ground.quarantine(text)
            assert "never cut off" in line and why in line and "\n" not in line, (text, line)
    assert ground.decisions() == []

    banned_behind_its_back(ground, ADMIN, DEVICE)
    for family, address in zip((4, 6), lab.addresses(GATEWAY), strict=False):
        assert flows(lab, ADMIN, address, family=family), address
    assert not flows(lab, DEVICE, lab.address(ADMIN))  # the same, and protected by nothing


def test_a_gateway_killed_in_mid_attack_leaves_its_bans_and_takes_them_up(ground: Ground) -> None:
    lab = ground.lab
    ground.settings |= {"policy.durations_s": [9.0], "policy.probation_s": 0.0}
    ground.start()
    lab.forget_neighbours()
    watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
    mac = lab.mac(ATTACKER).hex(":")
    flood = hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", seconds=25.0)
    assert ground.await_event("response", limit_s=8, action="applied", response="quarantine")
    time.sleep(0.3)  # what was on its way has arrived
    killed = time.monotonic_ns()
    ground.kill(signal.SIGKILL)
    assert mac in ground.ruleset()

    ground.start()
    (held,) = ground.decisions()
    left_s = 9.0 - (time.monotonic_ns() - killed) / 1e9
    assert held.subject == mac and held.response == "quarantine"
    assert left_s - 2.0 < held.remaining_s < left_s + 0.5
    assert ground.wait(lambda: ground.status().found == 1, limit_s=4)
    code, lines = ground.start_another()
    assert code == 2 and len(lines) == 1 and "another gateway" in lines[0]
    assert ground.status().decisions == 1
    sent, arrived = watched.between(killed, time.monotonic_ns())
    assert sent > 500 and arrived == 0

    ground.kill(signal.SIGKILL)
    assert ground.wait(lambda: mac not in ground.ruleset(), limit_s=10)  # by the kernel alone
    now = time.monotonic_ns()
    assert ground.wait(lambda: watched.between(now, time.monotonic_ns())[1] > 0, limit_s=3)
    flood.stop()
    watched.stop()
