"""Names of namespaces in, a small network out; gone again afterwards, also after a crash.

Every name carries the owning process (id and start), so that the next start, of whatever process,
can tell what a dead one has left and removes it: processes first, then the namespaces.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, Self

from ids_appliance.errors import LabError, ToolMissing

PREFIX: Final = "idslab"
PACKAGES: Final = {
    "arpspoof": "dsniff",
    "curl": "curl",
    "dnsmasq": "dnsmasq-base",
    "hping3": "hping3",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
    "nft": "nftables",
    "nmap": "nmap",
    "tcpdump": "tcpdump",
    "tcpreplay": "tcpreplay",
    "timeout": "coreutils",
    "trafgen": "netsniff-ng",
    "taskset": "util-linux",
    "unshare": "util-linux",
}
"""Tool -> Debian package that holds it."""

_NAMED: Final = Path("/var/run/netns")
_SETTINGS: Final = Path("/etc/netns")
"""Files that `ip netns exec` puts over those of /etc (ip-netns(8))."""
_OWNED: Final = re.compile(PREFIX + r"(\d+)\.(\d+)-.+")
_CLONE_NEWNET: Final = 0x40000000
_SIOCGIFHWADDR: Final = 0x8927
_SIOCETHTOOL: Final = 0x8946
_OFFLOADS_OFF: Final = (0x17, 0x24, 0x1F, 0x2C)  # ETHTOOL_STXCSUM, SGSO, STSO, SGRO
_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str, text: str | None = None) -> str:
    """Run a command that has to succeed; return what it printed. Raises LabError."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def require(*tools: str) -> None:
    """Raise LabError where this machine cannot make namespaces, or ToolMissing with the package."""
    if os.geteuid() != 0:
        raise LabError("network namespaces need root: run it again as root")
    missing = [tool for tool in ("ip", "unshare", *tools) if shutil.which(tool) is None]
    if missing:
        packages = sorted({PACKAGES.get(tool, tool) for tool in missing})
        raise ToolMissing(
            f"not installed: {', '.join(missing)}; to install: apt-get install {' '.join(packages)}"
        )
    made = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    if made.returncode != 0:
        raise LabError("no network namespace can be made here (kernel or container forbids it)")


def sweep() -> list[str]:
    """Remove what crashed runs have left; return the namespaces' names."""
    left = [name for name in present() if orphaned(name)]
    remove(left)
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if orphaned(place.name) and place.is_dir() and place.stat().st_uid == os.geteuid():
            shutil.rmtree(place, ignore_errors=True)
    return left


def orphaned(name: str) -> bool:
    """Return whether a name says that its owner was one of ours and is not there any more."""
    owner = _OWNED.fullmatch(name)
    return owner is not None and not alive(*owner.groups())


def remove(names: Iterable[str]) -> None:
    """Remove namespaces with every process that lives in them."""
    names = list(names)
    _end_inhabitants(names)
    for name in names:
        shutil.rmtree(_SETTINGS / name, ignore_errors=True)
    there = [name for name in names if (_NAMED / name).exists()]
    lines = "".join(f"netns del {name}\n" for name in there)
    if lines:
        subprocess.run(["ip", "-force", "-batch", "-"], input=lines.encode(), capture_output=True)


def present() -> set[str]:
    """Return the names of all namespaces, and of those of which only settings are left."""
    return {p.name for place in (_NAMED, _SETTINGS) if place.is_dir() for p in place.iterdir()}


def _start_of(pid: str) -> str:
    """Return when a process started, in clock ticks; empty if there is none (proc(5))."""
    try:
        text = Path("/proc", pid, "stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def alive(pid: str, start: str) -> bool:
    """Return whether the process of that id and start still is."""
    return _start_of(pid) == start


def _end_inhabitants(names: Sequence[str]) -> None:
    """Kill the processes whose network namespace is one of these, never ourselves."""
    inodes = set()
    for name in names:
        with contextlib.suppress(OSError):
            inodes.add((_NAMED / name).stat().st_ino)
    if not inodes:
        return
    for _ in range(3):  # one that was just forking shows up in the next round
        found = [pid for pid in _processes() if pid != os.getpid() and _namespace(pid) in inodes]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _namespace(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the process the way Ctrl-C does: everything made is removed."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {s: signal.signal(s, leave) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Network:
    """Namespaces named after this process and a tag; use as a context manager."""

    def __init__(self, tag: str, *names: str) -> None:
        pid = str(os.getpid())
        self._tag = f"{PREFIX}{pid}.{_start_of(pid)}-{tag}"
        self._names = names

    def __enter__(self) -> Self:
        sweep()
        try:
            run(
                "ip",
                "-batch",
                "-",
                text="".join(f"netns add {self.full(n)}\n" for n in self._names),
            )
            for name in self._names:
                # Addresses are there at once, and no probes for duplicates come in between.
                with self.inside(name):
                    for scope in ("all", "default"):
                        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
                self.ip(name, "link set lo up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        remove(self.full(name) for name in self._names)

    def full(self, name: str) -> str:
        """Return the name by which the system knows a namespace."""
        return f"{self._tag}{name}"

    def command(self, name: str, *words: str) -> list[str]:
        """Return the words that run a command inside a namespace."""
        return ["ip", "netns", "exec", self.full(name), *words]

    def ip(self, name: str, *lines: str) -> None:
        """Run `ip` commands in a namespace, all in one go. Raises LabError at the first bad one."""
        text = "".join(f"{line}\n" for line in lines)
        run("ip", "-n", self.full(name), "-batch", "-", text=text)

    def veth(self, one: tuple[str, str], other: tuple[str, str], *, extra: str = "") -> None:
        """Join two namespaces by a cable: (namespace, interface) at each end, offloads off, up."""
        (a, port_a), (b, port_b) = one, other
        self.ip(a, f"link add {port_a} {extra} type veth peer name {port_b} netns {self.full(b)}")
        for name, port in (one, other):
            self.offloads_off(name, port)
            self.ip(name, f"link set {port} up")

    def offloads_off(self, name: str, *interfaces: str) -> None:
        """As `offloads_off`, of interfaces in a namespace."""
        with self.inside(name):
            offloads_off(*interfaces)

    def inside(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Let this thread live in a namespace: sockets made there stay there."""
        return inside(self.full(name))

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
        """Return an interface's present MAC."""
        with self.inside(name), socket.socket() as any_socket:
            answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, interface.encode().ljust(40, b"\0"))
        return answer[18:24]

    def write(self, name: str, path: str, value: str) -> None:
        """Set a sysctl of a namespace, such as net/ipv4/ip_forward."""
        with self.inside(name):
            Path("/proc/sys", path).write_text(value)

    def setting(self, name: str, file: str, text: str) -> None:
        """Give a namespace a file of its own in the place of /etc/`file`."""
        place = _SETTINGS / self.full(name)
        place.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread live in a namespace of that name: sockets made there stay there."""
    with open("/proc/thread-self/ns/net") as home, open(_NAMED / namespace) as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def offloads_off(*interfaces: str) -> None:
    """Let one frame be one packet with its real checksum: no tx, gso, tso, gro."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for interface in interfaces:
            for command in _OFFLOADS_OFF:
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
                fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
