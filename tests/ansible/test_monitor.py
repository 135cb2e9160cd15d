"""The role `monitor` on a booted system, from nothing to nothing: the tests follow one another.

Open vSwitch is Debian's; in the machine's kernel its datapath is not needed.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ids_appliance.errors import LabError
from ids_appliance.lab import namespaces
from ids_appliance.lab.namespaces import Network
from tests.ansible.bed import CONTROLLER, Bed, Run, inventory, let_in, prepare_wheels
from tests.ansible.machine import Machine, machines
from tests.ansible.snapshot import difference, snapshot
from tests.ansible.trees import ROOT, tree

TOOLS = ("systemd-nspawn", "debootstrap", "nsenter", "ssh", "ssh-keygen")
HOST = "mon1"
ADDRESS = "10.90.0.1"
TUN = "/dev/net/tun"
"""Open vSwitch makes a bridge's own interface with it where the kernel has no datapath."""
CAPTURES = "/var/lib/ids-appliance/captures"
VARIABLES: dict[str, Any] = {
    "monitor_example": "s3",
    "monitor_capture_directory": CAPTURES,
    "monitor_capture_mib": 0.01,
}
ACCOUNT_FILES = r".file /etc/(passwd|group|shadow|gshadow) "
PACKAGES_USERS = {"uuidd"}
"""Of uuid-runtime, which Open vSwitch wants: its purge leaves the user, as most of Debian's do."""
TEMPLATES = ROOT / "ansible/roles/monitor/templates/etc/systemd/system"
OWN_MOUNTS = (
    r"Private(Tmp|Devices|Mounts|Users)|Protect(System|Home|Kernel\w+|ControlGroups|Proc|Hostname)"
    r"|(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|Bind\w*Paths|TemporaryFileSystem"
    r"|Mount\w+|Root\w+|DynamicUser|ProcSubset"
)
"""Settings that give a unit a mount namespace of its own (systemd.exec(5))."""


def test_the_switch_is_made_where_everybody_sees_it() -> None:
    text = (TEMPLATES / "ids-appliance-monitor.service.j2").read_text("utf-8")
    assert re.findall(rf"(?m)^(?:{OWN_MOUNTS})=.*", text) == []


@contextlib.contextmanager
def bed(place: Path) -> Iterator[Bed]:
    """Boot one host and cable it to a controller; take both away again."""
    prepare_wheels(extras="monitor")
    with Network("d", "ctl", HOST) as network:
        network.veth(("ctl", "mgmt0"), (HOST, "mgmt0"))
        network.ip("ctl", f"addr add {CONTROLLER}/24 dev mgmt0")
        network.ip(HOST, f"addr add {ADDRESS}/24 dev mgmt0")
        full = network.full(HOST)
        one = Machine(HOST, tree("bookworm"), namespace=full, scratch=place, device=TUN)
        with machines(one) as hosts:
            made = Bed(network, hosts, place)
            let_in(made)
            known = inventory(place)
            groups: dict[str, Any] = {name: {"hosts": {}} for name in known["all"]["children"]}
            groups["monitors"]["hosts"] = {HOST: {"ansible_host": ADDRESS}}
            known["all"]["children"] = groups
            made.inventory.parent.mkdir()
            made.inventory.write_text(yaml.safe_dump(known), encoding="utf-8")
            made.password.write_text("only for the test bed\n")
            yield made


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    try:
        namespaces.require()
    except LabError as error:
        pytest.skip(str(error))
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(
            f"not installed: {', '.join(missing)} (packages systemd-container, debootstrap)"
        )
    if not Path(TUN).exists():
        pytest.skip(f"{TUN} is not there: modprobe tun")
    with bed(tmp_path_factory.mktemp("bed")) as made:
        yield made


@pytest.fixture(scope="module")
def before(deployed: Bed) -> list[str]:
    """What the host was before the first run."""
    return snapshot(deployed.hosts[HOST])


def assert_good(run: Run, changed: int | None = None) -> None:
    assert run.good(), run.text[-6000:]
    told = [line for line in run.text.splitlines() if "changed:" in line]
    assert changed is None or run.total("changed") == changed, told


@pytest.fixture(scope="module")
def users(deployed: Bed) -> list[str]:
    """Who the host knew before the first run."""
    return accounts(deployed)


def accounts(deployed: Bed) -> list[str]:
    return re.findall(r"(?m)^[^:]+", deployed.hosts[HOST].say("getent", "passwd"))


def failed_units(deployed: Bed) -> str:
    return deployed.hosts[HOST].run("systemctl", "--failed", "--no-legend").stdout


@pytest.mark.nightly
@pytest.mark.net
def test_check_mode_changes_nothing_on_a_fresh_host(deployed: Bed, before: list[str]) -> None:
    run = deployed.site("--check", "--diff", **VARIABLES)
    assert_good(run)
    assert run.total("changed") > 5
    assert difference(before, snapshot(deployed.hosts[HOST])) == []


@pytest.mark.nightly
@pytest.mark.net
def test_it_converges(deployed: Bed, before: list[str], users: list[str]) -> None:
    assert before and "ids-appliance" not in users
    assert_good(deployed.site(**VARIABLES))
    found = status(deployed)
    assert found["up"] and found["missing"] == []
    assert {host["name"] for host in found["hosts"] if host["joined"]} == {
        *("Host1", "Host2", "Monitor")
    }
    assert [mirror["name"] for mirror in found["mirrors"]] == ["espejo"]
    assert failed_units(deployed) == ""


def status(deployed: Bed) -> Any:
    """Return what the program says of the switch."""
    words = ("/usr/local/bin/ids-appliance", "monitor", "status", "--json")
    return yaml.safe_load(deployed.hosts[HOST].say(*words))


@pytest.mark.nightly
@pytest.mark.net
def test_the_capture_has_what_the_hosts_say(deployed: Bed) -> None:
    host = deployed.hosts[HOST]
    ping = ("ping", "-n", "-c", "40", "-i", "0.05", "-s", "1000", "192.168.1.223")
    end = time.monotonic() + 120
    while not (files := host.run("sh", "-c", f"ls {CAPTURES}/*.pcap").stdout.split()):
        assert time.monotonic() < end, host.run("ls", "-l", CAPTURES).stdout
        host.say("ip", "netns", "exec", "Host1", *ping)
    said = host.say("tcpdump", "-n", "-r", files[0], "icmp")
    assert "192.168.1.222 > 192.168.1.223: ICMP echo request" in said
    assert "192.168.1.223 > 192.168.1.222: ICMP echo reply" in said


@pytest.mark.nightly
@pytest.mark.net
def test_a_second_run_changes_nothing(deployed: Bed) -> None:
    assert_good(deployed.site(**VARIABLES), changed=0)
    assert_good(deployed.site("--check", "--diff", **VARIABLES), changed=0)


@pytest.mark.nightly
@pytest.mark.net
def test_the_unit_makes_what_it_takes_away(deployed: Bed) -> None:
    host = deployed.hosts[HOST]
    host.say("systemctl", "stop", "ids-appliance-monitor.service")
    assert host.say("ip", "netns", "list") == "" and host.say("ovs-vsctl", "list-br") == ""
    host.say("systemctl", "start", "ids-appliance-monitor.service")
    assert status(deployed)["missing"] == []
    host.say("ip", "netns", "exec", "Host1", "ping", "-n", "-c", "2", "192.168.1.223")


@pytest.mark.nightly
@pytest.mark.net
def test_a_unit_that_is_no_longer_wanted_goes(deployed: Bed) -> None:
    assert_good(deployed.site(**VARIABLES, monitor_controller=False))
    listed = deployed.hosts[HOST].say("systemctl", "list-unit-files", "--no-legend", "ids-*")
    assert "controller" not in listed and "capture" in listed
    assert status(deployed)["missing"] == []


@pytest.mark.nightly
@pytest.mark.net
def test_absent_leaves_what_was_there_before(
    deployed: Bed, before: list[str], users: list[str]
) -> None:
    assert_good(deployed.site(**VARIABLES, ids_state="absent"))
    host = deployed.hosts[HOST]
    assert host.say("ip", "netns", "list") == ""
    assert re.findall(r"par_|\bs1\b", host.say("ip", "-brief", "link")) == []
    assert failed_units(deployed) == ""
    lines = difference(before, snapshot(host))
    left = [line for line in lines if not re.match(ACCOUNT_FILES, line)]
    assert set(accounts(deployed)) - set(users) <= PACKAGES_USERS
    assert not left, "\n".join(left[:60])
