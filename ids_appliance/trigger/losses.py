"""The number of frames lost in the ring in, the screen's doubt out: it fires nothing itself."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ids_appliance.types import TriggerEvent

EVERY_NS: Final = 50_000_000
"""So often the number is asked for at most: it is a call of the kernel's."""


class Doubting(Protocol):
    """Who has to know that frames were lost; `_screen.Screen`."""

    def doubt(self) -> None:
        """Conclude nothing from what is missing, for a while."""


class Losses:
    """A `types.Trigger` that never fires: it tells the screen when it cannot have seen all.

    lost: frames that were lost so far. Half of a scan's SYNs missed, its victim's refusals would
    be answers that nobody asked for.
    """

    def __init__(self, screen: Doubting, lost: Callable[[], int]) -> None:
        self._screen = screen
        self._lost = lost
        self._before = lost()
        self._next_ns = 0

    def poll(self, now_ns: int) -> Sequence[TriggerEvent]:
        """Look whether more were lost; Trigger."""
        if now_ns < self._next_ns:
            return ()
        self._next_ns = now_ns + EVERY_NS
        lost = self._lost()
        if lost != self._before:
            self._before = lost
            self._screen.doubt()
        return ()
