"""The settings of [tc]: who waits for whom where a link is full."""

import re
from typing import Annotated, Final

from msgspec import Meta

from ids_appliance.config.terms import Section

Port = Annotated[int, Meta(ge=1, le=65_535)]
CodePoint = Annotated[int, Meta(ge=0, le=63)]


AUTO: Final = "auto"
AUTO_SHARE: Final = 0.95
LEAST: Final = 64_000
MOST: Final = 400_000_000_000
_UNITS: Final = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


class Tc(Section, frozen=True, forbid_unknown_fields=True):
    """Queues by urgency on outgoing interfaces; nothing is set up where no rate is named."""

    rates: dict[str, str] = {}
    """Outgoing interface -> what its link really carries ("18 mbit"), or "auto": 95 % of the speed
    that the interface states. Too high a rate, and the queues form where nobody sorts them."""
    priority_share: Annotated[float, Meta(ge=0.05, le=0.8)] = 0.4
    """Part of the rate that prioritised traffic is assured of; it may have nine tenths."""
    suspect_share: Annotated[float, Meta(ge=0.005, le=0.5)] = 0.05
    """The most that all who are deprioritised may have together, also on an idle link."""
    dscp: tuple[CodePoint, ...] = (18, 40, 44, 46, 48)
    """Code points that are prioritised: AF21 (interactive), CS5, VOICE-ADMIT, EF, CS6."""
    tcp_ports: tuple[Port, ...] = (22, 23, 53, 853, 1883, 3389, 8883)
    """Prioritised, at either end: SSH, Telnet, DNS, RDP, MQTT."""
    udp_ports: tuple[Port, ...] = (53, 123, 853, 5683, 5684)
    """Prioritised, at either end: DNS, NTP, CoAP."""
    all_tcp: bool = False
    """All TCP is prioritised, and nothing else by port or code point."""


def rate(text: str) -> int:
    """Return bits a second of a rate such as "18mbit", 0 for "auto". Raises ValueError."""
    if text == AUTO:
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmg]bit)", text)
    bits = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if not LEAST <= bits <= MOST:
        raise ValueError(
            f'{text!r} is no rate of a link: write "900 kbit", "18 mbit" or "1 gbit" (64 kbit at '
            'least), or "auto"'
        )
    return bits
