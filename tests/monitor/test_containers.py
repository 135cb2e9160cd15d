"""Containers as hosts, with a real Docker Engine: joined, joined again when they restart."""

import sys
from collections.abc import Iterator

import pytest

from ids_appliance.monitor.read import example
from tests.monitor import engine
from tests.monitor.enclosure import Dump, Enclosure, enclosed, mark_the_end, ping
from tests.net.namespaces import wait_for

pytestmark = [pytest.mark.net, pytest.mark.nightly]
NAMES = ("Host1", "Host2", "Monitor")
UP = ("monitor", "up", "--watch", "--config")
H2 = "192.168.1.223"
S3 = example("s3").replace("namespace =", "container =")


@pytest.fixture(scope="module")
def machine() -> Iterator[Enclosure]:
    engine.require()
    with enclosed() as inside, engine.engine(inside):
        yield inside


def test_containers_are_joined_and_joined_again(machine: Enclosure) -> None:
    config = machine.config(S3)
    refused = machine.monitor("up", "--config", str(config))
    assert refused.returncode == 2 and "there is no container 'Host1'" in refused.stderr
    engine.start(machine, *NAMES)
    before = machine.left()
    machine.run("docker", "stop", "--time", "0", "Host2")
    refused = machine.monitor("up", "--config", str(config))
    assert refused.returncode == 2 and "does not run: docker start Host2" in refused.stderr
    machine.run("docker", "start", "Host2")

    machine.up(config)
    assert machine.up(config) == "nothing to change: it is up\n"
    assert seen_once(machine)
    machine.run("docker", "restart", "--time", "0", "Host1")
    said = machine.up(config)
    assert "+ cable par_s1h1 - eth1 in Host1" in said and "Host2" not in said.split("mirror")[0]
    assert seen_once(machine)
    machine.run("docker", "restart", "--time", "0", "Monitor")
    machine.up(config)
    assert seen_once(machine), "the mirror has its output again"

    machine.down(config)
    after = machine.left()
    assert {key: after[key] for key in after if key != "files"} == {
        key: before[key] for key in before if key != "files"
    }
    assert "ids-appliance-monitor" not in after["files"]
    assert machine.run("docker", "ps", "--quiet").count("\n") == 3, "they run on"


def seen_once(machine: Enclosure) -> bool:
    """Return whether a ping is seen at the monitor, each frame once."""
    assert ping(machine, "Host1", H2)
    dump = Dump(machine, "Monitor", direction="in")
    assert ping(machine, "Host1", H2, count=2)
    mark_the_end(machine, "Host1", H2)
    frames = dump.frames()
    return sum(frames.values()) >= 4 and set(frames.values()) == {1}


def test_watching_joins_them_by_itself(machine: Enclosure) -> None:
    config = machine.config(S3)
    machine.run("docker", "stop", "--time", "0", "Host2")
    watching = machine.start(sys.executable, "-m", "ids_appliance", *UP, str(config))
    try:
        wait_for(lambda: "par_s1h1" in machine.switch.vsctl("show"))
        assert "par_s1h2" not in machine.switch.vsctl("show"), "it does not run yet"
        machine.run("docker", "start", "Host2")
        wait_for(lambda: there(machine, "Host2") and ping(machine, "Host1", H2))
        machine.run("docker", "restart", "--time", "0", "Host1")
        wait_for(lambda: there(machine, "Host1") and ping(machine, "Host1", H2))
        wait_for(lambda: machine.up(config) == "nothing to change: it is up\n")
        assert seen_once(machine)
    finally:
        watching.kill()
        watching.communicate()
    machine.down(config)


def there(machine: Enclosure, name: str) -> bool:
    return machine.done("ip", "-n", name, "link", "show", "eth1").returncode == 0
