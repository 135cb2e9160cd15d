"""profile = "paper" in, the settings that it fixes or presets out: the published behaviour of S1.

Source: C. Tao, M. Bandai, "Collaborative packet-level IDS for IoT environment": Zeek's four rules
on five-second windows open the window, each packet is judged and streamed to the node as JSON, a
verdict of 1 quarantines or limits its sender. The baseline that judges on the gateway has no
prescreener: every packet is judged, always. What the paper does not say (length of the window,
thresholds, rates) stays a setting.

With inline.enabled it is that of S2 (Harsada K. et al., doi 10.1016/j.pmcj.2026.102265): each
packet that is judged malicious is dropped, and its sender goes on being judged.
"""

from typing import Any, Final

from msgspec import inspect as shapes

from ids_appliance.config import Trigger
from ids_appliance.config_file.words import fields

PUBLISHED_RULES: Final = ("dos", "port_scan", "mirai", "arp_spoof")
RULES: Final = tuple(
    name for name, field in fields(Trigger).items() if isinstance(field.type, shapes.StructType)
)
"""Rules with a switch of their own, the published ones first."""
OTHER_CAUSES: Final = ("overflow", "manual", "sample", "zeek")

FIXED: Final[dict[str, Any]] = {
    "trigger.rule_window_s": 5.0,
    **{f"trigger.{rule}.enabled": rule in PUBLISHED_RULES for rule in RULES},
    "trigger.port_scan.alone": 0,
    "trigger.mirai.alone": 0,
    "window.sample_every_s": 0.0,
    "policy.kind": "per_packet",
    "policy.priors": dict.fromkeys((*RULES, *OTHER_CAUSES), 0.0),
    "enforce.synproxy": False,
    "enforce.heal_arp": False,
    "inline.drop": "packet",
    "inline.bypass": False,
    "tc.all_tcp": True,
}
"""Dotted setting -> value; a file that says otherwise contradicts the profile."""

PRESET: Final[dict[str, Any]] = {"node.transport": "json"}
"""The same for what a file may say otherwise: over our own protocol the node then sends the bare
verdicts, as published, instead of probabilities."""


INLINE: Final[dict[str, Any]] = {"enforce.ceiling": "observe"}
"""Further ones where packets wait for their verdict: nothing is done about senders."""


def fixed(mode: str, *, inline: bool = False) -> dict[str, Any]:
    """Return dotted setting -> value that the profile fixes in a mode."""
    found = {**FIXED, "trigger.kind": "always"} if mode == "gateway-only" else FIXED
    return {**found, **INLINE} if inline else found
