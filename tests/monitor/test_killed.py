"""Killed in the middle: the next `up` goes on, the next `down` leaves nothing."""

import re
import stat
from pathlib import Path

import pytest

from tests.monitor.enclosure import Enclosure, ping

pytestmark = pytest.mark.net

# Stands before the real tool on the path and counts operations: every call is one, in a batch of
# ip(8) every line. At the one that is asked for the caller is killed, the operation still done,
# as if machine and luck had ended there.
WRAPPER = """#!/bin/sh
count=$(cat {place}/count)
case "$*" in
*-batch*)
    cat > {place}/batch
    cat {place}/batch >> {place}/log
    lines=$(wc -l < {place}/batch)
    if [ $count -lt {at} ] && [ {at} -le $((count + lines)) ]; then
        head -n $(({at} - count)) {place}/batch | {real} "$@"
        echo {at} > {place}/count
        kill -9 $PPID
        exit 0
    fi
    echo $((count + lines)) > {place}/count
    exec {real} "$@" < {place}/batch
    ;;
esac
echo "$*" >> {place}/log
count=$((count + 1))
echo $count > {place}/count
if [ $count -eq {at} ]; then
    {real} "$@"
    kill -9 $PPID
    exit 0
fi
exec {real} "$@"
"""
TOOLS = {"ip": "/usr/bin/ip", "ovs-vsctl": "/usr/bin/ovs-vsctl"}
KILLED = -9


def wrappers(place: Path, at: int) -> str:
    """Return a directory for the front of PATH that kills at one operation."""
    place.mkdir(exist_ok=True)
    (place / "count").write_text("0")
    (place / "log").write_text("")
    for tool, real in TOOLS.items():
        path = place / tool
        path.write_text(WRAPPER.format(place=place, at=at, real=real))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(place)


def kill_up(inside: Enclosure, at: int, config: str = "s3") -> bool:
    """Run `up` and kill it at an operation; return whether it came to that."""
    place = inside.directory / "wrappers"
    done = inside.monitor("up", "--config", config, path=wrappers(place, at))
    if done.returncode == 0:
        assert int((place / "count").read_text()) < at
        return False
    assert done.returncode == KILLED, done.stderr
    return True


def stop_at(inside: Enclosure, at: int) -> bool:
    """Kill two ups at an operation: after one `down` has to leave nothing, after the other `up`
    has to come to the same end as if nothing had been."""
    before = inside.left()
    if not kill_up(inside, at):
        inside.down("s3")
        return False
    inside.down("s3")
    assert inside.left() == before, f"down after operation {at}"
    assert kill_up(inside, at)
    inside.up("s3")
    assert ping(inside, "Host1", "192.168.1.223"), f"up after operation {at}"
    assert inside.up("s3") == "nothing to change: it is up\n"
    inside.down("s3")
    assert inside.left() == before, f"up and down after operation {at}"
    return True


@pytest.mark.nightly
def test_killed_between_namespace_and_mark(inside: Enclosure) -> None:
    """The write-ahead record alone says that a namespace is ours."""
    place = inside.directory / "wrappers"
    for at in range(1, 20):
        if not kill_up(inside, at):
            break
        there = inside.run("ip", "netns", "list").split()
        if there:
            assert "alias" not in inside.run("ip", "-n", "Host1", "link", "show", "lo")
            assert re.search(
                r'"made": true', inside.run("cat", "/run/ids-appliance-monitor/s3.json")
            )
            break
    else:
        raise AssertionError(f"no namespace was ever made: {place}")
    before_hosts = inside.run("ip", "netns", "list")
    assert before_hosts.strip() == "Host1"
    inside.down("s3")
    assert inside.run("ip", "netns", "list") == ""


def test_killed_in_the_middle(inside: Enclosure) -> None:
    before = inside.left()
    assert kill_up(inside, 21)
    inside.up("s3")
    assert ping(inside, "Host1", "192.168.1.223")
    inside.down("s3")
    assert inside.left() == before


@pytest.mark.nightly
def test_killed_at_every_operation(inside: Enclosure) -> None:
    at = 1
    while stop_at(inside, at):
        at += 1
    assert at > 30, "fewer operations than there are"


@pytest.mark.nightly
def test_down_killed_at_every_operation(inside: Enclosure) -> None:
    before = inside.left()
    place = inside.directory / "wrappers"
    for at in range(1, 100):
        inside.up("s3")
        done = inside.monitor("down", "--config", "s3", path=wrappers(place, at))
        if done.returncode == 0:
            assert at > 8
            break
        assert done.returncode == KILLED, done.stderr
        inside.down("s3")
        assert inside.left() == before, f"down after down, killed at operation {at}"


@pytest.mark.nightly
def test_a_lost_record_is_no_lost_monitor(inside: Enclosure) -> None:
    """What carries our mark is found without it."""
    before = inside.left()
    inside.up("s3")
    inside.run("rm", "-r", "/run/ids-appliance-monitor")
    inside.down("s3")
    assert inside.left() == before


@pytest.mark.nightly
def test_down_without_a_switch_takes_all_else_away(inside: Enclosure) -> None:
    inside.up("s3")
    socket = inside.switch.directory / "db.sock"
    away = socket.rename(socket.with_name("away"))
    done = inside.monitor("down", "--config", "s3")
    assert done.returncode == 2 and "Open vSwitch is not running" in done.stderr
    assert inside.run("ip", "netns", "list") == ""
    away.rename(socket)
    assert "- bridge s1" in inside.down("s3")
    assert inside.switch.vsctl("list-br") == ""
