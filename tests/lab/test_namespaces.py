"""Namespaces leave nothing behind: not after use, a failure, a signal or a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ids_appliance.lab import namespaces
from ids_appliance.lab.namespaces import Network, present, require, sweep
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net

CHILD = """
import signal, sys
from ids_appliance.lab.namespaces import Network, orderly
import subprocess
with orderly(), Network("c-", "left") as net:
    net.setting("left", "resolv.conf", "nameserver 192.0.2.1\\n")
    tool = subprocess.Popen(net.command("left", "sleep", "600"), start_new_session=True)
    print(net.full("left"), tool.pid, flush=True)
    signal.pause()
"""


@pytest.fixture
def child(privileged: None):
    """A process that holds a namespace with a tool in it: (process, name, tool's pid)."""
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    name, tool = process.stdout.readline().split()
    inside = Path("/var/run/netns", name)
    wait_for(lambda: inside.stat().st_ino == os.stat(f"/proc/{tool}/ns/net").st_ino)
    yield process, name, int(tool)
    process.kill()
    process.wait()
    process.stdout.close()
    sweep()


def gone(pid: int) -> bool:
    """A killed process whose parent is gone is reaped by init, in its own time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_gone_after_use_and_after_a_failure(privileged: None) -> None:
    with pytest.raises(RuntimeError), Network("f", "one", "two") as net:
        names = {net.full("one"), net.full("two")}
        assert names <= present()
        raise RuntimeError
    assert not names & present()


def test_the_living_are_left_alone(child) -> None:
    process, name, tool = child
    assert name not in sweep()
    assert name in present() and not gone(tool)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_gone_after_a_signal(child, number: int) -> None:
    process, name, tool = child
    process.send_signal(number)
    process.wait(60)
    assert name not in present()
    wait_for(lambda: gone(tool))


def test_gone_after_a_crash(child) -> None:
    process, name, tool = child
    process.kill()
    process.wait()
    assert name in present() and not gone(tool), "nobody was there to remove it"
    assert name in sweep()
    assert name not in present()
    assert not Path("/etc/netns", name).exists()
    wait_for(lambda: gone(tool))


def test_a_process_with_a_dead_ones_id_owns_nothing(privileged: None) -> None:
    """The id alone does not tell: it may have been given to another process since."""
    pid = os.getpid()
    name = f"{namespaces.PREFIX}{pid}.1-x-left"
    namespaces.run("ip", "netns", "add", name)
    assert name in sweep() and name not in present()


def test_what_is_missing_is_named(privileged: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(namespaces.ToolMissing, match=r"hping9.*apt-get install hping9"):
        require("hping9")
    monkeypatch.setattr(namespaces.shutil, "which", lambda tool: None)
    with pytest.raises(namespaces.ToolMissing, match=r"arpspoof.*dsniff"):
        require("arpspoof")
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    with pytest.raises(namespaces.LabError, match="need root"):
        require()
