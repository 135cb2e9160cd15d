"""A netfilter queue in, packets that the kernel holds until they have a verdict out.

The package `NetfilterQueue` reads and answers the queue's messages; what it has no words for is
done on its socket: the fail-open flag (linux/nfnetlink_queue.h), room for a burst, the count of
messages lost. The kernel's own counts are in /proc/net/netfilter/nfnetlink_queue.
"""

import errno
import importlib
import os
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ids_appliance.errors import InlineError, PermissionMissing

KERNEL_COUNTS: Final = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
MOST_COPIED: Final = 4016
"""Bytes of a packet that the package's buffer has room for."""

_CONFIG: Final = (3 << 8) | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_CFG_MASK, _CFG_FLAGS = 4, 5
_FAIL_OPEN: Final = 1
_REQUEST, _ACK = 1, 4
_NLMSG_ERROR: Final = 2
_SO_TIMESTAMPNS: Final = 35
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_BUFFER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How the queue is set up."""

    number: int = 0
    """0 .. 65535."""
    copy_bytes: int = 256
    """Of each packet, from its IP header on; at most MOST_COPIED."""
    length: int = 1024
    """Packets that the kernel holds at a time, those without a verdict yet included."""
    fail_open: bool = True
    """A full queue lets packets pass; else it drops them."""
    receive_bytes: int = 8 << 20
    """Room of the socket; a packet takes about 1 KB of it."""
    reader: Literal["batch", "package"] = "batch"
    """Who reads it: our own code, many packets a call, or the package, packet by packet."""
    queues: int = 1
    """How many, from `number` on; the kernel spreads packets over them by both their addresses."""


class PacketQueue:
    """One bound queue of this network namespace. For one thread.

    on_packet: called from `take` with each of the package's Packet objects. Raises InlineError in
    one line: the package is not installed, another process has the queue, the kernel has none;
    PermissionMissing.
    """

    def __init__(self, options: QueueOptions, on_packet: Callable[[Any], None]) -> None:
        package = _package()
        self.options = options
        self.lost_messages = 0
        """Times that the socket had no room for a message (ENOBUFS)."""
        self._left = 0
        self._early: list[bytes] = []
        self._queue = _bound(package, options, on_packet)
        self._stamps = stamped()
        try:
            # A descriptor of our own: the package closes its one itself.
            self._socket = socket.socket(fileno=os.dup(self._queue.get_fd()))
        except BaseException:
            self._queue.unbind()
            self._stamps.close()
            raise
        try:
            self._socket.setblocking(False)
            if options.fail_open:
                self._early = set_fail_open(self._socket, options.number)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def take(self, most: int) -> int:
        """Hand at most `most` waiting packets to `on_packet`; return how many messages came."""
        self._left = most
        self._queue.run_socket(self)  # it reads by our `recv`, which says when it is enough
        return most - self._left

    def recv(self, size: int) -> bytes:
        """Return the next message, for the package. Raises OSError: nothing waits (EAGAIN)."""
        if self._left == 0:
            raise BlockingIOError(errno.EAGAIN, "enough for now")
        if self._early:
            self._left -= 1
            return self._early.pop(0)
        try:
            message = self._socket.recv(size)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.lost_messages += 1
            raise
        self._left -= 1
        return message

    def counters(self) -> dict[str, int]:
        """Return the kernel's totals: queued, queue_full, queue_unsent, and lost_messages."""
        return kernel_counts(self.options.number) | {"queue_lost_messages": self.lost_messages}

    def close(self) -> None:
        """Give the queue up; what the kernel still holds is dropped by it. Safe to call twice."""
        if self._socket.fileno() >= 0:
            self._queue.unbind()
            self._socket.close()
            self._stamps.close()


def configure(queue: socket.socket, number: int, attributes: bytes) -> list[bytes]:
    """Tell the kernel how a queue shall be (NFQA_CFG_*); return the packets' messages that came
    before its answer: a rule of a killed gateway is there already.

    Raises OSError: it refuses; TimeoutError: it does not answer.
    """
    body = struct.pack("=BBH", 0, 0, socket.htons(number)) + attributes
    queue.send(_HEADER.pack(_HEADER.size + len(body), _CONFIG, _REQUEST | _ACK, 1, 0) + body)
    early = []
    queue.settimeout(2.0)
    try:
        while _HEADER.unpack_from(answer := queue.recv(_BUFFER))[1] != _NLMSG_ERROR:
            early.append(answer)
    finally:
        queue.setblocking(False)
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
    if code:
        raise OSError(code, os.strerror(code))
    return early


def set_fail_open(queue: socket.socket, number: int) -> list[bytes]:
    """Let packets pass where a queue is full; return what came meanwhile. Raises InlineError."""
    attributes = b"".join(
        struct.pack("=HH", 8, kind) + struct.pack(">I", _FAIL_OPEN)
        for kind in (_CFG_MASK, _CFG_FLAGS)
    )
    try:
        return configure(queue, number, attributes)
    except TimeoutError as error:
        raise InlineError(f"queue {number}: the kernel does not answer about fail-open") from error
    except OSError as error:
        raise InlineError(
            f"queue {number}: the kernel refuses fail-open ({error.strerror}): "
            "set inline.fail_open = false to do without"
        ) from error


def refuse_held(number: int) -> None:
    """Raise InlineError where another program has the queue."""
    other = holder(number)
    if other:
        raise InlineError(
            f"queue {number} is held by another program (port {other}): stop it, or set "
            "inline.queue to a free number"
        )


def stamped() -> socket.socket:
    """Return a socket that lets the kernel note when packets came in, as long as it is open: it
    does so only while some socket asks for it (socket(7))."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return asking


def no_capability(error: OSError) -> PermissionMissing | InlineError:
    """Return what to tell people where the kernel gives no queue at all."""
    if os.geteuid() != 0 or error.errno == errno.EPERM:
        return PermissionMissing(
            "a packet queue needs CAP_NET_ADMIN: run as root, or give the service that capability"
        )
    return InlineError(f"no packet queue can be had ({error}): modprobe nfnetlink_queue")


def _bound(package: Any, options: QueueOptions, on_packet: Callable[[Any], None]) -> Any:
    refuse_held(options.number)
    try:
        queue = package.NetfilterQueue()
    except OSError as error:
        raise no_capability(error) from error
    with warnings.catch_warnings():
        # It asks for the room with SO_RCVBUFFORCE; where that is not given, less has to do.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            queue.bind(
                options.number,
                on_packet,
                max_len=options.length,
                mode=package.COPY_PACKET,
                range=min(options.copy_bytes, MOST_COPIED),
                sock_len=options.receive_bytes,
            )
        except OSError as error:
            raise InlineError(
                f"queue {options.number} cannot be bound: another program has it, or "
                f"CAP_NET_ADMIN is missing ({error})"
            ) from error
    return queue


def _package() -> Any:
    try:
        return importlib.import_module("netfilterqueue")
    except ImportError as error:
        raise InlineError(
            'inline.reader = "package" needs NetfilterQueue: apt-get install '
            "libnetfilter-queue-dev python3-dev gcc, then "
            f"{sys.executable} -m pip install 'ids-appliance[gateway]'"
        ) from error


def _row(number: int) -> list[int] | None:
    try:
        text = KERNEL_COUNTS.read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        words = [int(word) for word in line.split()]
        if len(words) >= 8 and words[0] == number:
            return words
    return None


def holder(number: int) -> int:
    """Return the netlink port of whoever has bound a queue in this namespace; 0 nobody."""
    row = _row(number)
    return row[1] if row is not None else 0


def kernel_counts(number: int) -> dict[str, int]:
    """Return the kernel's counts of a queue: packets that were put in, that found it full, and
    that were taken but could not be handed over; zeros where nobody has bound it.

    Source: nfqnl seq_show in net/netfilter/nfnetlink_queue.c: number, port, waiting, copy mode,
    copy range, dropped, user dropped, sequence of ids.
    """
    row = _row(number)
    if row is None:
        return {"queue_waiting": 0, "queue_full": 0, "queue_unsent": 0, "queue_put": 0}
    return {
        "queue_waiting": row[2],
        "queue_full": row[5],
        "queue_unsent": row[6],
        "queue_put": row[7],
    }
