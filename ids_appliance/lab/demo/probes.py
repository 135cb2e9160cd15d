"""Hosts in, what their kernels saw out: first packets, ARP caches and spoofers, downloads."""

import ctypes
import socket
import struct
import threading
from contextlib import suppress
from typing import Final

from ids_appliance.gateway.surroundings import neighbours
from ids_appliance.lab.layouts import GATEWAY, SWITCH
from ids_appliance.lab.measure import Clock, PacketCounter, Sample
from ids_appliance.lab.namespaces import run
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Thread
from ids_appliance.lab.services import WEB

DOWNLOAD_MIB: Final = 50
DOWNLOAD_MBIT: Final = 50
"""So that it lasts as long as an attack."""
PATIENCE_S: Final = 3.0
"""A download that hears nothing for so long is cut off."""
LOOK_S: Final = 0.1
ARP_LOOK_S: Final = 0.4
_TABLE: Final = "demo_seen"
_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_ETH_P_ALL: Final = 3


class FirstPacket:
    """The kernel's time of the first frame at an interface that matches a tcpdump expression."""

    def __init__(self, lab: Lab, host: str, interface: str, expression: str) -> None:
        numbers = list(map(int, run("tcpdump", "-y", "EN10MB", "-ddd", expression).split()[1:]))
        code = b"".join(struct.pack("HBBI", *numbers[i : i + 4]) for i in range(0, len(numbers), 4))
        program = ctypes.create_string_buffer(code)
        with lab.inside(host):
            # Protocol 0 receives nothing until the filter is there.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        head = struct.pack("HxxxxxxQ", len(numbers) // 4, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def time_ns(self) -> int | None:
        """Return it, in nanoseconds since the epoch, and stop; None if there was none."""
        try:
            _, said, _, _ = self._socket.recvmsg(1, 64)
        except BlockingIOError:
            return None
        finally:
            self._socket.close()
        for level, kind, data in said:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanos = struct.unpack("qq", data)
                return int(seconds) * 10**9 + int(nanos)
        return None


class Cache:
    """One address in a host's ARP cache, looked at every 100 ms until `stop`."""

    def __init__(self, lab: Lab, host: str, address: str, *, clock: Clock) -> None:
        self.seen: list[tuple[int, bytes]] = []
        """(time ns, MAC), whenever it changes; b"" while there is none."""
        self._lab, self._host = lab, host
        self._address = socket.inet_aton(address)
        self._clock = clock
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        with self._lab.inside(self._host):
            while not over.wait(LOOK_S):
                found = neighbours()
                mac = next((m for (_, a), m in found.items() if a == self._address), b"")
                if not self.seen or self.seen[-1][1] != mac:
                    self.seen.append((self._clock(), mac))

    def stop(self) -> None:
        """Look no more."""
        self._thread.stop()


class ArpReach:
    """An ARP spoofer's replies: sent on its cable, and taken by the one whom it lies to.

    A gateway that drops them before its own ARP hears them has not taken them; so they are
    counted there by a rule of its own firewall's table for ARP.
    """

    def __init__(self, lab: Lab, attacker: str, target: str, *, clock: Clock) -> None:
        self.samples: list[Sample] = []
        self._lab, self._target = lab, target
        self._clock = clock
        self._mac = lab.mac(attacker).hex(":")
        where = (GATEWAY if lab.layout.bridged else SWITCH, f"p-{attacker}")
        self._sent = PacketCounter(
            lab, where[0], f"ether src {self._mac} and arp and arp[6:2] == 2", interface=where[1]
        )
        rule = f"arp operation reply ether saddr {self._mac} counter"
        for words in (
            f"add table arp {_TABLE}",
            f"add chain arp {_TABLE} seen {{ type filter hook input priority 0; }}",
            f"add rule arp {_TABLE} seen {rule}",
        ):
            lab.run(target, "nft", words)
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        self._sample()
        while not over.wait(ARP_LOOK_S):
            self._sample()

    def _sample(self) -> None:
        text = self._lab.run(self._target, "nft", f"list chain arp {_TABLE} seen")
        taken = int(text.partition("packets ")[2].split()[0])
        self.samples.append(Sample(self._clock(), self._sent.read(), taken))

    def stop(self) -> None:
        """Count no more."""
        self._thread.stop()
        self._sample()
        self._sent.close()
        self._lab.run(self._target, "nft", f"delete table arp {_TABLE}")


class Download:
    """A file of the server's web server, read at a steady pace over one connection.

    curl keeps its limit to within a fifth only, which would hide what is to be measured. Little is
    buffered ahead; what was late is caught up with, as players do.
    """

    _AHEAD: Final = 1 << 18

    def __init__(self, lab: Lab, host: str, *, clock: Clock, mib: int = DOWNLOAD_MIB) -> None:
        """Begin; `mib`: of the file's DOWNLOAD_MIB so many are read."""
        self._size = mib << 20
        self._bytes_per_s = DOWNLOAD_MBIT * 125_000
        self._clock = clock
        self._seconds: float | None = None
        self._socket = lab.ip_socket(host)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._AHEAD)
        self._socket.settimeout(PATIENCE_S)
        self._target = (lab.address("server"), WEB)
        self._begin_ns = clock()
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        begin = self._begin_ns
        with self._socket, suppress(OSError):  # cut off: then it never ends
            self._socket.connect(self._target)
            self._socket.sendall(f"GET /{DOWNLOAD_MIB}MiB.bin HTTP/1.0\r\n\r\n".encode())
            got = 0
            while got < self._size and not over.is_set():
                early_s = got / self._bytes_per_s - (self._clock() - begin) / 1e9
                if early_s > 0:
                    over.wait(max(early_s, 0.002))
                part = len(self._socket.recv(1 << 16))
                if not part:
                    return
                got += part
            if got >= self._size:
                self._seconds = (self._clock() - begin) / 1e9

    def bytes_per_s(self) -> float | None:
        """Return the goodput; None if it did not come whole within twice its time."""
        due_ns = self._begin_ns + round(2e9 * self._size / self._bytes_per_s)
        self._thread.join(max(0.0, (due_ns - self._clock()) / 1e9))
        self._thread.stop()
        return None if self._seconds is None else self._size / self._seconds
