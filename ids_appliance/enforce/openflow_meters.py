"""Needs of decisions in, numbers of meters on the switch out; each sender has a meter of its own.

Meters have neither owner nor end in OpenFlow: ours are a range of numbers that the mark chooses,
and one that nobody uses costs the switch a few bytes. One kind has one rate, so a meter that is
there already serves the next sender as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.openflow_switch import Switch

FIRST: Final = 20_000
SPAN: Final = 2048
"""Meters of one mark; 16 marks stay below 65,536."""


@dataclass(frozen=True, slots=True)
class _Kind:
    first: int
    """Offset in the range. That number is shared by all who find no other free."""
    count: int
    rate_pps: int
    burst: int


class Meters:
    """Give meters out and take them back; `ready` makes the switch have those that are needed."""

    def __init__(self, enforce: Enforce, switch: Switch) -> None:
        self._switch = switch
        self._first = FIRST + SPAN * enforce.openflow.mark
        limit, flows = enforce.rate_limit_pps, enforce.new_flows_per_minute
        self._kinds = {
            "discovery": _Kind(0, 1, 10, 10),
            "leases": _Kind(1, 1, 10, 10),
            "limit": _Kind(2, 1022, limit, limit),
            "opening": _Kind(1024, 512, max(1, flows // 60), max(1, flows)),
            "flood": _Kind(1536, 512, 200, 20),
        }
        self._free = {
            name: list(
                range(self._first + kind.first + kind.count - 1, self._first + kind.first, -1)
            )
            for name, kind in self._kinds.items()
        }
        self._there: set[int] = set()

    def take(self, kind: str) -> int:
        """Return a meter; the shared one where all others are taken."""
        return self._free[kind].pop() if self._free[kind] else self.shared(kind)

    def shared(self, kind: str) -> int:
        """Return the meter that all may use."""
        return self._first + self._kinds[kind].first

    def give(self, numbers: Iterable[int]) -> None:
        """Take meters back; shared ones stay."""
        for number in numbers:
            name = self.kind_of(number)
            if number != self.shared(name):
                self._free[name].append(number)

    def kind_of(self, number: int) -> str:
        """Return what a meter of ours is for."""
        offset = number - self._first
        return next(n for n, k in self._kinds.items() if k.first <= offset < k.first + k.count)

    def look(self) -> None:
        """See which meters the switch has, and let those of another rate go. Raises SwitchError."""
        self._there = set()
        for number, has in self._ours().items():
            kind = self._kinds[self.kind_of(number)]
            if has == (kind.rate_pps, kind.burst):
                self._there.add(number)
            else:
                self._switch.delete_meter(number)

    def ready(self, numbers: Iterable[int]) -> None:
        """Let the switch have these meters. Raises SwitchError."""
        for number in dict.fromkeys(numbers):
            if number not in self._there:
                kind = self._kinds[self.kind_of(number)]
                self._switch.add_meter(number, rate_pps=kind.rate_pps, burst=kind.burst)
                self._there.add(number)

    def remove(self) -> None:
        """Leave none of ours on the switch. Raises SwitchError."""
        for number in self._ours():
            self._switch.delete_meter(number)
        self._there = set()

    def dropped(self) -> dict[str, int]:
        """Return the packets dropped by kind of meter. Raises SwitchError."""
        found = dict.fromkeys(self._kinds, 0)
        for number, packets in self._switch.metered().items():
            if self._first <= number < self._first + SPAN:
                found[self.kind_of(number)] += packets
        return found

    def _ours(self) -> dict[int, tuple[int, int]]:
        return {
            number: has
            for number, has in self._switch.meters().items()
            if self._first <= number < self._first + SPAN
        }
