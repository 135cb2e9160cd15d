"""An ARP forger that is cut off in, its victims' caches put right out (RFC 826).

Linux keeps what it learned for `locktime` (1 s) against a newer answer, so each correction is sent
four times in 3.3 s. It leaves with our own MAC as the frame's source: with the true owner's, a
switch would move that host to our port.
"""

import fcntl
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ids_appliance.enforce.neighbours import correct

ETH_ARP: Final = 0x0806
REPLY: Final = 2
BROADCAST: Final = b"\xff" * 6
TIMES_S: Final = (0.0, 1.1, 2.2, 3.3)
_SIOCGIFHWADDR: Final = 0x8927  # netdevice(7)
_ETHERNET: Final = 1  # ARPHRD_ETHER
MAX_FRAMES: Final = 4096
"""Frames that wait at a time; what is more is given up and counted."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A host as it truly is."""

    address: bytes
    """IPv4, 4 bytes."""
    mac: bytes
    interface: str
    """The port it is on."""


def reply(true: Binding, target: Binding, *, source: bytes) -> bytes:
    """Return the frame that tells `target` where `true` is; source: MAC of the port it leaves."""
    ethernet = target.mac + source + struct.pack("!H", ETH_ARP)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, REPLY)
    return ethernet + arp + true.mac + true.address + target.mac + target.address


class Healer:
    """Sends corrections in time. `heal` and `tick` are called from one thread.

    clock: seconds, monotonic. on_note: (kind, line for people), as an enforcer's.
    """

    def __init__(self, *, clock: Callable[[], float], on_note: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._note = on_note
        self._due: deque[tuple[float, str, bytes]] = deque()
        self._wire: socket.socket | None = None
        self._counts = dict.fromkeys(("healed", "frames", "failed", "given_up", "neighbours"), 0)

    def heal(
        self, culprit: bytes, claimed: Iterable[Binding], *, victims: Iterable[Binding]
    ) -> None:
        """Correct what `culprit` (MAC) has claimed.

        claimed: the addresses it claimed, with their true MACs; our own addresses with our own.
        victims: who may have believed it, each told by unicast at its own port; and everybody at
        these ports by broadcast. Our own neighbour table is corrected at once.
        """
        true = [b for b in dict.fromkeys(claimed) if len(b.address) == 4 and b.mac != culprit]
        told = [v for v in dict.fromkeys(victims) if len(v.address) == 4 and v.mac != culprit]
        if not true:
            return
        self._own(culprit, true)
        ports = dict.fromkeys((*(b.interface for b in true), *(v.interface for v in told)))
        frames = []
        for port in ports:
            source = _mac_of(port)
            if source is None:
                continue
            here = [v for v in told if v.interface == port]
            for one in true:
                frames += [(port, reply(one, v, source=source)) for v in here if v != one]
                everybody = Binding(one.address, BROADCAST, port)
                frames.append((port, reply(one, everybody, source=source)))
        now = self._clock()
        room = MAX_FRAMES - len(self._due)
        wanted = [(now + after, *frame) for after in TIMES_S for frame in frames]
        self._counts["given_up"] += max(0, len(wanted) - room)
        self._due = deque(sorted([*self._due, *wanted[:room]], key=lambda entry: entry[0]))
        self._counts["healed"] += len(true)
        names = ", ".join(f"{socket.inet_ntoa(b.address)} is at {b.mac.hex(':')}" for b in true[:4])
        self._note("healed", f"telling {len(told)} hosts that {names}")
        self.tick()

    def tick(self) -> float | None:
        """Send what is due; return the time of the next, None where none waits."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, port, frame = self._due.popleft()
            if self._wire is None:
                # Kept open while frames wait: closing one takes the kernel 20 ms (it lets a grace
                # period pass), and who calls this has packets to judge.
                kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
                self._wire = socket.socket(socket.AF_PACKET, kind, 0)
            try:
                self._wire.sendto(frame, (port, ETH_ARP))
                self._counts["frames"] += 1
            except OSError:
                self._counts["failed"] += 1  # the port is gone or its queue is full
        if not self._due:
            self.close()
            return None
        return self._due[0][0]

    def close(self) -> None:
        """Send nothing more; safe to call twice."""
        self._due.clear()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def counters(self) -> dict[str, int]:
        """Return totals: addresses healed, frames sent, failed and given up, own entries."""
        return {f"heal_{name}": n for name, n in self._counts.items()}

    def _own(self, culprit: bytes, true: list[Binding]) -> None:
        try:
            found = correct(culprit, {b.address: b.mac for b in true})
        except OSError as error:
            self._note("failed", f"our own neighbour table: {error.strerror}")
            return
        self._counts["neighbours"] += len(found)


def _mac_of(interface: str) -> bytes | None:
    # Asked of a socket of another kind: closing one for packets takes long.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            said = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, interface.encode().ljust(40, b"\0"))
        except OSError:
            return None
    kind: int = struct.unpack_from("=H", said, 16)[0]
    return said[18:24] if kind == _ETHERNET else None
