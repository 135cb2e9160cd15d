"""The settings of [tc]: who waits for whom where a link is full."""

from typing import Annotated

from msgspec import Meta

from ids_appliance.config.terms import Section

Port = Annotated[int, Meta(ge=1, le=65_535)]
CodePoint = Annotated[int, Meta(ge=0, le=63)]


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
