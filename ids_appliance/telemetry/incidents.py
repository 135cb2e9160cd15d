"""Events in, notices out: one per incident, with who it was in words that people know.

An incident is one attack by one sender, or one thing that is wrong with the appliance. A sender
that turns to something else is a new incident; so is one that comes again after its decision has
ended.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ids_appliance.config import Trigger
from ids_appliance.config.notices import Notices

MAX_INCIDENTS: Final = 4096
"""Remembered at a time; the one told longest ago is forgotten first, and would be told again."""
_MAX_STANDING: Final = 65_536
_MAX_TEXT: Final = 400
_RULES: Final = tuple(
    name
    for name in Trigger.__struct_fields__
    if isinstance(getattr(Trigger(), name), msgspec.Struct)
)
_CAUSE: Final = re.compile(rf"\b({'|'.join((*_RULES, 'zeek', 'by hand', 'evidence'))})\b")
_WRONG: Final = frozenset({"warning", "alarm", "down", "failed"})
"""States of a health event that somebody should hear of."""
_WHO: Final = ("src_ip", "src_mac", "interface", "dest_ip", "dest_port", "device")

Event = Mapping[str, Any]
Notice = dict[str, Any]
"""What is sent, as JSON: kind, title, attack, host, timestamp, incident, event_id, and who."""


@dataclass(slots=True)
class _Told:
    at_s: float
    about: str
    """Sender that it was about, as decisions name him."""
    unseen: int = 0
    """Events since then that nobody was told of."""


class Incidents:
    """What has been told; not safe for several threads."""

    def __init__(self, settings: Notices) -> None:
        self._about = frozenset(settings.about)
        self._repeat_s = settings.repeat_s
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._standing: set[str] = set()
        self.suppressed = 0

    @property
    def standing(self) -> int:
        """How many senders something is done about."""
        return len(self._standing)

    def take(self, event: Event, now_s: float) -> Notice | None:
        """Return what has to be told of an event, None where nothing has."""
        kind = str(event.get("event_type", ""))
        detail = event.get(kind)
        if not isinstance(detail, Mapping):
            return None
        if kind == "response":
            if detail.get("action") == "ended":
                self._end(str(detail.get("subject", "")))
                return None
            if detail.get("action") == "applied" and len(self._standing) < _MAX_STANDING:
                self._standing.add(str(detail.get("subject", "")))
        if kind == "trigger":
            about, attack = str(detail.get("sender", "")), str(detail.get("rule", ""))
            return self._tell(
                ("trigger", attack, str(detail.get("key", ""))), about, now_s,
                lambda: _notice(event, "trigger", attack, f"{attack}: {detail.get('detail', '')}"),
            )  # fmt: skip
        if kind == "decision" and detail.get("action") == "decided":
            about = str(detail.get("subject", ""))
            causes = list(dict.fromkeys(_CAUSE.findall(str(detail.get("reason", "")))))
            attack = causes[0] if causes else "unknown"
            return self._tell(
                ("decision", about, attack), about, now_s,
                lambda: _decided(event, detail, attack),
            )  # fmt: skip
        return self._alarm(event, detail, now_s) if kind == "health" else None

    def _alarm(self, event: Event, detail: Event, now_s: float) -> Notice | None:
        component = str(detail.get("component", detail.get("what", "")))
        wrong = detail.get("state") in _WRONG or "breaker" in (component, detail.get("action"))
        # Of our own troubles only the log tells: a notice about them would come by the same way.
        if component == "notices" or not (wrong or component == "events_lost"):
            return None
        text = str(detail.get("message") or detail.get("note") or detail.get("detail") or "")
        key = ("alarm", component, re.sub(r"\d+", "#", text)[:100])
        return self._tell(
            key, "", now_s, lambda: _notice(event, "alarm", component, f"{component}: {text}")
        )

    def _tell(self, key: tuple[str, ...], about: str, now_s: float, make: Any) -> Notice | None:
        if key[0] not in self._about:
            return None
        before = self._told.get(key)
        if before is not None and now_s < before.at_s + self._repeat_s:
            before.unseen += 1
            self.suppressed += 1
            return None
        self._told[key] = _Told(now_s, about)
        self._told.move_to_end(key)
        while len(self._told) > MAX_INCIDENTS:
            self._told.popitem(last=False)
        notice: Notice = make()
        notice["incident"] = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
        if before is not None:
            notice["again"] = before.unseen + 1
        return notice

    def _end(self, about: str) -> None:
        self._standing.discard(about)
        gone = [key for key in self._told if key[0] == "decision" and key[1] == about]
        for key in gone:
            del self._told[key]


def who(event: Event) -> str:
    """Return whom an event is about, for people: name, maker, MAC and address, as far as known."""
    device = event.get("device") or {}
    known = [device.get("vendor"), event.get("src_mac"), event.get("src_ip")]
    rest = ", ".join(str(one) for one in known if one)
    name = device.get("name")
    if name:
        return f"{name} ({rest})" if rest else str(name)
    if rest:
        return rest
    port = f" port {event['dest_port']}" if "dest_port" in event else ""
    return f"attack on {event['dest_ip']}{port}" if "dest_ip" in event else "somebody"


def _decided(event: Event, detail: Event, attack: str) -> Notice:
    response = str(detail.get("response", ""))
    seconds = float(detail.get("duration_s") or 0)
    what = "is only observed" if response == "observe" else f"{response} for {seconds:.0f} s"
    notice = _notice(event, "decision", attack, f"{what}: {detail.get('reason', '')}")
    return notice | {"response": response, "duration_s": seconds}


def _notice(event: Event, kind: str, attack: str, text: str) -> Notice:
    about = "" if kind == "alarm" else f"{who(event)}: "
    notice: Notice = {
        "kind": kind,
        "title": f"{about}{text}"[:_MAX_TEXT],
        "attack": attack,
        "host": event.get("host", ""),
        "timestamp": event.get("timestamp", ""),
        "event_id": event.get("event_id", ""),
    }
    return notice | {name: event[name] for name in _WHO if name in event}
