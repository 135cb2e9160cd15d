"""The settings of the further trigger rules, those beyond the four published ones."""

from typing import Annotated

from msgspec import Meta

from ids_appliance.config.terms import Count, Distinct, Seconds, Section


class Slow(Section, frozen=True, forbid_unknown_fields=True):
    """The scan rules over sixty seconds."""

    enabled: bool = True
    """Whether the rule is evaluated."""
    window_s: Seconds = 60.0
    """Its own rule window."""
    ports: Distinct = 8
    """As ports of port_scan, over the longer window."""
    hosts: Distinct = 64
    """As hosts of mirai, over the longer window."""
    ports_alone: Annotated[int, Meta(ge=0, le=65_535)] = 128
    """As alone of port_scan, over the longer window; 0: never."""
    hosts_alone: Annotated[int, Meta(ge=0, le=64)] = 64
    """As alone of mirai, over the longer window; 0: never."""


class Rate(Section, frozen=True, forbid_unknown_fields=True):
    """A count per window and key above which a further rule fires; see its field in Trigger."""

    enabled: bool = False
    """Whether the rule is evaluated."""
    count: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Count in a rule window from which on it fires."""


class Convicting(Section, frozen=True, forbid_unknown_fields=True):
    """As Rate, with a second count that no ordinary sender comes near: there no model is asked."""

    enabled: bool = False
    """Whether the rule is evaluated."""
    count: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Count in a rule window from which on it fires."""
    alone: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Count from which on the rule alone limits the sender; 0: never."""


class Repeated(Section, frozen=True, forbid_unknown_fields=True):
    """One source is answered by one port of one host again and again."""

    enabled: bool = True
    """Whether the rule is evaluated."""
    count: Count = 20
    """Connections in a rule window from which on it fires."""
    slow_count: Count = 50
    """The same over slow_scan.window_s."""
    alone: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 100
    """As slow_count, from which on the rule alone limits the sender; 0: never."""


class ArpSweep(Section, frozen=True, forbid_unknown_fields=True):
    """One MAC asks for the addresses of a whole network."""

    enabled: bool = True
    """Whether the rule is evaluated; it alone limits the sender."""
    targets: Distinct = 64
    """Addresses in a rule window from which on it fires."""


class ArpInsistence(Section, frozen=True, forbid_unknown_fields=True):
    """One MAC goes on claiming, unasked, what another holds, or several addresses."""

    enabled: bool = True
    """Whether the rule is evaluated; it alone cuts the sender off."""
    replies: Count = 10
    """Replies over slow_scan.window_s, and for 10 s at least, from which on it fires."""
