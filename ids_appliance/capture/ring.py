"""Names of network interfaces in, batches of live frames out: one AF_PACKET ring for all of them.

One interface is bound as such. Several share a ring that is bound to all interfaces, and the socket
filter lets those pass that are captured: so frames stand in the order in which they passed the
kernel, and an answer never before its question. What that costs: until Linux 6.16 every frame of
the machine, in whatever namespace, is shown to such a filter; from then on every one of ours.
"""

import os
import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ids_appliance._ring import Ring
from ids_appliance.capture.interfaces import find
from ids_appliance.capture.netlink import Events, Link, links
from ids_appliance.capture.port_filter import Instruction, of_ports
from ids_appliance.errors import InterfaceError, PermissionMissing
from ids_appliance.types import FRAME, FrameBatch

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
MAX_PORTS: Final = 256
_MANY: Final = 32
"""Frames in two batches in a row from which on the next one may wait for more."""
_FEW: Final = 512
"""Below so many it should: a batch of more is worth waking up for."""
_FORMER: Final = 64  # interfaces that are gone whose frames may still lie in the ring


@dataclass(frozen=True, slots=True)
class RingOptions:
    """How the ring is set up; checked by _ring.Ring."""

    block_bytes: int = 1 << 18
    """A multiple of the page size, at most 4 MiB."""
    blocks: int = 64
    """At least 2; block_bytes * blocks is at most 1 GiB. The default ring has 16 MiB."""
    retire_ms: int = 10
    """A block is handed over after this time at the latest, 1 .. 1000: latency on a quiet link."""
    gather_ms: int = 10
    """While frames come fast, blocks are gathered for this time instead of each being read at once:
    waking up costs more than reading. 0: never."""
    promiscuous: bool = False
    """See frames for other hosts as well, on a link that carries them."""
    socket_filter: tuple[Instruction, ...] = ()
    """Classic BPF as (code, jt, jf, k); empty: everything."""
    taps: tuple[str, ...] = ()
    """Interfaces that carry copies of others' frames: a frame's direction there says nothing, and
    all of them are seen, whomever they are for."""


@dataclass(slots=True)
class _Port:
    """One captured interface, and which one of that name it is at the moment."""

    name: str
    index: int = 0
    """0: there is none."""
    loopback: bool = False
    up: bool = False


def linktype_of(link: Link) -> int:
    """Return LINKTYPE_* of an interface's frames. Raises InterfaceError where there is none."""
    linktype = LINKTYPES.get(link.hardware_type)
    if linktype is None:
        raise InterfaceError(
            f"{link.name} is of a kind that cannot be read (ARPHRD {link.hardware_type}): "
            "Ethernet, loopback and links that carry bare IP can"
        )
    return linktype


def _made(options: RingOptions, names: str) -> Ring:
    try:
        return Ring(
            block_bytes=options.block_bytes, blocks=options.blocks, retire_ms=options.retire_ms
        )
    except PermissionError as error:
        raise PermissionMissing(
            f"capturing from {names} needs CAP_NET_RAW: run as root, "
            "or setcap cap_net_raw+ep on the python that runs this"
        ) from error
    except ValueError as error:
        raise InterfaceError(f"ring for {names}: {error}") from error
    except OSError as error:
        raise InterfaceError(f"no ring for {names}: {error.strerror}") from error


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
        self._options = options or RingOptions()
        chosen = dict.fromkeys([names] if isinstance(names, str) else names)
        if not chosen:
            raise InterfaceError("no interface named: nothing would be captured")
        if len(chosen) > MAX_PORTS:
            raise InterfaceError(f"{len(chosen)} interfaces named: at most {MAX_PORTS} have a ring")
        self.changes = 0
        """How often an interface went, came or changed, or a local address did: a number that
        has grown means that interfaces.identity may have another answer now."""
        self._timeout_s = timeout_s
        self._on_event = on_event
        self._ups = self._downs = 0
        self._number = 0
        self._closed = self._stopping = self._running = self._released = False
        self._ports = [_Port(name) for name in chosen]
        self._single = len(chosen) == 1
        self._known: dict[int, tuple[int, int, int, bool]] = {}
        self._ring = _made(self._options, ", ".join(chosen))
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Before the links are read: what changes from here on is noticed.
        self._events = Events()
        self._all, self._aside = select.poll(), select.poll()
        for descriptor in (self._events.fileno(), self._wake):
            self._all.register(descriptor, select.POLLIN)
            self._aside.register(descriptor, select.POLLIN)
        self._all.register(self._ring.fileno(), select.POLLIN)
        self._data = np.zeros(0, np.uint8)
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        self._data = np.frombuffer(memoryview(self._ring), np.uint8)
        self._frames = np.zeros(_BATCH_FRAMES, FRAME)

    def _open(self) -> None:
        table = links()
        name = ""
        try:
            for port in self._ports:
                name, link = port.name, find(port.name, table)
                self._enter(port, link)
                port.up = link.up
            name = ", ".join(port.name for port in self._ports)
            self._apply()
            if not self._single:
                self._ring.bind(0)
        except OSError as error:
            raise InterfaceError(f"{name} cannot be read: {error.strerror}") from error

    def _enter(self, port: _Port, link: Link) -> None:
        """Take an interface for a port's; its frames come once `_apply` has told the kernel.

        Raises InterfaceError; OSError where it has just gone."""
        linktype, copies = linktype_of(link), port.name in self._options.taps
        if self._options.promiscuous or copies:
            self._ring.promiscuous(link.index)
        port.index, port.loopback = link.index, link.hardware_type == ARPHRD_LOOPBACK
        self._known.pop(link.index, None)
        self._known[link.index] = (link.index, self._ports.index(port), linktype, copies)

    def _apply(self) -> None:
        """Tell the ring which interfaces there are, then let their frames and no others pass."""
        current = {port.index: port for port in self._ports if port.index}
        former = [index for index in self._known if index not in current]
        for index in former[:-_FORMER]:
            del self._known[index]
        # What they sent before they went may still lie in the ring, and the filter keeps out
        # whoever has such an index later on.
        self._ring.know([self._known[index] for index in [*current, *former[-_FORMER:]]])
        self._attach()
        if not self._single:
            return
        for index, port in current.items():
            if port.loopback:
                self._ring.ignore_outgoing()  # each frame comes back in: it would count twice
            self._ring.bind(index)
            self._ring.take_error()  # ENETDOWN, where it is not up yet

    def _attach(self) -> None:
        body = self._options.socket_filter
        if not self._single:
            there = [port for port in self._ports if port.index]
            loopback = [port.index for port in there if port.loopback]
            body = of_ports([port.index for port in there], body, loopback=loopback)
        self._ring.attach_filter(body)

    @property
    def down(self) -> tuple[str, ...]:
        """Names of the interfaces that are down or do not exist at the moment."""
        return tuple(port.name for port in self._ports if not port.up)

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield batches in order of arrival over all interfaces, until `stop` or `close`.

        A batch's bytes lie in the ring: they are valid until the next one is asked for.
        """
        rounds = before = 0
        while self._go_on():
            n = self._ring.take(self._frames, self._number)
            if n:
                self._number += n
                self._running = False
                yield FrameBatch(self._data, self._frames[:n])
                rounds += 1
                fast, before = min(n, before) >= _MANY, n
                if not self._go_on():
                    continue
                if fast and n < _FEW and self._timeout_s and not self._stopping:
                    # A caller who waits by himself (0 s) is not kept.
                    rounds = 0
                    self._heed(woken := self._aside.poll(self._options.gather_ms))
                    if woken and not self._closed:
                        self._running = False
                        yield None
                    continue
                if rounds < _LOOK_EVERY:
                    continue
            rounds = 0
            ready = self._look(0 if n else self._timeout_s) or n > 0
            if self._stopping and not n and self._ring.drained:
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
        """Wait for frames, link events or a wake-up; True if the ring has something."""
        if self._stopping:
            # The last block is handed over by a timer of the kernel's.
            timeout_s = min(timeout_s, self._options.retire_ms / 1000)
        return self._heed(self._all.poll(timeout_s * 1000))

    def _heed(self, polled: list[tuple[int, int]]) -> bool:
        """Look after what has come; True if the ring has something."""
        ready = False
        for descriptor, what in polled:
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif descriptor == self._events.fileno():
                news = self._events.take()
                self.changes += news.links or news.addresses
                if news.links and not self._stopping:
                    self._follow(links(), news.gone)
            else:
                if what & select.POLLERR:
                    # ENETDOWN: what it means for us comes as a link event. The ring stays bound.
                    self._ring.take_error()
                ready = bool(what & select.POLLIN)
        return ready

    def _follow(self, table: dict[int, Link], gone: frozenset[int]) -> None:
        """Bring every port in line with the interfaces that there are now.

        gone: indices that were deleted, perhaps to be another interface's since."""
        by_name = {link.name: link for link in table.values()}
        for port in self._ports:
            there = self._ring.attached if self._single else port.index not in gone
            link = table.get(port.index) if there else None
            self._set_up(port, link is not None and link.up)
            if link is not None:
                continue
            had, port.index = port.index, 0
            link = by_name.get(port.name)
            try:
                if link is not None:
                    self._enter(port, link)
                if had or link is not None:
                    self._apply()
            except (OSError, InterfaceError) as error:
                port.index = 0
                self._tell(f"{port.name} is back but cannot be read: {error}")
                continue
            self._set_up(port, link is not None and link.up)

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

    def counters(self) -> dict[str, int]:
        """Return totals by name over all interfaces.

        At every instant kernel_packets = delivered + malformed + in_ring + kernel_drops, where
        in_ring is what was not taken yet, and after `close` what never was.
        """
        return self._ring.statistics() | {
            "interface_up": self._ups,
            "interface_down": self._downs,
        }

    def ports(self) -> dict[str, dict[str, int]]:
        """Return what was delivered of each interface, by its name, and the losses of its ring.

        The kernel counts losses per ring and cannot say whose frames they were: kernel_drops is
        that of all interfaces together, the same for each."""
        lost = self._ring.statistics()["kernel_drops"]
        return {
            port.name: {"delivered": self._ring.delivered_at(number), "kernel_drops": lost}
            for number, port in enumerate(self._ports)
        }

    def set_filter(self, instructions: tuple[Instruction, ...]) -> None:
        """Use another socket filter from now on; classic BPF as (code, jt, jf, k), empty: none.

        The kernel swaps the program in one step: what it has taken in already stays in the ring,
        no frame is lost that the new filter passes. An interface that comes back later gets it
        too. Raises OSError for a program that the kernel refuses, ValueError for one too long.
        """
        self._options = replace(self._options, socket_filter=tuple(instructions))
        if not self._closed and not self._stopping:
            self._attach()

    def descriptors(self) -> list[int]:
        """Return what has to be polled by who reads this beside something else."""
        return [] if self._closed else [self._ring.fileno(), self._events.fileno(), self._wake]

    def wake(self) -> None:
        """Make `batches` yield soon, from any thread: there is something else to look after."""
        if not self._closed:
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Capture nothing more, deliver what the ring holds, then end `batches`."""
        if self._closed or self._stopping:
            return
        self._stopping = True
        self._ring.stop()
        self.wake()

    def close(self) -> None:
        """End at once; what the ring still holds is counted as in_ring. Safe to call twice.

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
        released, self._released = self._released, True
        if released:
            return
        self._ring.close()
        self._data = np.zeros(0, np.uint8)  # the mapping goes with its last view
        self._events.close()
        wake, self._wake = self._wake, -1
        os.close(wake)
