"""Four namespaces out: a generator, a gateway that forwards, a node, and a sink that counts.

    gen eth0 -- lan0 gw wan0 -- eth0 sink
                     gw node0 -- eth0 node

All addresses are RFC 2544's for benchmarks: captured traffic that is sent here knows the others.
Nothing answers: the sink routes nothing and has none of the addresses, neighbours are permanent and
IPv6 is off, so that what the counters show are the generator's frames and no others.
"""

import json
import os
import select
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from ids_appliance.bench import mixes
from ids_appliance.bench.cpus import Camps
from ids_appliance.capture.nfqueue import kernel_counts
from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.queue_rule import QueueRule
from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import Network, run
from ids_appliance.lab.network import end_group

GATEWAY: Final = "gw"
INTERFACE: Final = "lan0"
NODE: Final = "198.18.2.2"
SINK: Final = "198.18.1.2"
START_S: Final = 60.0
_CABLES: Final = (
    (("gen", "eth0"), (GATEWAY, INTERFACE)),
    ((GATEWAY, "wan0"), ("sink", "eth0")),
    ((GATEWAY, "node0"), ("node", "eth0")),
)


class Process:
    """A process of ours in a namespace that talks in lines."""

    def __init__(self, words: list[str], errors: Path) -> None:
        self._errors = errors
        self._rest = b""
        with errors.open("wb") as file:
            self._popen: subprocess.Popen[bytes] = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
            )
        self.pid = self._popen.pid

    def say(self) -> None:
        """Give it a line. Raises LabError if it has ended."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError as error:
            raise LabError(f"a process of the benchmark has ended: {self._last()}") from error

    def line(self, limit_s: float) -> str:
        """Return its next line. Raises LabError: it ended, or takes too long."""
        assert self._popen.stdout is not None
        descriptor = self._popen.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([descriptor], [], [], limit_s)[0]:
                raise LabError(f"a process of the benchmark says nothing for {limit_s:g} s")
            got = os.read(descriptor, 65_536)
            if not got:
                raise LabError(f"a process of the benchmark has ended: {self._last()}")
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace")

    def ask(self, limit_s: float) -> dict[str, Any]:
        """Return the object with which it answers a line."""
        self.say()
        answer: dict[str, Any] = json.loads(self.line(limit_s))
        return answer

    def ended(self, wait_s: float) -> bool:
        """Return whether it has ended, or ends within so long."""
        try:
            self._popen.wait(wait_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def fail(self) -> LabError:
        """Return what tells how it ended."""
        return LabError(f"a process of the benchmark has ended: {self._last()}")

    def _last(self) -> str:
        said = self._errors.read_text(errors="replace").strip().splitlines()
        return said[-1] if said else "it said nothing"

    def close(self) -> None:
        """End it."""
        end_group(self._popen)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


class Bed:
    """The namespaces, wired up; leaving it removes them and every process in them.

    camps: what comes in at the gateway is served by the gateway's CPU, at the node by the others'.
    forwards: whether the gateway forwards at all.
    """

    def __init__(self, camps: Camps | None = None, *, forwards: bool = True) -> None:
        self._camps = camps
        self._forwards = forwards
        self._net = Network("bench-", "gen", GATEWAY, "sink", "node")
        self._on_exit = ExitStack()
        self._pools: dict[str, Path] = {}
        self._number = 0
        self.directory = Path()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._net)
            prefix = self._net.full("scratch-")
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
            self._wire()
            self._on_exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    def _wire(self) -> None:
        net = self._net
        for name in ("gen", GATEWAY, "sink", "node"):
            for scope in ("all", "default"):
                net.write(name, f"net/ipv6/conf/{scope}/disable_ipv6", "1")
                net.write(name, f"net/ipv4/conf/{scope}/rp_filter", "0")
                net.write(name, f"net/ipv4/conf/{scope}/send_redirects", "0")
        for one, other in _CABLES:
            net.veth(one, other)
        sink = net.mac("sink", "eth0").hex(":")
        net.ip(
            GATEWAY,
            f"addr add 198.18.0.1/24 dev {INTERFACE}",
            "addr add 198.18.1.1/24 dev wan0",
            "addr add 198.18.2.1/24 dev node0",
            f"neigh replace {SINK} lladdr {sink} nud permanent dev wan0",
            f"route add default via {SINK}",
        )
        net.ip("node", f"addr add {NODE}/24 dev eth0")
        net.write(GATEWAY, "net/ipv4/ip_forward", str(int(self._forwards)))
        if self._camps is not None:
            for name, port in ((GATEWAY, INTERFACE), (GATEWAY, "node0"), ("node", "eth0")):
                cpus = self._camps.steering(gateway=name == GATEWAY)
                file = f"/sys/class/net/{port}/queues/rx-0/rps_cpus"
                run(*net.command(name, "sh", "-c", f"echo {cpus} > {file}"))

    def settle(self) -> None:
        """Give generator and sink addresses and ways to each other, for tools that need some."""
        self._net.ip("gen", "addr add 198.18.0.2/24 dev eth0", "route add default via 198.18.0.1")
        self._net.ip("sink", f"addr add {SINK}/24 dev eth0", "route add default via 198.18.1.1")

    def forget_rules(self) -> None:
        """Take away what a killed gateway has left in its namespace's kernel."""
        with self._net.inside(GATEWAY):
            Nft().run("flush ruleset")

    def hold_packets(self, queue: int) -> None:
        """Let what is forwarded from or to the gateway's interface wait in a queue for its verdict,
        as our inline mode does; `forget_rules` ends it."""
        with self._net.inside(GATEWAY):
            QueueRule(queue, max_clean=64).install([INTERFACE])

    def queue_drops(self, queue: int) -> int:
        """Return how many packets a queue of the gateway's has refused, or could not hand over."""
        with self._net.inside(GATEWAY):
            counts = kernel_counts(queue)
        return counts["queue_full"] + counts["queue_unsent"]

    def command(self, where: str, *words: str) -> list[str]:
        """Return the words that run a command in a namespace."""
        return self._net.command(where, *words)

    def process(self, where: str, *words: str, prefix: tuple[str, ...] = ()) -> Process:
        """Start one; `prefix` are words before the whole command."""
        self._number += 1
        errors = self.directory / f"stderr-{self._number}"
        return Process([*prefix, *self._net.command(where, *words)], errors)

    def pool(self, mix: str) -> Path:
        """Return the file with a mix's frames, addressed to the gateway; made once."""
        if mix not in self._pools:
            pool = mixes.make(mix)
            net = self._net
            mixes.address(pool, net.mac(GATEWAY, INTERFACE), net.mac("gen", "eth0"))
            path = self.directory / f"{mix}.npz"
            np.savez(path, data=pool[0], ends=pool[1])
            self._pools[mix] = path
        return self._pools[mix]

    @property
    def hop(self) -> bytes:
        """The MAC to which the generator sends."""
        return self._net.mac(GATEWAY, INTERFACE)

    def wire(self) -> socket.socket:
        """Return a blocking socket for whole frames on the generator's interface."""
        found = self._net.packet_socket("gen", "eth0")
        found.setblocking(True)
        return found

    def arrived(self) -> int:
        """Return the frames that the sink's interface has received so far."""
        with self._net.inside("sink"):
            for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
                name, _, counts = line.partition(":")
                if name.strip() == "eth0":
                    return int(counts.split()[1])
        raise LabError("the sink has lost its interface")
