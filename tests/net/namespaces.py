"""Names of namespaces in, a small network out; gone again afterwards, also after a crash."""

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PREFIX = "idst"
NEEDED = ("ip", "ethtool", "tcpdump")
_NAMED = Path("/var/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"
    return done.stdout


def require() -> None:
    """Skip where the machine cannot do this."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    made = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no network namespace can be made here")


def sweep() -> None:
    """Remove what a crashed run has left: namespaces named after a process that is no more."""
    for name in os.listdir(_NAMED) if _NAMED.is_dir() else ():
        owner = re.fullmatch(PREFIX + r"(\d+)-\w+", name)
        if owner and not Path("/proc", owner[1]).exists():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Network:
    """Namespaces of one test, named after this process; use as a context manager."""

    def __init__(self, tag: str, *names: str) -> None:
        self._tag = f"{PREFIX}{os.getpid()}-{tag}"
        self._names = names

    def __enter__(self) -> "Network":
        sweep()
        try:
            for name in self._names:
                run("ip", "netns", "add", self.full(name))
                self.ip(name, "link set lo up")
                # Addresses are there at once, and no probes for duplicates come in between.
                for scope in ("all", "default"):
                    self.write(name, f"net/ipv6/conf/{scope}/accept_dad", "0")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            subprocess.run(
                ["ip", "netns", "del", self.full(name)], capture_output=True, check=False
            )

    def full(self, name: str) -> str:
        return f"{self._tag}{name}"

    def command(self, name: str, *words: str) -> list[str]:
        """Return the words that run a command inside a namespace."""
        return ["ip", "netns", "exec", self.full(name), *words]

    def ip(self, name: str, words: str) -> None:
        run("ip", "-n", self.full(name), *words.split())

    def veth(self, one: tuple[str, str], other: tuple[str, str], *, extra: str = "") -> None:
        """Join two namespaces by a cable: (namespace, interface) at each end, offloads off, up."""
        (a, port_a), (b, port_b) = one, other
        words = f"link add {port_a} {extra} type veth peer name {port_b} netns {self.full(b)}"
        self.ip(a, words)
        for name, port in (one, other):
            off = ["gro", "off", "gso", "off", "tso", "off", "tx", "off"]
            run(*self.command(name, "ethtool", "-K", port, *off))
            self.ip(name, f"link set {port} up")

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Let this thread live in a namespace: sockets made there stay there."""
        with open("/proc/thread-self/ns/net") as home, open(_NAMED / self.full(name)) as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def packet_socket(
        self, name: str, interface: str, kind: int = socket.SOCK_RAW
    ) -> socket.socket:
        """Return a socket that sends and receives whole frames (or, SOCK_DGRAM, packets)."""
        with self.inside(name):
            raw = socket.socket(socket.AF_PACKET, kind, socket.htons(3))  # ETH_P_ALL
            raw.bind((interface, 3))
            raw.setblocking(False)
            return raw

    def mac(self, name: str, interface: str) -> bytes:
        with self.inside(name), socket.socket() as any_socket:
            answer = fcntl.ioctl(any_socket, 0x8927, interface.encode().ljust(40, b"\0"))
        return answer[18:24]

    def write(self, name: str, path: str, value: str) -> None:
        """Set a sysctl of a namespace, such as net/ipv4/ip_forward."""
        with self.inside(name):
            Path("/proc/sys", path).write_text(value)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def wait_for(look: Callable[[], object], *, seconds: float = 10) -> None:
    """Call `look`, which itself waits a little for something, until it returns something true."""
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "it did not happen in time"
