"""Names of network interfaces in, batches of live frames out: AF_PACKET rings polled together."""

import os
import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ids_appliance._ring import Ring
from ids_appliance.capture.interfaces import find
from ids_appliance.capture.netlink import Changes, Events, Link, links
from ids_appliance.errors import InterfaceError, PermissionMissing
from ids_appliance.types import FRAME, Direction, FrameBatch

ARPHRD_LOOPBACK: Final = 772
LINKTYPES: Final = {
    1: 1,  # Ethernet
    ARPHRD_LOOPBACK: 1,
    512: 101,  # PPP: the kernel shows the IP packet alone
    519: 101,  # raw IP (cellular modems)
    768: 101,  # IP in IP
    769: 101,  # IPv6 tunnel
    776: 101,  # IPv6 in IPv4
    65534: 101,  # none: tun, WireGuard
}
"""ARPHRD_* (if_arp.h) -> LINKTYPE_* of the frames."""

_BATCH_FRAMES: Final = 2048
_LOOK_EVERY: Final = 64  # rounds without a pause after which link events are looked at all the same
_TOTALS: Final = ("delivered", "kernel_packets", "kernel_drops", "in_ring", "freezes", "malformed")


@dataclass(frozen=True, slots=True)
class RingOptions:
    """How each ring is set up; checked by _ring.Ring."""

    block_bytes: int = 1 << 18
    """A multiple of the page size, at most 4 MiB."""
    blocks: int = 64
    """At least 2; block_bytes * blocks is at most 1 GiB. The default ring has 16 MiB."""
    retire_ms: int = 10
    """A block is handed over after this time at the latest, 1 .. 1000: latency on a quiet link."""
    promiscuous: bool = False
    """See frames for other hosts as well, on a link that carries them."""
    socket_filter: tuple[tuple[int, int, int, int], ...] = ()
    """Classic BPF as (code, jt, jf, k); empty: everything."""
    taps: tuple[str, ...] = ()
    """Interfaces that carry copies of others' frames: a frame's direction there says nothing, and
    all of them are seen, whomever they are for."""
    fanout: tuple[int, int] | None = None
    """(group, PACKET_FANOUT_*): share one interface's frames between processes."""


class _Port:
    """One interface: its ring while the interface exists, and what former rings have counted."""

    def __init__(self, name: str, options: RingOptions) -> None:
        self.name = name
        self.options = options
        self.ring: Ring | None = None
        self.up = False
        self.leaving = False  # the interface is gone, but the ring still holds frames
        self.copies = name in options.taps
        self.frames = np.zeros(_BATCH_FRAMES, FRAME)
        self.data = np.zeros(0, np.uint8)
        self._before = dict.fromkeys(_TOTALS, 0)

    def open(self, link: Link) -> None:
        """Raises InterfaceError, PermissionMissing; OSError where the interface has just gone."""
        linktype = LINKTYPES.get(link.hardware_type)
        if linktype is None:
            raise InterfaceError(
                f"{self.name} is of a kind that cannot be read (ARPHRD {link.hardware_type}): "
                "Ethernet, loopback and links that carry bare IP can"
            )
        options = self.options
        try:
            ring = Ring(
                block_bytes=options.block_bytes, blocks=options.blocks, retire_ms=options.retire_ms
            )
        except PermissionError as error:
            raise PermissionMissing(
                f"capturing from {self.name} needs CAP_NET_RAW: run as root, "
                "or setcap cap_net_raw+ep on the python that runs this"
            ) from error
        except ValueError as error:
            raise InterfaceError(f"ring for {self.name}: {error}") from error
        except OSError as error:
            raise InterfaceError(f"no ring for {self.name}: {error.strerror}") from error
        try:
            if options.socket_filter:
                ring.attach_filter(options.socket_filter)
            if link.hardware_type == ARPHRD_LOOPBACK:
                ring.ignore_outgoing()  # each frame comes back in: it would count twice
            ring.bind(link.index, linktype=linktype, promiscuous=options.promiscuous or self.copies)
            if options.fanout is not None:
                ring.join_fanout(*options.fanout)
            ring.take_error()  # ENETDOWN, where the interface is not up yet
        except BaseException:
            ring.close()
            raise
        self.data = np.frombuffer(memoryview(ring), np.uint8)
        self.ring, self.up, self.leaving = ring, link.up, False

    def leave(self) -> None:
        """Give up the ring; its counts stay."""
        ring, self.ring = self.ring, None
        if ring is None:
            return
        ring.close()
        for name, value in ring.statistics().items():
            self._before[name] += value
        self.data = np.zeros(0, np.uint8)  # the mapping goes with its last view
        self.leaving = False

    def counters(self) -> dict[str, int]:
        now = self.ring.statistics() if self.ring is not None else {}
        return {name: value + now.get(name, 0) for name, value in self._before.items()}


class RingSource:
    """Live frames of one or several interfaces; implements `types.Source`.

    names: interfaces to capture, see interfaces.capture_points for bridges. timeout_s: `batches`
    yields None when nothing came for so long. on_event: called with a line for people when an
    interface goes away or comes back.

    An interface that goes down or is deleted, and one of that name that is created later, are
    waited for on a link-event socket, and reading goes on by itself.
    Raises InterfaceError (no such interface, not readable, no memory), PermissionMissing.
    """

    def __init__(
        self,
        names: str | Sequence[str],
        options: RingOptions | None = None,
        *,
        timeout_s: float = 0.05,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        options = options or RingOptions()
        chosen = dict.fromkeys([names] if isinstance(names, str) else names)
        if not chosen:
            raise InterfaceError("no interface named: nothing would be captured")
        self.changes = 0
        """How often an interface went, came or changed, or a local address did: a number that
        has grown means that interfaces.identity may have another answer now."""
        self._timeout_s = timeout_s
        self._on_event = on_event
        self._ups = self._downs = 0
        self._number = 0
        self._closed = self._stopping = self._running = False
        self._ports = [_Port(name, options) for name in chosen]
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Before the links are read: what changes from here on is noticed.
        self._events = Events()
        try:
            table = links()
            for port in self._ports:
                try:
                    port.open(find(port.name, table))
                except OSError as error:
                    raise InterfaceError(f"{port.name} cannot be read: {error.strerror}") from error
        except BaseException:
            self._release()
            raise

    @property
    def down(self) -> tuple[str, ...]:
        """Names of the interfaces that are down or do not exist at the moment."""
        return tuple(port.name for port in self._ports if not port.up)

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield batches in order of arrival for each interface, until `stop` or `close`.

        A batch's bytes lie in the ring: they are valid until the next one is asked for.
        """
        rounds = 0
        while self._go_on():
            found = False
            for port in self._ports:
                n = port.ring.take(port.frames, self._number) if port.ring is not None else 0
                if not n:
                    continue
                found = True
                if port.copies:
                    port.frames["direction"][:n] = Direction.UNKNOWN
                self._number += n
                self._running = False
                yield FrameBatch(port.data, port.frames[:n])
                if not self._go_on():
                    break
            rounds = rounds + 1 if found else _LOOK_EVERY
            ready = found
            if rounds >= _LOOK_EVERY and not self._closed:
                rounds = 0
                ready = self._look(0 if found else self._timeout_s) or found
            if self._stopping and not found and self._drained():
                self._closed = True
            self._running = False
            if not ready and not self._closed:
                yield None
        self._release()

    def _go_on(self) -> bool:
        # In this order: `close` in another thread asks the other way round, so that either it sees
        # that `batches` is running, or this sees that the source is closed.
        self._running = True
        return not self._closed

    def _look(self, timeout_s: float) -> bool:
        """Wait for frames, link events or a wake-up; True if a ring has something."""
        poller = select.poll()
        rings = {}
        for port in self._ports:
            if port.ring is not None:
                rings[port.ring.fileno()] = port
                poller.register(port.ring.fileno(), select.POLLIN)
        poller.register(self._events.fileno(), select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        if self._stopping or any(port.leaving for port in self._ports):
            # Their last block is handed over by a timer of the kernel's.
            timeout_s = min(timeout_s, self._ports[0].options.retire_ms / 1000)
        ready = False
        news = Changes()
        for descriptor, what in poller.poll(timeout_s * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif descriptor == self._events.fileno():
                news = self._events.take()
                self.changes += news.links or news.addresses
            else:
                if what & select.POLLERR:
                    self._clear_error(rings[descriptor])
                ready = ready or bool(what & select.POLLIN)
        if news.links or any(port.leaving for port in self._ports):
            self._follow(links())
        return ready

    def _clear_error(self, port: _Port) -> None:
        # ENETDOWN: what it means for us comes as a link event. The ring stays bound.
        if port.ring is not None:
            port.ring.take_error()

    def _follow(self, table: dict[int, Link]) -> None:
        """Bring every port in line with the interfaces that there are now."""
        by_name = {link.name: link for link in table.values()}
        for port in self._ports:
            if port.ring is not None:
                link = table.get(port.ring.ifindex) if port.ring.attached else None
                self._set_up(port, link is not None and link.up)
                if link is not None:
                    continue
                port.leaving = True
                if not port.ring.drained:
                    continue
                port.leave()
            link = by_name.get(port.name)
            if link is None:
                continue
            try:
                port.open(link)
            except (OSError, InterfaceError) as error:
                self._tell(f"{port.name} is back but cannot be read: {error}")
                continue
            port.up = False
            self._set_up(port, link.up)

    def _set_up(self, port: _Port, up: bool) -> None:
        if port.up == up:
            return
        port.up = up
        if up:
            self._ups += 1
            self._tell(f"{port.name} is up: capturing")
        else:
            self._downs += 1
            self._tell(f"{port.name} is down or gone: waiting for it")

    def _tell(self, line: str) -> None:
        if self._on_event is not None:
            self._on_event(line)

    def _drained(self) -> bool:
        return all(port.ring is None or port.ring.drained for port in self._ports)

    def counters(self) -> dict[str, int]:
        """Return totals by name over all interfaces, former rings included.

        At every instant kernel_packets = delivered + malformed + in_ring + kernel_drops, where
        in_ring is what was not taken yet, and after `close` what never was.
        """
        totals = dict.fromkeys(_TOTALS, 0)
        for port in self._ports:
            for name, value in port.counters().items():
                totals[name] += value
        return totals | {"interface_up": self._ups, "interface_down": self._downs}

    def ports(self) -> dict[str, dict[str, int]]:
        """Return the totals of each interface by its name."""
        return {port.name: port.counters() for port in self._ports}

    def set_filter(self, instructions: tuple[tuple[int, int, int, int], ...]) -> None:
        """Use another socket filter from now on; classic BPF as (code, jt, jf, k), empty: none.

        On a ring at work the kernel swaps the program in one step: what it has taken in already
        stays in the ring, no frame is lost that the new filter passes. An interface that comes
        back later gets it too. Raises OSError for a program that the kernel refuses.
        """
        for port in self._ports:
            if port.ring is not None:
                port.ring.attach_filter(instructions)
            port.options = replace(port.options, socket_filter=tuple(instructions))

    def descriptors(self) -> list[int]:
        """Return what has to be polled by who reads this beside something else."""
        rings = [port.ring.fileno() for port in self._ports if port.ring is not None]
        return [] if self._closed else [*rings, self._events.fileno(), self._wake]

    def wake(self) -> None:
        """Make `batches` yield soon, from any thread: there is something else to look after."""
        if not self._closed:
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Capture nothing more, deliver what the rings hold, then end `batches`."""
        if self._closed or self._stopping:
            return
        for port in self._ports:
            if port.ring is not None:
                port.ring.stop()
        self._stopping = True
        self.wake()

    def close(self) -> None:
        """End at once; what the rings still hold is counted as in_ring. Safe to call twice.

        The memory that a batch lies in stays mapped for as long as somebody holds it.
        """
        closed, self._closed = self._closed, True
        if not self._running:
            self._release()
        elif not closed:
            os.eventfd_write(self._wake, 1)  # another thread is in `batches`: it cleans up

    def _release(self) -> None:
        self._closed = True
        self._running = False
        for port in self._ports:
            port.leave()
        self._events.close()
        wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)
