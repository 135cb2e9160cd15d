"""Configurations and their sections in, texts for people out: tables, sentences, the handbook."""

from typing import Any

import msgspec
from msgspec import inspect as shapes

from ids_appliance.config import Config
from ids_appliance.config_file import paper
from ids_appliance.config_file.words import (
    Setting,
    describe,
    section_meanings,
    settings,
    toml,
)

_INTRODUCTION = """\
# The configuration file

Every setting of `ids-appliance gateway --config FILE`. The file is TOML; only `interfaces`, and in
most modes `model`, have to be given. `ids-appliance check --config FILE` says what is wrong with a
file and what it amounts to; [gateway.toml](gateway.toml) is an example with comments. Relative
paths are looked up beside the file. Names of settings that do not exist, values of the wrong type
or range and settings that contradict each other are refused with one line; nothing is started then.

This page is made by `ids-appliance check --document`.
"""

_PAPER = """\
## profile = "paper"

The published behaviour of the collaborative IDS (C. Tao, M. Bandai): these settings are fixed, and
a file that says otherwise is refused. What the paper does not say (length of the window,
thresholds, rates) can be set.
"""


def effective(config: Config) -> list[tuple[str, str, str]]:
    """Return (setting, value, where it is from) for every setting.

    Where: "" the default, "file", or "profile" (as the file's profile has it)."""
    fixed: dict[str, Any] = {}
    if config.profile == "paper":
        fixed = {**paper.fixed(config.mode, inline=config.inline.enabled), **paper.PRESET}
    rows = []
    for setting in settings():
        value = value_of(config, setting.place)
        origin = "" if value == setting.default else "file"
        if setting.place in fixed and value == fixed[setting.place]:
            origin = "profile"
        rows.append((setting.place, toml(value), origin))
    return rows


def value_of(config: Config, place: str) -> Any:
    """Return the value of a dotted setting."""
    value: Any = config
    for part in place.split("."):
        value = getattr(value, part)
    return value


def failure_policies(config: Config) -> list[str]:
    """Return what will happen when things go wrong, one sentence each, for the log at start."""
    failure, events = config.failure, config.events
    down = {
        "local": "the model here judges instead",
        "open": "packets pass unjudged",
        "closed": "what a trigger names is limited without a verdict",
    }[failure.on_classifier_down]
    if config.mode == "gateway-only":
        down += " (no node is asked in mode gateway-only)"
    full = {
        "open": "their packets pass unjudged",
        "closed": "what a trigger names is limited, or dropped where it is held",
    }[failure.on_queue_full]
    order = ", then ".join(failure.on_overload) or "nobody: packets wait, then the ring drops them"
    return [
        f"on_classifier_down = {failure.on_classifier_down}: if the node fails, {down}",
        f"on_queue_full = {failure.on_queue_full}: if more cells come than can be judged, {full}",
        f"on_overload: packets are given up unjudged in this order: {order}",
        *_inline_policies(config),
        f"event log: at most {events.queue} events wait for the disk, then the oldest are lost, "
        "counted",
        "the gateway dies: traffic flows on, every decision ends by its own time-out in the kernel",
        f"more than {config.policy.breaker_per_minute} decisions a minute, or about "
        f"{config.policy.breaker_lan_share:.0%} of the LAN: everything holds at observe",
    ]


def _inline_policies(config: Config) -> list[str]:
    inline = config.inline
    if not inline.enabled:
        return []
    full = "packets pass unjudged" if inline.fail_open else "packets are dropped"
    return [
        f"inline.fail_open: if {inline.length} packets wait for their verdict, further {full}",
        f"inline.deadline_ms: after {inline.deadline_ms:g} ms on_classifier_down decides about one",
    ]


def markdown() -> str:
    """Return the handbook of all settings, in Markdown."""
    meanings = section_meanings()
    parts = [_INTRODUCTION]
    section: str | None = None
    for setting in settings():
        if setting.section != section:
            section = setting.section
            title = f"[{section}]" if section else "The file's beginning"
            head = "| setting | default | expected | meaning |\n|---|---|---|---|"
            parts.append(f"## {title}\n\n{meanings[section]}\n\n{head}")
        parts.append(_row(setting))
    parts.append("\n" + _PAPER + "\n| setting | value |\n|---|---|")
    for place, value in paper.fixed("gateway-only", inline=True).items():
        shown = "all 0" if isinstance(value, dict) else f"`{toml(value)}`"
        where = "inline.enabled" if place in paper.INLINE else 'mode = "gateway-only"'
        only = f" ({where})" if place not in paper.FIXED else ""
        parts.append(f"| {place} | {shown}{only} |")
    parts += [
        f"| {place} | `{toml(value)}` unless the file says otherwise |"
        for place, value in paper.PRESET.items()
    ]
    text = "\n".join(parts)
    return text.replace("|\n##", "|\n\n##") + "\n"


def _row(setting: Setting) -> str:
    default = "" if setting.default is msgspec.UNSET else f"`{toml(setting.default)}`"
    expected = describe(setting.shape)
    if isinstance(setting.shape, shapes.FloatType | shapes.IntType):
        expected = expected.replace(" and <= 315360000", "")  # ten years: no limit worth a word
    cells = (f"`{setting.key}`", default, expected, setting.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
