"""A person's word in, trigger events out: open or close the window by hand."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from ids_appliance.types import TriggerEvent

MAX_ASKED: Final = 64
"""Requests kept until the next poll; older ones give way."""


class ManualTrigger:
    """A `types.Trigger` that fires when it is told to, from any thread."""

    def __init__(self) -> None:
        self._asked: deque[tuple[str, str]] = deque(maxlen=MAX_ASKED)

    def open(self, detail: str = "opened by hand") -> None:
        """Open the window, or keep it open for its whole length from now."""
        self._asked.append(("open", detail))

    def close(self, detail: str = "closed by hand") -> None:
        """Close the window now."""
        self._asked.append(("close", detail))

    def poll(self, now_ns: int) -> Sequence[TriggerEvent]:
        """Return what was asked since the last call, in order; Trigger."""
        events = []
        while self._asked:
            key, detail = self._asked.popleft()
            events.append(TriggerEvent("manual", key, now_ns, 0, None, detail))
        return events
