"""A tap and a place for its frames in, a recording out, with an account of every frame.

tcpdump's count = kept + discarded (no room on the disk) + unaccounted, 0 unless tcpdump was killed.
What the kernel dropped before, for want of buffer, is counted beside it and told.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ids_appliance.errors import CaptureError, InterfaceError
from ids_appliance.monitor.dump import Dump
from ids_appliance.monitor.rotation import Tell
from ids_appliance.monitor.stream import Records

RETRY_S: Final = 2.0
"""Time until an interface that went away is tried again."""
GRACE_S: Final = 1.1
"""The kernel hands frames over in blocks, at the latest after the second that tcpdump waits: what
was seen before the order to stop has come by then."""
_LOOK_S: Final = 0.25


class Sink(Protocol):
    """Where records go: onefile.OneFile or rotation.Ring."""

    frames: int
    discarded: int

    def begin(self, stream: Records) -> None: ...
    def put(self, stream: Records, records: bytes, ends: Sequence[int]) -> None: ...
    def tick(self) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the frames so far."""

    captured: int
    """Frames that tcpdump has handed over, by its own count."""
    kept: int
    discarded: int
    kernel_drops: int
    interface_drops: int
    interruptions: int

    @property
    def unaccounted(self) -> int:
        """Frames that nobody can say anything about; only at the end of a recording exact."""
        return self.captured - self.kept - self.discarded


class Recorder:
    """Records with one tcpdump after the other; `stop` may be called from a signal handler."""

    def __init__(
        self, words: Sequence[str], where: str, *, tell: Tell, clock: Callable[[], float]
    ) -> None:
        """`words` start tcpdump (container.words); `clock` gives seconds that only grow."""
        self._words = words
        self._where = where
        self._tell = tell
        self._clock = clock
        self._dump: Dump | None = None
        self._stopped = threading.Event()
        self._before = {"captured": 0, "kernel_drops": 0, "interface_drops": 0}
        self._told_drops = 0
        self._interruptions = 0
        self.listening = False
        """Whether frames are being seen."""

    def once(self, sink: Sink, on_look: Callable[[], None]) -> None:
        """Record until tcpdump ends by itself or is stopped; `on_look` is called every second.

        Raises InterfaceError, PermissionMissing: it could not begin. CaptureError: it was killed.
        """
        self._record(sink, on_look)
        status = self._dump.status if self._dump else 0
        if status and not self._stopped.is_set():
            raise CaptureError(f"tcpdump at {self._where} ended early, with status {status}")

    def keep_on(self, sink: Sink, on_look: Callable[[], None]) -> None:
        """Record until stopped; an interface that goes away is waited for.

        Raises InterfaceError, PermissionMissing: it could not begin the first time."""
        begun = False
        while not self._stopped.is_set():
            try:
                self._record(sink, on_look)
                begun = True
            except InterfaceError:
                if not begun:
                    raise
            if self._stopped.is_set():
                break
            if self.listening:
                self.listening = False
                self._interruptions += 1
                self._tell(
                    "capture_interrupted",
                    f"nothing is captured at {self._where} for the moment: trying again",
                )
            self._stopped.wait(RETRY_S)

    def _record(self, sink: Sink, on_look: Callable[[], None]) -> None:
        stream = Records()
        self._dump = dump = Dump(self._words, where=self._where, clock=self._clock)
        begun = False
        looked = self._clock()
        ordered: float | None = None
        try:
            for data in dump.chunks(_LOOK_S):
                if dump.started and not self.listening:
                    self.listening = True
                    on_look()
                if data:
                    records, ends = stream.feed(data)
                    if stream.head and not begun:
                        sink.begin(stream)
                        begun = True
                    if ends:
                        sink.put(stream, records, ends)
                sink.tick()
                self._tell_drops()
                now = self._clock()
                if now - looked >= 1.0:
                    looked = now
                    on_look()
                if self._stopped.is_set():
                    ordered = now if ordered is None else ordered
                    if now - ordered >= GRACE_S:
                        dump.stop()
            self._tell_drops()
        except OSError as error:
            raise CaptureError(f"the capture cannot be written: {error.strerror}") from error
        finally:
            dump.close()
            self._before = {name: n + dump.counts[name] for name, n in self._before.items()}
            dump.counts = dict.fromkeys(dump.counts, 0)

    def _tell_drops(self) -> None:
        drops = self._count("kernel_drops")
        if drops > self._told_drops:
            lost, self._told_drops = drops - self._told_drops, drops
            self._tell(
                "capture_kernel_drops",
                f"the kernel dropped {lost} frames at {self._where}: its buffer was full",
                frames=lost,
                total=drops,
            )

    def _count(self, name: str) -> int:
        return self._before[name] + (self._dump.counts[name] if self._dump else 0)

    def stop(self) -> None:
        """End in order: what was seen until now is still written."""
        self._stopped.set()

    def account(self, sink: Sink) -> Account:
        """Return what became of the frames so far."""
        return Account(
            captured=self._count("captured"),
            kept=sink.frames,
            discarded=sink.discarded,
            kernel_drops=self._count("kernel_drops"),
            interface_drops=self._count("interface_drops"),
            interruptions=self._interruptions,
        )
