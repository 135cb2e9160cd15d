"""The uplink: its addresses and routes go to the bridge, and come back whatever happens.

enclosure                          namespace lan
enp0s9 10.77.0.5/24 ---- veth ---- eth0 10.77.0.1/24, fd77::1/64
"""

import json
from collections.abc import Iterator

import pytest

from ids_appliance.monitor.read import example
from tests.monitor.enclosure import Enclosure, enclosed
from tests.monitor.test_killed import KILLED, wrappers
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net
LINES = """
link add enp0s9 type veth peer name eth0 netns lan
addr add 10.77.0.5/24 broadcast + dev enp0s9
addr add 10.77.0.6/32 dev enp0s9
addr add fd77::5/64 dev enp0s9 nodad
link set enp0s9 up
route add default via 10.77.0.1 dev enp0s9 proto static metric 100
route add 198.51.100.0/24 via 10.77.0.1 dev enp0s9 src 10.77.0.6
route add 203.0.113.0/24 via 10.77.0.1 dev enp0s9 table 77
route add ::/0 via fd77::1 dev enp0s9 metric 512
"""
FAR = ("203.0.113.9", "fd99::9")


@pytest.fixture
def machine() -> Iterator[Enclosure]:
    with enclosed() as inside:
        inside.run("ip", "netns", "add", "lan")
        for line in LINES.strip().splitlines():
            inside.run("ip", *line.split())
        for line in (
            "addr add 10.77.0.1/24 dev eth0", "addr add fd77::1/64 dev eth0 nodad",
            f"addr add {FAR[0]}/32 dev lo", f"addr add {FAR[1]}/128 dev lo nodad",
            "link set eth0 up", "link set lo up",
        ):  # fmt: skip
            inside.run("ip", "-n", "lan", *line.split())
        off = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")
        inside.run("ip", "netns", "exec", "lan", "ethtool", "-K", "eth0", *off)
        yield inside


def file(inside: Enclosure, *, confirm_s: int) -> str:
    section = f'[uplink]\ninterface = "enp0s9"\nconfirm_s = {confirm_s}\n\n[[hosts]]'
    return str(inside.config(example("s3").replace("[[hosts]]", section, 1)))


def network(inside: Enclosure) -> list[str]:
    """Return this machine's addresses and routes, without what changes by itself."""
    found = []
    for row in json.loads(inside.run("ip", "-j", "addr", "show", "dev", "enp0s9")):
        for one in row["addr_info"]:
            if one["scope"] != "link":
                found.append(" ".join(str(one.get(k)) for k in ("local", "prefixlen", "broadcast")))
    for family in ("-4", "-6"):
        words = ("ip", "-j", family, "route", "show", "table", "all")
        for row in json.loads(inside.run(*words)):
            if not str(row["dst"]).startswith(("fe80:", "ff00:")):
                found.append(" ".join(f"{k}={v}" for k, v in sorted(row.items()) if k != "flags"))
    return sorted(found)


def without_the_bridge(lines: list[str]) -> list[str]:
    """Return it without what belongs to the bridge's own address."""
    return [line for line in lines if "dev=s1" not in line and "192.168.1" not in line]


def is_back(inside: Enclosure, before: list[str]) -> bool:
    return without_the_bridge(network(inside)) == before


def reaches_out(inside: Enclosure) -> bool:
    return all(
        inside.done("ping", "-c", "3", "-i", "0.1", "-W", "20", target).returncode == 0
        for target in FAR
    )


def test_moves_stays_when_confirmed_and_comes_back(machine: Enclosure) -> None:
    before, left = network(machine), machine.left()
    mac = machine.run("cat", "/sys/class/net/enp0s9/address")
    assert reaches_out(machine)
    config = file(machine, confirm_s=600)
    done = machine.monitor("up", "--config", config)
    assert done.returncode == 0, done.stderr
    assert "3 addresses and 4 routes move to s1" in done.stdout
    assert f"monitor confirm --config {config}" in done.stderr
    assert reaches_out(machine)
    moved = [line.replace("dev=s1", "dev=enp0s9") for line in network(machine)]
    assert {line for line in before if "via" in line or "gateway" in line} <= set(moved)
    assert machine.run("ip", "-brief", "addr", "show", "dev", "enp0s9").split()[2:] == []
    assert machine.run("cat", "/sys/class/net/s1/address") == mac, "neighbours notice nothing"
    shown = json.loads(machine.monitor("status", "--config", config, "--json").stdout)
    assert shown["uplink"] == {
        "interface": "enp0s9", "moved": True, "confirmed": False, "guarded": True
    }  # fmt: skip
    assert machine.up(config) == "nothing to change: it is up\n"
    assert machine.monitor("confirm", "--config", config).returncode == 0
    shown = json.loads(machine.monitor("status", "--config", config, "--json").stdout)
    assert shown["uplink"]["confirmed"]
    machine.down(config)
    assert network(machine) == before
    assert reaches_out(machine)
    wait_for(lambda: machine.left() == left)


def test_comes_back_by_itself_unless_confirmed(machine: Enclosure) -> None:
    before = network(machine)
    config = file(machine, confirm_s=1)
    done = machine.monitor("up", "--config", config)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: is_back(machine, before))
    assert reaches_out(machine)
    refused = machine.monitor("confirm", "--config", config)
    assert refused.returncode == 2 and "no moved uplink" in refused.stderr
    machine.down(config)
    assert network(machine) == before


def operations(inside: Enclosure, config: str) -> list[str]:
    """Return the operations of a whole `up`, in their order."""
    place = inside.directory / "wrappers"
    done = inside.monitor("up", "--config", config, "--yes", path=wrappers(place, 10_000))
    assert done.returncode == 0, done.stderr
    inside.down(config)
    return (place / "log").read_text().splitlines()


@pytest.mark.nightly
def test_killed_in_mid_move_it_comes_back_by_itself(machine: Enclosure) -> None:
    """With nobody there to type anything: the watchdog alone."""
    before = network(machine)
    config = file(machine, confirm_s=2)
    at = 1 + next(
        number
        for number, line in enumerate(operations(machine, config))
        if line.startswith("addr replace 10.77.0.6")
    )
    place = machine.directory / "wrappers"
    done = machine.monitor("up", "--config", config, path=wrappers(place, at))
    assert done.returncode == KILLED, done.stderr
    assert "10.77.0.6" in machine.run("ip", "addr", "show", "s1")
    wait_for(lambda: is_back(machine, before))
    assert reaches_out(machine)
    machine.down(config)
    assert network(machine) == before


@pytest.mark.nightly
def test_killed_at_every_operation(machine: Enclosure) -> None:
    before, left = network(machine), machine.left()
    config = file(machine, confirm_s=600)
    whole = len(operations(machine, config))
    place = machine.directory / "wrappers"
    for at in range(1, whole + 1):
        for then in ("down", "up"):
            done = machine.monitor("up", "--config", config, path=wrappers(place, at))
            assert done.returncode in {0, KILLED}, done.stderr
            if then == "up":
                machine.up(config)
                assert reaches_out(machine), f"up after operation {at}"
            machine.down(config)
            assert network(machine) == before, f"{then} after operation {at}"
        wait_for(lambda: machine.left() == left)


@pytest.mark.nightly
def test_a_dismissed_uplink_gets_its_own_back(machine: Enclosure) -> None:
    before = network(machine)
    machine.up(file(machine, confirm_s=600), "--yes")
    assert "- uplink enp0s9" in machine.up("s3")
    assert is_back(machine, before)
    machine.down("s3")


@pytest.mark.nightly
def test_a_step_that_fails_after_the_move_gives_it_back(machine: Enclosure) -> None:
    """Also where nobody was to be asked for confirmation."""
    before = network(machine)
    place = machine.directory / "failing"
    place.mkdir()
    tool = place / "ovs-vsctl"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *"create Mirror"*) echo "ovs-vsctl: no mirrors today" >&2; '
        'exit 1;; esac\nexec /usr/bin/ovs-vsctl "$@"\n'
    )
    tool.chmod(0o755)
    config = file(machine, confirm_s=600)
    done = machine.monitor("up", "--config", config, "--yes", path=str(place))
    assert done.returncode == 2 and "no mirrors today" in done.stderr
    assert is_back(machine, before)
    machine.up(config, "--yes")
    assert reaches_out(machine)
    machine.down(config)
    assert network(machine) == before
