"""Events of the running gateway in, a line for people as each of them comes out."""

import threading
from collections.abc import Callable
from typing import Any, Final

from ids_appliance.lab.demo.journal import Event, time_of

COLUMNS: Final = 100
_COLOURS: Final = {
    "act": "1",
    "attack": "31",
    "trigger": "33",
    "window": "36",
    "decision": "35",
    "kernel": "32;1",
    "good": "32",
    "bad": "31;1",
    "order": "34",
    "gateway": "2",
}
_SILENT: Final = frozenset({"stats"})


class Timeline:
    """Lines of a running demo, from several threads, in the order in which they are told.

    write: prints a line. names: MAC or address -> host. zero_ns: when the demo began.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], int],
        *,
        names: dict[str, str],
        colour: bool,
    ) -> None:
        self._write = write
        self._clock = clock
        self._zero_ns = clock()
        self._names = names
        self._colour = colour
        self._lock = threading.Lock()

    def say(self, kind: str, text: str) -> None:
        """Print a line of our own, now."""
        self._line(self._clock(), kind, text)

    def act(self, number: str, title: str, story: str) -> None:
        """Print the heading of an act."""
        with self._lock:
            self._write("")
        self._line(self._clock(), "act", f"{number} {title.strip()}: {story}")

    def event(self, event: Event) -> None:
        """Print an event if it says something to people who watch."""
        told = tell(event, self._names)
        if told is not None:
            self._line(time_of(event), *told)

    def _line(self, time_ns: int, kind: str, text: str) -> None:
        since = (time_ns - self._zero_ns) / 1e9
        shown = "" if kind == "act" else kind
        line = f"{since:7.2f} s  " + (f"{shown:9}" if shown else "") + text
        line = line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…"
        code = _COLOURS.get(kind, "")
        with self._lock:
            self._write(f"\x1b[{code}m{line}\x1b[0m" if self._colour and code else line)


def tell(event: Event, names: dict[str, str]) -> tuple[str, str] | None:
    """Return (kind of line, line) of an event; None for what only machines want to know."""
    kind = event["event_type"]
    what: dict[str, Any] = event.get(kind, {})
    if kind in _SILENT:
        return None
    subject = named(what.get("subject", ""), names)
    if kind == "trigger":
        return "trigger", f"{what['rule']}: {named(what.get('detail', ''), names)}"
    if kind == "window":
        return "window", _window(what)
    if kind == "decision" and what.get("action") == "decided":
        reason = named(what.get("reason", ""), names)
        return "decision", f"{words(what['response'])} {subject}: {reason}"
    if kind == "response" and what.get("action") == "applied":
        return "kernel", f"{words(what['response'])} of {subject} is in the kernel"
    if kind == "response" and what.get("action") == "ended":
        return "gateway", f"{subject} is free again"
    if kind == "response" and what.get("note"):
        return "gateway", f"{subject}: {what['note']}"
    if kind == "health" and what.get("component") not in ("order", "gateway"):
        said = what.get("message") or what.get("note", "")
        return "gateway", f"{what['component']}: {named(said, names)}"
    return None


def _window(what: dict[str, Any]) -> str:
    if what["state"] == "opened":
        return f"{what['id']} opens: every packet is judged"
    return (
        f"{what['id']} closes after {what['duration_s']:.1f} s ({what['why']}): "
        f"{what['packets']:,} packets, {what['judged']:,} judged in {what['cells_asked']:,} cells"
    )


def named(text: str, names: dict[str, str]) -> str:
    """Return a text in which hosts have their names in the place of MACs and addresses."""
    for address in sorted(names, key=len, reverse=True):
        at = text.find(address)
        while at >= 0:
            end = at + len(address)
            # Not the beginning of a longer one: 192.168.10.1 in 192.168.10.11.
            if text[end : end + 1].isdigit() or text[at - 1 : at].isdigit():
                at = text.find(address, end)
                continue
            text = text[:at] + names[address] + text[end:]
            at = text.find(address, at + len(names[address]))
    return text


def words(response: str) -> str:
    """Return a response as people read it."""
    return response.replace("_", " ")
