"""A monitor's file: read strictly, and every contradiction is one line with its place."""

from pathlib import Path

import pytest

from ids_appliance.errors import ConfigError
from ids_appliance.monitor.read import example, examples, load

S3 = example("s3")


def message(tmp_path: Path, text: str) -> str:
    path = tmp_path / "monitor.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load(path)
    said = str(raised.value)
    assert said.startswith(f"{path}: ") and "\n" not in said
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", examples())
def test_the_examples_are_the_published_topology(name: str) -> None:
    found = load(name)
    assert found.bridge.name == "s1" and found.bridge.addresses == ("192.168.1.11/24",)
    assert found.bridge.protocols == ("OpenFlow13",)
    assert [
        (host.name, host.bridge_end, host.host_end, host.inside, host.addresses)
        for host in found.hosts
    ] == [
        ("Host1", "par_s1h1", "par_h1", "eth1", ("192.168.1.222/24",)),
        ("Host2", "par_s1h2", "par_h2", "eth1", ("192.168.1.223/24",)),
        ("Monitor", "par_s1M", "par_M", "eth1", ("192.168.1.221/24",)),
    ]
    (mirror,) = found.mirrors
    assert mirror.name == "espejo" and mirror.output == "Monitor"
    assert mirror.source == mirror.destination == ("Host1", "Host2")


def test_the_published_one_has_uplink_controller_and_containers() -> None:
    found = load("s3-containers")
    assert found.controller.connect == "tcp:192.168.56.11:6653"
    assert found.uplink.interface == "enp0s9"
    assert [host.container for host in found.hosts] == ["Host1", "Host2", "Monitor"]


CASES = {
    'bridge_end = "par_s1h1"': (
        ('bridg_end = "par_s1h1"', "[hosts[0]] has no setting 'bridg_end': did you mean 'bridge_"),
        ('bridge_end = "par_switch1host1"', "'par_switch1host1' is not the name of an interface"),
        ("bridge_end = 1", "hosts[0].bridge_end = 1: expected a text"),
        ("", "hosts[0].bridge_end is missing: a text"),
        ('bridge_end = "par_s1h2"', "interface 'par_s1h2' is there twice"),
        ('bridge_end = "s1"', "interface 's1' is there twice"),
        ('bridge_end = "par_s1h1"\nvlan = 4095', "hosts[0].vlan = 4095: expected a whole number"),
        ('bridge_end = "par_s1h1"\ncontainer = "x"', "either namespace or container, and not both"),
        ('bridge_end = "par_s1h1"\nmac = "01:00:5e:00:00:01"', "is the MAC of a group"),
    ),
    'addresses = ["192.168.1.222/24"]': (
        ('addresses = ["192.168.1.223/24"]', "192.168.1.223 is the address of Host1 already"),
        ('addresses = ["192.168.1.222"]', "has no length: write 192.168.1.222/24"),
        ('addresses = ["192.168.1.255/24"]', "the network's own or its broadcast address"),
        ('addresses = ["192.168.1.322/24"]', "is not an address with its length"),
    ),
    'source = ["Host1", "Host2"]': (
        ('source = ["Host3"]', "'Host3' is neither a host nor a port of the bridge"),
        ('source = ["Monitor"]', "'Monitor' would mirror to itself"),
        ("all = true", "all = true has every port already"),
    ),
    'output = "Monitor"': (
        ('output = "s1"', "carries the machine's own traffic"),
    ),
    'name = "s1"': (
        ('name = "s1"\nfail_mode = "secured"', 'did you mean "secure"'),
        ('name = "s1"\nfail_mode = "secure"', "without a controller forwards nothing at all"),
        ('name = "s1"\ndatapath = "kernel"', 'expected one of "auto", "netdev", "system"'),
    ),
    "[bridge]": (
        ('[controller]\nconnect = "onos:6653"\n[bridge]', "expected embedded, tcp:HOST:PORT or"),
        ('[controller]\nconnect = "tcp:onos:6653"\n[bridge]', "tcp:ADDRESS:PORT"),
        ("[brigde]\n[bridge]", "there is no setting 'brigde': did you mean 'bridge'"),
        ('run_dir = "here"\n[bridge]', "write the whole path"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [(old, new, expected) for old, cases in CASES.items() for new, expected in cases],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in S3
    assert expected in message(tmp_path, S3.replace(old, new, 1))


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="there is no example 's4': there are s3"):
        example("s4")
