"""One change that is still to be made: the lines that say it to people, and how it is done."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a plan: done as a whole, or found half done and made anew."""

    lines: tuple[str, ...]
    """What will be different, each with its sign: + made, ~ changed, - removed."""
    do: Callable[[], None]
    """Do it. Raises MonitorError."""
