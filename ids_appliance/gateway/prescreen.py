"""The configuration in, what prescreens out: our own screen alone, or behind Zeek."""

import ipaddress
from collections.abc import Callable, Sequence

from ids_appliance._screen import Screen
from ids_appliance.config import Config
from ids_appliance.trigger import embedded, gate, zeek
from ids_appliance.trigger.losses import Losses
from ids_appliance.trigger.standin import StandIn
from ids_appliance.trigger.zeek import ZeekTrigger
from ids_appliance.types import SENDER, Side, Trigger

Networks = Callable[[], Sequence[tuple[str, bytes, int]]]
"""On-link networks of the protected side: (interface, address, prefix length)."""
BLIND = "Zeek lives but sees no packets: is the mirror there? Our own rules prescreen"


class Prescreen:
    """What stands at `[trigger] kind`: the screen, what the gate hears of it, further triggers.

    lost: how many frames the ring could not take so far. Raises ConfigError for what the screen's
    tables cannot hold.
    """

    def __init__(
        self,
        config: Config,
        *,
        wall_ns: Callable[[], int],
        networks: Networks,
        lost: Callable[[], int],
        on_change: Callable[[str, str], None],
    ) -> None:
        self.screen = embedded.build(config.trigger)
        """Says who is who; its rules may be silent."""
        self.speaking: gate.Screen = self.screen
        """The screen as the gate is to hear it."""
        self.counts = config.trigger.kind in ("embedded", "zeek")
        """Whether the screen's rules count, silently or not."""
        self.triggers: tuple[Trigger, ...] = (Losses(self.screen, lost),) if self.counts else ()
        self._zeek: ZeekTrigger | None = None
        if config.trigger.kind != "zeek":
            return
        names = _Names(self.screen, networks)
        self._zeek = ZeekTrigger(config.zeek, names=names, wall_ns=wall_ns, on_change=on_change)
        standin = StandIn(
            self.screen,
            self._zeek,
            rules=zeek.RULES,
            on_blind=lambda blind: on_change(*("blind", BLIND) if blind else ("up", "Zeek sees")),
        )
        names.standin = standin
        self.speaking, self.triggers = standin, (*self.triggers, self._zeek)

    def counters(self) -> dict[str, int]:
        """Totals by name of what stands beside the screen."""
        return self._zeek.counters() if self._zeek is not None else {}

    def close(self) -> None:
        """Let go of Zeek's log."""
        if self._zeek is not None:
            self._zeek.close()


class _Names:
    """MACs and addresses in, canonical senders out; zeek.Names."""

    def __init__(self, screen: Screen, networks: Networks) -> None:
        self._screen = screen
        self._networks = networks
        self.standin: StandIn | None = None

    def sender(self, mac: bytes, address: bytes) -> bytes | None:
        """Return who is meant; None where nobody on the protected side is known to be."""
        if not mac and len(address) == 4:
            bound = self._screen.binding_of(address)
            mac = bound[1] if bound is not None else b""
        devices = self._screen.devices()
        seen = [(at_ns, who) for who, at_ns, _ in devices if mac and who[6:12] == mac]
        if not mac:
            seen = [(at_ns, who) for who, at_ns, shown in devices if address and shown == address]
        if seen:
            return max(seen)[1]
        if mac or not address or self._protected(address):
            return None
        return beyond(address)

    def named(self, rule: str, key: str) -> bytes | None:
        """Return whom our own silent rule names with this key."""
        return self.standin.named(rule, key) if self.standin is not None else None

    def _protected(self, address: bytes) -> bool:
        one = ipaddress.ip_address(address)
        return any(
            len(network) == len(address)
            and one in ipaddress.ip_network((network, prefix), strict=False)
            for _, network, prefix in self._networks()
        )


def beyond(address: bytes) -> bytes:
    """Return the canonical SENDER record of an address beyond us: IPv6 by its /64."""
    shown = address if len(address) == 4 else address[:8]
    record = bytearray(SENDER.itemsize)
    record[4], record[5] = Side.WAN, 4 if len(address) == 4 else 6
    record[12 : 12 + len(shown)] = shown
    return bytes(record)
