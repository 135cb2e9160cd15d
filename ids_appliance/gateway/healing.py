"""ARP forgers that were cut off in, corrections for those who may have believed them out.

Remembers which addresses a MAC has claimed, as the triggers say; once the kernel has cut it off,
everybody known on the protected side is told who truly has them.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ids_appliance.capture.netlink import addresses, links
from ids_appliance.enforce.heal import Binding, Healer
from ids_appliance.gateway.network import Bindings, Interfaces
from ids_appliance.types import Applied, Kind, Response, TriggerEvent

MAX_FORGERS: Final = 256
MAX_CLAIMED: Final = 64
MAX_TOLD: Final = 256
RULE: Final = "arp_spoof"


class Healing:
    """`saw` each trigger, `acted` each answer of the kernel's, `tick` often. One thread."""

    def __init__(
        self,
        screen: Bindings,
        names: Interfaces,
        *,
        clock: Callable[[], float],
        on_note: Callable[[str, str], None],
    ) -> None:
        self._screen = screen
        self._names = names
        self._healer = Healer(clock=clock, on_note=on_note)
        self._claimed: OrderedDict[bytes, set[bytes]] = OrderedDict()
        self._waiting = False

    def saw(self, event: TriggerEvent) -> None:
        """Remember whose address a forger has claimed: the trigger's key, where it is one."""
        if event.rule != RULE or event.sender is None:
            return
        try:
            address = ipaddress.IPv4Address(event.key).packed
        except ValueError:
            return  # it counts by MAC: unsolicited replies
        mac = event.sender[6:12]
        claimed = self._claimed.setdefault(mac, set())
        self._claimed.move_to_end(mac)
        if len(claimed) < MAX_CLAIMED:
            claimed.add(address)
        if len(self._claimed) > MAX_FORGERS:
            self._claimed.popitem(last=False)

    def acted(self, answer: Applied) -> None:
        """Put caches right, where a forger has just been cut off."""
        subject = answer.decision.subject
        cut_off = answer.done and answer.decision.response is Response.QUARANTINE
        if subject.kind is not Kind.MAC or not cut_off:
            return
        claimed = self._claimed.pop(subject.value, None)
        if not claimed:
            return
        known = self._known()
        true = [binding for binding in known if binding.address in claimed]
        true += [own for own in self._own() if own.address in claimed]
        self._healer.heal(subject.value, true, victims=known[:MAX_TOLD])
        self._waiting = True

    def tick(self) -> None:
        """Send what is due; cheap where nothing waits."""
        if self._waiting:
            self._waiting = self._healer.tick() is not None

    def close(self) -> None:
        """Send nothing more."""
        self._healer.close()

    def counters(self) -> dict[str, int]:
        """Totals of the healer."""
        return self._healer.counters()

    def _known(self) -> list[Binding]:
        return [
            Binding(address, mac, self._names.name(ifindex))
            for address, mac, ifindex, _, _ in self._screen.bindings()
        ]

    def _own(self) -> list[Binding]:
        table = links()
        return [
            Binding(address, table[index].mac, table[index].name)
            for index, address, _ in addresses()
            if len(address) == 4 and index in table and len(table[index].mac) == 6
        ]
