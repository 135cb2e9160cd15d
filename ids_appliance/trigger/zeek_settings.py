"""The configuration's rules in, Zeek's redefs out: both prescreeners count by the same numbers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Trigger
from ids_appliance.trigger import embedded

_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ADDRESS: Final = re.compile(r"[0-9a-f.:]+")
_COUNTS: Final = (
    "dos_syns",
    "scan_ports",
    "mirai_hosts",
    "mirai_top_ports",
    "mirai_echo_hosts",
    "mirai_arp_targets",
    "arp_unsolicited",
    "arp_mac_changes",
    "max_flows",
    "max_keys",
    "max_bindings",
)
_RATIOS: Final = (
    "dos_handshake_ratio",
    "scan_failed_ratio",
    "mirai_top_ports_ratio",
    "mirai_failed_or_brief_ratio",
)

_WHOLE: Final = (
    "redef use_conn_size_analyzer = T;",
    # As long as our own screen remembers: nothing is bounded by a mirror here, nor live.
    "redef tcp_inactivity_timeout = 5 min;",
    "redef udp_inactivity_timeout = 1 min;",
)


@dataclass(frozen=True, slots=True)
class Sight:
    """What Zeek has to know of where it looks from."""

    own_macs: tuple[str, ...] = ()
    own_addresses: tuple[str, ...] = ()
    router_macs: tuple[str, ...] = ()
    """MACs that forward for others: their senders are named by address."""
    limited_mac: str = ""
    """By which the mirror marks what is past its limit; empty: there is no mirror, the frames have
    their own headers, and every packet is seen."""


def redefs(trigger: Trigger, sight: Sight) -> str:
    """Return a Zeek script that sets IdsAppliance's settings; a rule that is off counts to 0. It is
    loaded after the package.

    Raises ValueError for what is no MAC or address: the text is a program.
    """
    numbers = embedded.settings(trigger)
    lines = [
        "##! Rendered from the appliance's configuration; changed there, not here.",
        _redef("window_length", f"{trigger.rule_window_s!r} secs"),
        _redef("no_answer", f"{trigger.no_answer_s!r} secs"),
        _redef("hold_down", f"{trigger.hold_down_s!r} secs"),
        _redef("brief", f"{trigger.mirai.brief_s!r} secs"),
        _redef("brief_packets", str(trigger.mirai.brief_packets)),
    ]
    lines += [_redef(name, str(int(numbers[name]))) for name in _COUNTS]
    lines += [_redef(name, repr(float(numbers[name]))) for name in _RATIOS]
    bindings = sorted(trigger.bindings.items())
    lines.append(
        _redef(
            "configured_bindings",
            _table(
                f'[{_checked(_ADDRESS, a)}] = "{_checked(_MAC, m.lower())}"' for a, m in bindings
            ),
        )
    )
    lines += [
        _redef(name, _table(f'"{_checked(_MAC, mac)}"' for mac in sorted(macs)))
        for name, macs in (("own_macs", sight.own_macs), ("router_macs", sight.router_macs))
    ]
    own = (_address(_checked(_ADDRESS, address)) for address in sorted(sight.own_addresses))
    lines.append(_redef("own_addresses", _table(own)))
    mirrored = bool(sight.limited_mac)
    if mirrored:
        lines.append(_redef("limited_mac", f'"{_checked(_MAC, sight.limited_mac)}"'))
    else:
        lines += [_redef("own_headers", "T"), _redef("whole", "T")]
        lines += _WHOLE
    return "\n".join(lines) + "\n"


def _redef(name: str, value: str) -> str:
    return f"redef IdsAppliance::{name} = {value};"


def _table(entries: Iterable[str]) -> str:
    inside = ", ".join(entries)
    return f"{{ {inside} }}" if inside else "{ }"


def _address(text: str) -> str:
    return f"[{text}]" if ":" in text else text


def _checked(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text!r} is neither a MAC nor an address")
    return text
