"""What cannot be is one line and exit code 2, and nothing has been changed."""

import pytest

from ids_appliance.monitor.read import example
from tests.monitor.enclosure import Enclosure

pytestmark = pytest.mark.net
S3 = example("s3")
OVS = ("ovs-vsctl", "--timeout=10")
UPLINK = '[uplink]\ninterface = "enp0s9"\n\n[[hosts]]'


def refused(inside: Enclosure, text: str) -> str:
    """Return the one line that `up` refuses with, and see that nothing was changed."""
    before = inside.left()
    done = inside.monitor("up", "--config", str(inside.config(text)))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert inside.left() == before
    return done.stderr


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.nightly)])
def test_names_that_are_taken(inside: Enclosure, every: int) -> None:
    """Each case sets one thing in the way, and takes it away again."""
    netdev = ("set", "bridge", "br0", "datapath_type=netdev")
    uplink = S3.replace("[[hosts]]", UPLINK, 1)
    overlap = ("ip", "addr", "add", "192.168.1.77/25", "dev", "lo")
    cases = (
        ([(*OVS, "add-br", "br0", "--", *netdev, "--", "add-port", "br0", "par_s1h1")],
         [(*OVS, "del-br", "br0")], S3, "'par_s1h1' is a port of bridge 'br0'"),
        ([(*OVS, "add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev")],
         [(*OVS, "del-br", "s1")], S3, "there is a bridge 's1' already"),
        ([("ip", "link", "add", "par_s1h2", "type", "veth", "peer", "name", "foreign")],
         [("ip", "link", "del", "foreign")], S3, "interface 'par_s1h2' already"),
        ([("ip", "link", "add", "s1", "type", "veth", "peer", "name", "foreign")],
         [("ip", "link", "del", "foreign")], S3, "interface 's1' already"),
        ([("ip", "netns", "add", "Host1"),
          ("ip", "link", "add", "foreign", "type", "veth", "peer", "name", "eth1", "netns",
           "Host1")],
         [("ip", "netns", "del", "Host1")], S3, "has an interface 'eth1' already"),
        ([overlap], [("ip", "addr", "del", *overlap[3:])], S3, "192.168.1.77/25 of lo"),
        ([], [], uplink, "there is no interface 'enp0s9'"),
        ([("ip", "link", "add", "br1", "type", "bridge"),
          ("ip", "link", "add", "enp0s9", "master", "br1", "type", "veth")],
         [("ip", "link", "del", "enp0s9"), ("ip", "link", "del", "br1")],
         uplink, "belongs to 'br1'"),
        ([], [], S3.replace('namespace = "Host1"', 'container = "Host1"'), "container 'Host1'"),
    )  # fmt: skip
    for make, unmake, text, expected in cases[::every]:
        for words in make:
            inside.run(*words)
        assert expected in refused(inside, text)
        for words in unmake:
            inside.run(*words)


def test_no_switch(inside: Enclosure) -> None:
    directory = inside.switch.directory
    socket, process = directory / "db.sock", directory / "ovs-vswitchd.pid"
    for path in (process, socket):
        away = path.rename(path.with_name("away"))
        done = inside.monitor("up", "--config", "s3")
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "Open vSwitch is not running" in done.stderr
        assert inside.run("ls", "/run/netns") == ""
        shown = inside.monitor("status", "--config", "s3")
        assert shown.returncode == 2 and "systemctl start openvswitch-switch" in shown.stderr
        away.rename(path)


@pytest.mark.nightly
def test_what_was_there_is_left_alone(inside: Enclosure) -> None:
    """A namespace of somebody's is joined, and stays when the monitor goes."""
    inside.run("ip", "netns", "add", "Host2")
    inside.run(*OVS, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
    before = inside.left()
    inside.up("s3")
    inside.down("s3")
    assert inside.left() == before
    inside.run("ip", "netns", "del", "Host2")
