"""What a drill has seen, line by line, and which of it is harm."""

from dataclasses import dataclass
from typing import Literal

Mark = Literal["ok", "HARM", "said"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    drill: str
    what: str
    seen: str
    mark: Mark
    """said: neither right nor wrong, people have to know it."""


class Report:
    """The lines of one drill."""

    def __init__(self, drill: str) -> None:
        self.drill = drill
        self.lines: list[Line] = []

    def expect(self, fine: bool, what: str, seen: object) -> None:
        """Note what was seen, and whether it is as it must be."""
        self._add(what, seen, "ok" if fine else "HARM")

    def say(self, what: str, seen: object) -> None:
        """Note what people have to know."""
        self._add(what, seen, "said")

    @property
    def harmed(self) -> bool:
        """Return whether anything was harmed."""
        return any(line.mark == "HARM" for line in self.lines)

    def _add(self, what: str, seen: object, mark: Mark) -> None:
        self.lines.append(Line(self.drill, what, str(seen), mark))


def table(lines: list[Line]) -> str:
    """Return lines as a table for people."""
    width = max((len(line.what) for line in lines), default=0)
    return "\n".join(f"{line.mark:4}  {line.what:{width}}  {line.seen}" for line in lines)
