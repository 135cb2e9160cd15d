"""A whole machine's network to itself: own namespaces, own /run, own Open vSwitch.

The published names (s1, Host1, enp0s9, ...) can be used to the letter in there: nobody else's
interfaces are near, `ip netns` keeps its names in a /run that nobody else sees, and everything is
gone with the process that holds it.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ids_appliance.monitor.read import load
from ids_appliance.monitor.settings import Monitor
from tests.conftest import ROOT
from tests.monitor.ovs import PrivateSwitch, private_switch, require
from tests.net.namespaces import wait_for

HOLD = """
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/groups &&
mount --rbind /sys/fs/cgroup /run/groups && mount -t sysfs sysfs /sys &&
mount --move /run/groups /sys/fs/cgroup && rmdir /run/groups &&
ip link set lo up && echo ready && exec cat
"""
TIMEOUT_S = 120


@dataclass(frozen=True)
class Enclosure:
    """Where commands under test run."""

    switch: PrivateSwitch
    directory: Path
    """Seen from inside and outside."""

    def done(self, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in there; `path` goes in front of PATH."""
        env = {**self.switch.environment, "NO_COLOR": "1"}
        env["PATH"] = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
        return subprocess.run(
            self.switch.words(*words),
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def run(self, *words: str) -> str:
        """Run a command in there that has to succeed; return what it printed."""
        done = self.done(*words)
        assert done.returncode == 0, f"{words}: {done.stderr or done.stdout}"
        return done.stdout

    def monitor(self, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """Run `ids-appliance monitor` in there."""
        return self.done(sys.executable, "-m", "ids_appliance", "monitor", *words, path=path)

    def up(self, config: Path | str = "s3", *words: str) -> str:
        """Bring a monitor up; return what it said."""
        done = self.monitor("up", "--config", str(config), *words)
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    def down(self, config: Path | str = "s3") -> str:
        """Take a monitor down; return what it said."""
        done = self.monitor("down", "--config", str(config))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def config(self, text: str) -> Path:
        """Return a file with that text."""
        path = self.directory / "monitor.toml"
        path.write_text(text, encoding="utf-8")
        assert isinstance(load(path), Monitor)
        return path

    def left(self) -> dict[str, str]:
        """Return all that a monitor could have left in here; not whether a link is up, which the
        kernel tells with a delay, nor link-local addresses, which it makes anew."""
        return {
            "links": self.links(),
            "namespaces": self.run("ls", "/run/netns"),
            "database": self.switch.vsctl("show").replace("\n", " "),
            "files": self.run("find", "/run", "-path", "/run/netns", "-prune", "-o", "-print"),
            "addresses": self.run("ip", "-oneline", "addr", "show", "scope", "global"),
        }

    def links(self) -> str:
        """Return the network interfaces in here, each with what makes it the same one."""
        wanted = ("ifindex", "ifname", "address", "mtu")
        found = json.loads(self.run("ip", "-json", "link"))
        return str([{word: link[word] for word in wanted} for link in found])

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in there."""
        return subprocess.Popen(
            self.switch.words(*words),
            env=self.switch.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def enclosed() -> Iterator[Enclosure]:
    """Give an enclosure with a running Open vSwitch; skips where none can be made."""
    require()
    words = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", HOLD]
    place = Path(tempfile.mkdtemp(prefix="idsmon"))
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"ready\n"
        within = ("nsenter", f"--target={holder.pid}", "--mount", "--net", "--")
        with private_switch(place / "ovs", within=within) as switch:
            yield Enclosure(switch, place)
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
        shutil.rmtree(place)


class Dump:
    """A running tcpdump in a host of an enclosure, to be ended by a marker that it has seen."""

    MARKER = b"the last frame"

    def __init__(self, inside: Enclosure, host: str, *, direction: str = "inout") -> None:
        self.path = inside.directory / f"{host}.pcap"
        self.path.unlink(missing_ok=True)
        words = ["tcpdump", "-i", "eth1", "-Q", direction, "-U", "--immediate-mode", "-n"]
        words += ["-Z", "root", "-w", str(self.path), "icmp or arp or vlan or udp port 9"]
        self._process = inside.start("ip", "netns", "exec", host, *words)
        assert self._process.stderr is not None
        said = ""
        while "listening on" not in said:
            said = self._process.stderr.readline()
            assert said, "tcpdump ended"

    def frames(self) -> Counter[bytes]:
        """Wait for the marker, end; return every frame before it with how often it was seen."""
        wait_for(lambda: self._marked() or self._ended(0.05), seconds=60)
        self._process.terminate()
        self._process.communicate()
        frames = list(pcap(self.path.read_bytes()))
        return Counter(frame for frame in frames if self.MARKER not in frame)

    def _ended(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        raise AssertionError("tcpdump ended by itself")

    def _marked(self) -> bool:
        return self.path.exists() and self.MARKER in self.path.read_bytes()


def pcap(data: bytes) -> Iterator[bytes]:
    """Yield the frames of a capture file."""
    at = 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        if at + 16 + length > len(data):
            return
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def mark_the_end(inside: Enclosure, sender: str, receiver: str) -> None:
    """Let a host send the frame at which dumps end."""
    send = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"s.sendto({Dump.MARKER!r}, ({receiver!r}, 9))"
    )
    inside.run("ip", "netns", "exec", sender, sys.executable, "-c", send)


def ping(inside: Enclosure, sender: str, receiver: str, *, count: int = 1, wait_s: int = 0) -> bool:
    """Return whether a host answers another's pings, which are sent anew up to ten times; wait_s:
    only once, with so long to wait, for those that must not be answered."""
    tries, each = (1, wait_s) if wait_s else (10, 4)
    words = ["ping", "-c", str(count), "-i", "0.02", "-W", str(each), receiver]
    return any(
        inside.done("ip", "netns", "exec", sender, *words).returncode == 0 for _ in range(tries)
    )
