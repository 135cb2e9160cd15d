"""Time in, a trigger event once in so often out: a short look at what no rule sees."""

from collections.abc import Sequence

from ids_appliance import config
from ids_appliance.types import TriggerEvent


class SampleTrigger:
    """A `types.Trigger` that fires once every `sample_every_s`, first one such time after the
    first poll; a time that was missed is not made up for."""

    def __init__(self, settings: config.Window) -> None:
        self._every_ns = round(settings.sample_every_s * 1e9)
        self._detail = f"{settings.sample_s:g} s every {settings.sample_every_s:g} s"
        self.due_ns: int | None = None
        """When it fires next; None where it never will, or before the first poll."""

    def poll(self, now_ns: int) -> Sequence[TriggerEvent]:
        """Return the event if it is due; Trigger."""
        if self._every_ns <= 0:
            return ()
        if self.due_ns is None:
            self.due_ns = now_ns + self._every_ns
        if now_ns < self.due_ns:
            return ()
        self.due_ns += ((now_ns - self.due_ns) // self._every_ns + 1) * self._every_ns
        return (TriggerEvent("sample", "", now_ns, 0, None, self._detail),)
