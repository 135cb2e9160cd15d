"""The real gateway process in the lab: whom it never locks out, and what is left when it is killed.

The short form of tests/campaigns/drills.
"""

import json
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


def reaches(ground: Ground, host: str, address: str, *, family: int = 4) -> bool:
    """Say whether a host's pings are answered, however long that takes (at most 40 s)."""
    words = ["ping", f"-{family}", "-n", "-c", "3", "-i", "0.2", "-W", "30", address]
    return ground.lab.popen(host, words, limit_s=40).wait() == 0


def decided(ground: Ground) -> set[bytes]:
    """Return whom the decisions in the state file are about."""
    path = ground.where / "state" / "decisions.json"
    found = json.loads(path.read_bytes())["decisions"] if path.exists() else ()
    return {bytes.fromhex(one["subject"]["value"]) for one in found}


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
        assert reaches(ground, host, lab.next_hop(lab.segment(host)))
    mac = lab.mac(ADMIN).hex(":")
    # Known to be the administrator.
    assert ground.wait(lambda: mac in ground.ruleset(), limit_s=120)

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
        assert reaches(ground, ADMIN, address, family=family), address
    assert not flows(lab, DEVICE, lab.address(ADMIN))  # the same, and protected by nothing


def test_a_gateway_killed_in_mid_attack_leaves_its_bans_and_takes_them_up(ground: Ground) -> None:
    lab = ground.lab
    ground.settings |= {"policy.durations_s": [600.0], "policy.probation_s": 0.0}
    ground.start()
    lab.forget_neighbours()
    watched = reach(lab, [VICTIM], ATTACKER, clock=time.monotonic_ns)
    mac = lab.mac(ATTACKER).hex(":")
    begun = time.monotonic_ns()
    flood = hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", seconds=300.0)
    assert ground.await_event("response", limit_s=120, action="applied", response="quarantine")
    assert ground.wait(lambda: lab.mac(ATTACKER) in decided(ground), limit_s=60)
    # What was on its way has arrived, and a sample says so.
    cut = len(watched.samples)
    assert ground.wait(lambda: len(watched.samples) >= cut + 4, limit_s=60)
    killed = time.monotonic_ns()
    ground.kill(signal.SIGKILL)
    assert mac in ground.ruleset()

    ground.start()
    asked = time.monotonic_ns()
    (held,) = ground.decisions()
    # What is left of the 600 s that began after `begun` and before `killed`.
    at_least, at_most = (
        600.0 - (time.monotonic_ns() - begun) / 1e9,
        600.0 - (asked - killed) / 1e9,
    )
    assert held.subject == mac and held.response == "quarantine"
    assert at_least - 0.5 < held.remaining_s < at_most + 0.5
    assert ground.wait(lambda: ground.status().found == 1, limit_s=60)
    code, lines = ground.start_another()
    assert code == 2 and len(lines) == 1 and "another gateway" in lines[0]
    assert ground.status().decisions == 1
    # It goes on, unheard.
    assert ground.wait(lambda: watched.between(killed, time.monotonic_ns())[0] > 500, limit_s=60)
    assert watched.between(killed, time.monotonic_ns())[1] == 0
    flood.stop()
    watched.stop()


def test_what_a_killed_gateway_has_banned_ends_by_the_kernel_alone(ground: Ground) -> None:
    lab = ground.lab
    router = lab.next_hop(lab.segment(DEVICE))
    ground.start()
    assert reaches(ground, DEVICE, router)
    mac = lab.mac(DEVICE).hex(":")
    ordered = time.monotonic()
    assert ground.quarantine(named(ground, DEVICE), for_s=4.0) == ""
    assert mac in ground.ruleset() or time.monotonic() > ordered + 4.0
    ground.kill(signal.SIGKILL)
    assert ground.wait(lambda: mac not in ground.ruleset(), limit_s=60)
    assert time.monotonic() > ordered + 3.9
    assert reaches(ground, DEVICE, router)
