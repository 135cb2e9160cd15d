"""A private Open vSwitch: database and switch of their own in a directory, gone afterwards.

with private_switch(tmp_path, namespace=net.full("sw")) as switch:
    switch.vsctl("add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev")

Only the userspace datapath is used, so that no kernel module is needed. In a namespace of its own
even the names of bridges cannot meet anybody else's.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.net import namespaces

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
START_S = 30


@dataclass(frozen=True)
class PrivateSwitch:
    """A running pair of daemons, and how they are asked."""

    directory: Path
    namespace: str | None
    within: tuple[str, ...] = ()
    """Words in front of every command instead, such as those of nsenter(1)."""

    @property
    def environment(self) -> dict[str, str]:
        """What makes the tools of Open vSwitch talk to this one, also in commands under test."""
        place = str(self.directory)
        return {
            **os.environ,
            "OVS_RUNDIR": place,
            "OVS_DBDIR": place,
            "OVS_LOGDIR": place,
            "OVS_SYSCONFDIR": place,
        }

    @property
    def database(self) -> str:
        """Where the database listens, as `--db` takes it."""
        return f"unix:{self.directory}/db.sock"

    def words(self, *words: str) -> list[str]:
        """Return the words that run a command where the switch lives."""
        inside = ("ip", "netns", "exec", self.namespace) if self.namespace else self.within
        return [*inside, *words]

    def run(self, *words: str) -> str:
        """Run a command that has to succeed where the switch lives; return what it printed."""
        done = subprocess.run(
            self.words(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr or done.stdout}"
        return done.stdout

    def vsctl(self, *words: str) -> str:
        """Configure."""
        return self.run("ovs-vsctl", "--timeout=30", *words)

    def ofctl(self, *words: str) -> str:
        """Speak OpenFlow 1.3 to a bridge."""
        return self.run("ovs-ofctl", "-O", "OpenFlow13", *words)


def require() -> None:
    """Skip where there is no Open vSwitch, or no root."""
    namespaces.require()
    found = [shutil.which(tool) for tool in ("ovs-vswitchd", "ovsdb-server", "ovs-vsctl")]
    if None in found or not SCHEMA.exists():
        pytest.skip("Open vSwitch is not installed: apt-get install openvswitch-switch")


@contextmanager
def private_switch(
    directory: Path, *, namespace: str | None = None, within: tuple[str, ...] = ()
) -> Iterator[PrivateSwitch]:
    """Start ovsdb-server and ovs-vswitchd with everything of theirs in `directory`."""
    require()
    directory.mkdir(parents=True, exist_ok=True)
    # A socket's path has 107 characters at most; pytest's directories can be longer.
    assert len(str(directory / "db.sock")) < 100, "choose a shorter directory"
    switch = PrivateSwitch(directory, namespace, within)
    switch.run("ovsdb-tool", "create", str(directory / "conf.db"), str(SCHEMA))
    started: list[subprocess.Popen[bytes]] = []
    try:
        log = directory / "ovsdb-server.out"
        words = ["ovsdb-server", str(directory / "conf.db"), "--pidfile", "--no-chdir"]
        words += [f"--remote=p{switch.database}", "-vconsole:warn"]
        started.append(_start(switch, words, log))
        _await(directory / "db.sock", started[-1], log)
        switch.vsctl("--no-wait", "init")
        log = directory / "ovs-vswitchd.out"
        words = ["ovs-vswitchd", switch.database, "--pidfile", "--no-chdir", "-vconsole:warn"]
        started.append(_start(switch, words, log))
        _await(directory / "ovs-vswitchd.pid", started[-1], log)
        yield switch
    finally:
        try:
            if len(started) == 2 and started[1].poll() is None:
                for bridge in switch.vsctl("list-br").split():
                    switch.vsctl("del-br", bridge)  # its interfaces go with it
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _start(switch: PrivateSwitch, words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            switch.words(*words), env=switch.environment, stdout=out, stderr=out
        )


def _await(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.02)
