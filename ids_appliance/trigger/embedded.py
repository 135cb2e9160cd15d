"""The configuration's section [trigger] in, the compiled prescreener that counts by it out.

The rules and their semantics are in docs/triggers.md. Where the kind of trigger is `always` or
`manual`, the screen still says who is who (types.Standing, bindings, devices), but no rule of it
fires; behind Zeek its rules count on (trigger/standin.py).
"""

import ipaddress

from ids_appliance._screen import Screen
from ids_appliance.config import Trigger
from ids_appliance.config.further import Convicting, Rate, Repeated
from ids_appliance.errors import ConfigError
from ids_appliance.types import TriggerEvent

_NS = 1_000_000_000


def build(trigger: Trigger) -> Screen:
    """Return a screen with the rules that are switched on.

    Raises ConfigError for a number that its tables cannot hold, or a binding that is none.
    """
    try:
        return Screen(settings(trigger), bindings=_bindings(trigger.bindings))
    except ValueError as error:
        raise ConfigError(f"[trigger] {error}") from error


def event(fired: tuple[str, str, int, int, bytes | None, str, bool]) -> TriggerEvent:
    """Name the fields of what the screen returned."""
    return TriggerEvent(*fired)


def settings(trigger: Trigger) -> dict[str, float]:
    """Return every setting of _screen.SETTINGS; a count of 0 turns a rule off."""
    embedded = trigger.kind in ("embedded", "zeek")
    dos, scan, mirai, arp, slow = (
        trigger.dos,
        trigger.port_scan,
        trigger.mirai,
        trigger.arp_spoof,
        trigger.slow_scan,
    )

    def count(value: int, on: bool) -> int:
        if embedded and on and value < 1:
            raise ValueError("a rule that is enabled needs a count of at least 1")
        return value if embedded and on else 0

    def rate(rule: Rate | Convicting) -> int:
        return count(rule.count, rule.enabled)

    def above(alone: int, value: int, on: bool) -> int:
        # Who looks later on than a rule would convict is not refused: it convicts when it fires.
        return max(alone, value) if alone and embedded and on else 0

    def alone(rule: Convicting | Repeated) -> int:
        return above(rule.alone, rule.count, rule.enabled)

    repeated = trigger.repeated_connections

    return {
        "window_ns": round(trigger.rule_window_s * _NS),
        "slow_window_ns": round(slow.window_s * _NS),
        "no_answer_ns": round(trigger.no_answer_s * _NS),
        "brief_ns": round(mirai.brief_s * _NS),
        "hold_down_ns": round(trigger.hold_down_s * _NS),
        "overflow": int(embedded),
        "dos_syns": count(dos.syns, dos.enabled),
        "dos_handshake_ratio": dos.handshake_ratio,
        "scan_ports": count(scan.ports, scan.enabled),
        "scan_failed_ratio": scan.failed_ratio,
        "mirai_hosts": count(mirai.hosts, mirai.enabled),
        "mirai_top_ports": mirai.top_ports,
        "mirai_top_ports_ratio": mirai.top_ports_ratio,
        "mirai_failed_or_brief_ratio": mirai.failed_or_brief_ratio,
        "mirai_brief_packets": mirai.brief_packets,
        "mirai_echo_hosts": count(mirai.echo_hosts, mirai.enabled),
        "mirai_arp_targets": count(mirai.arp_targets, mirai.enabled),
        "arp_unsolicited": count(arp.unsolicited, arp.enabled),
        "arp_mac_changes": count(arp.mac_changes, arp.enabled),
        "slow_ports": count(slow.ports, slow.enabled),
        "slow_hosts": count(slow.hosts, slow.enabled),
        "connection_rate": rate(trigger.connection_rate),
        "udp_rate": rate(trigger.udp_rate),
        "icmp_rate": rate(trigger.icmp_rate),
        "idle_connections": rate(trigger.idle_connections),
        "unsolicited_answers": rate(trigger.unsolicited_answers),
        "failed_connections": rate(trigger.failed_connections),
        "repeated_connections": count(repeated.count, repeated.enabled),
        "slow_repeated": count(repeated.slow_count, repeated.enabled),
        "udp_exchanges": rate(trigger.udp_exchanges),
        "arp_sweep": count(trigger.arp_sweep.targets, trigger.arp_sweep.enabled),
        "arp_insistence": count(trigger.arp_insistence.replies, trigger.arp_insistence.enabled),
        "impossible_flags": rate(trigger.impossible_flags),
        "scan_alone": above(scan.alone, scan.ports, scan.enabled),
        "mirai_alone": above(mirai.alone, mirai.hosts, mirai.enabled),
        "slow_ports_alone": above(slow.ports_alone, slow.ports, slow.enabled),
        "slow_hosts_alone": above(slow.hosts_alone, slow.hosts, slow.enabled),
        "flags_alone": alone(trigger.impossible_flags),
        "repeated_alone": alone(repeated),
        "slow_repeated_alone": alone(repeated),
        "udp_exchanges_alone": alone(trigger.udp_exchanges),
        "icmp_alone": alone(trigger.icmp_rate),
        "unsolicited_alone": alone(trigger.unsolicited_answers),
        "failed_alone": alone(trigger.failed_connections),
        "max_flows": trigger.max_flows,
        "max_keys": trigger.max_keys,
        "max_senders": trigger.max_senders,
        "max_bindings": trigger.max_bindings,
    }


def _bindings(configured: dict[str, str]) -> list[tuple[bytes, bytes]]:
    found = []
    for address, mac in configured.items():
        try:
            packed = ipaddress.IPv4Address(address).packed
            parts = [int(part, 16) for part in mac.split(":")]
        except ValueError:
            raise ValueError(f"bindings: {address} = {mac}: an IPv4 address and a MAC") from None
        if len(parts) != 6 or not all(0 <= part <= 255 for part in parts):
            raise ValueError(f"bindings: {mac} is no MAC")
        found.append((packed, bytes(parts)))
    return found
