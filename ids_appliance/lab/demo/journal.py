"""The running gateway's events in; for each act what was triggered, opened and decided out."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ids_appliance.errors import ControlError
from ids_appliance.gateway.client import Client

Event = dict[str, Any]
MANY: Final = 2000
"""The latest events asked for at first: all since the start, as the demo begins with it."""
SOONER: Final = {
    "dos": ("failed_connections",),
    "port_scan": ("slow_scan",),
    "mirai": ("slow_scan", "arp_sweep"),
    "arp_spoof": ("arp_insistence",),
}
"""Published rule -> further rules that may see the same first."""


def time_of(event: Event) -> int:
    """Return an event's time in nanoseconds since the epoch."""
    moment = datetime.fromisoformat(event["timestamp"])
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


class Journal:
    """Follows a gateway's events in a thread until the gateway ends."""

    def __init__(self, run_dir: Path, *, listener: Callable[[Event], None]) -> None:
        """Raises ControlError where no gateway answers."""
        self._client = Client(run_dir)
        self._listener = listener
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self.missed = 0
        """Events that the gateway could not hand over."""
        self.problem = ""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self._client.follow(MANY):
                with self._changed:
                    if isinstance(event, int):
                        self.missed += event
                    else:
                        self._events.append(event)
                    self._changed.notify_all()
                if not isinstance(event, int):
                    self._listener(event)
        except ControlError as error:
            self.problem = str(error)

    @property
    def follows(self) -> bool:
        """Events still come."""
        return self._thread.is_alive()

    def since(self, start_ns: int) -> list[Event]:
        """Return the events from a time on."""
        with self._changed:
            return [e for e in self._events if time_of(e) >= start_ns]

    def wait(self, start_ns: int, wanted: Callable[[Event], bool], *, limit_s: float) -> bool:
        """Wait until there is such an event from a time on; return whether there is."""

        def there() -> bool:
            return any(time_of(e) >= start_ns and wanted(e) for e in reversed(self._events))

        with self._changed:
            return self._changed.wait_for(there, limit_s)

    def close(self) -> None:
        """Wait for the end; call it after the gateway's."""
        self._thread.join(5.0)
        self._client.close()


@dataclass(slots=True)
class Told:
    """One decision, or that it holds in the kernel."""

    time_ns: int
    subject: str
    response: str
    reason: str
    culprit: bool
    """It is about the act's attacker."""


@dataclass(slots=True)
class Story:
    """What the gateway told during one act."""

    trigger_ns: int | None = None
    """First one of the act's rule, or of any where the act has none."""
    rules: dict[str, int] = field(default_factory=dict)
    """Rule -> how often it fired."""
    windows: list[dict[str, Any]] = field(default_factory=list)
    """Closed ones, as told, with opened_ns and closed_ns."""
    open_ids: set[int] = field(default_factory=set)
    """Windows still open at the end."""
    decided: list[Told] = field(default_factory=list)
    applied: list[Told] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    """What was not done, and why (allowed, protected)."""
    warnings: list[str] = field(default_factory=list)

    @property
    def accused(self) -> list[str]:
        """Others than the attacker about whom something was decided."""
        return sorted({told.subject for told in self.decided if not told.culprit})

    def total(self, name: str) -> int:
        """Return a count summed over the windows."""
        return sum(window.get(name, 0) for window in self.windows)

    @property
    def contained_ns(self) -> int | None:
        """When the first decision about the attacker held in the kernel."""
        return next((told.time_ns for told in self.applied if told.culprit), None)


def story(
    events: Iterable[Event], *, culprit: Callable[[Event], bool], opens: Sequence[str]
) -> Story:
    """Put an act's events together.

    culprit: whether an event's decision is about the attacker. opens: rules that the act should
    set off, they or what sees the same SOONER; empty: any.
    """
    found = Story()
    expected = {*opens, *(rule for name in opens for rule in SOONER.get(name, ()))}
    opened: dict[int, int] = {}
    for event in events:
        kind = event["event_type"]
        what = event.get(kind, {})
        time_ns = time_of(event)
        if kind == "trigger":
            rule = what["rule"]
            found.rules[rule] = found.rules.get(rule, 0) + 1
            if found.trigger_ns is None and (not opens or rule in expected):
                found.trigger_ns = time_ns
        elif kind == "window" and what["state"] == "opened":
            opened[what["id"]] = time_ns
        elif kind == "window":
            begun = opened.pop(what["id"], None)
            found.windows.append(what | {"opened_ns": begun, "closed_ns": time_ns})
        elif kind == "decision" and what.get("action") == "decided":
            found.decided.append(_told(event, what, culprit))
        elif kind == "response":
            if what.get("action") == "applied":
                found.applied.append(_told(event, what, culprit))
            elif what.get("action") not in ("ended",):
                about = what.get("subject", "")
                found.spared.append(f"{about} {what.get('action')}: {what.get('note', '')}".strip())
        elif kind == "health" and what.get("state") in ("warning", "down", "alarm"):
            found.warnings.append(f"{what['component']}: {what.get('message', '')}")
    found.open_ids = set(opened)
    return found


def _told(event: Event, what: dict[str, Any], culprit: Callable[[Event], bool]) -> Told:
    return Told(
        time_of(event), what["subject"], what["response"], what.get("reason", ""), culprit(event)
    )
