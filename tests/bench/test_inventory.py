"""Inventories: both forms give the same hosts, and what is wrong is one line that says where."""

import pytest

from ids_appliance.bench.inventory import Host, read
from ids_appliance.errors import LabError

TOML = """
[generator]
ssh = "root@gen"
address = "192.0.2.66"
interface = "eth1"
[gateway]
ssh = "gw"
address = "192.0.2.1"
[sink]
ssh = "sink"
address = "198.51.100.9"
interface = "eth0"
port = 2222
"""
YAML = """
all:
  children:
    generators:
      hosts:
        gen: {ansible_host: 192.0.2.66, ansible_user: root, bench_interface: eth1}
    gateways: {hosts: {gw: {ansible_host: 192.0.2.1}, gw2: {ansible_host: 192.0.2.2}}}
    sinks:
      hosts:
        sink: {ansible_host: 198.51.100.9, ansible_port: 2222, bench_interface: eth0}
"""


def written(tmp_path, text, name="hosts.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_toml(tmp_path):
    found = read(written(tmp_path, TOML))
    assert found.generator == Host("generator", "root@gen", "192.0.2.66", "eth1", 22)
    assert found.sink == Host("sink", "sink", "198.51.100.9", "eth0", 2222)
    assert found.node is None


def test_ansible(tmp_path):
    found = read(written(tmp_path, YAML, "hosts.yml"))
    assert found.generator == Host("generator", "root@192.0.2.66", "192.0.2.66", "eth1", 22)
    assert found.gateway.address == "192.0.2.1"
    assert found.sink.port == 2222 and found.sink.interface == "eth0"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("[sink]", "[sinks]", "is none of"),
        ('ssh = "gw"', 'ssh = "-oProxyCommand=touch x"', "no host that ssh"),
        ('ssh = "gw"', 'ssh = "gw; reboot"', "no host that ssh"),
        ('ssh = "gw"', 'shh = "gw"', "shh"),
        ("198.51.100.9", "sink.example", "no IPv4 address"),
        ("198.51.100.9", "239.1.1.1", "nobody's own"),
        ("198.51.100.9", "192.0.2.1", "sink is the gateway"),
        ('"eth1"', '"eth1; reboot"', "no interface"),
        ('interface = "eth1"', "", "no interface"),
        ("port = 2222", "port = 0", "port"),
        ("[generator]", "[generator", "inventory"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, before, after, says):
    with pytest.raises(LabError, match=says):
        read(written(tmp_path, TOML.replace(before, after)))


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "sinks: 3\n", "sinks: {hosts: {}}\n"])
def test_a_yaml_that_is_no_inventory(tmp_path, text):
    with pytest.raises(LabError, match="inventory"):
        read(written(tmp_path, text, "hosts.yml"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LabError, match="inventory"):
        read(tmp_path / "none.toml")
