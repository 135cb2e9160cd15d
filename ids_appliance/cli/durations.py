"""Durations as people write them (90s, 10m, 1h30m, 7d) in, seconds out; and back."""

import re

import click

UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile("".join(rf"(?:(\d{{1,6}}){unit})?" for unit in UNITS), re.ASCII)


def duration(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Callback of an option: return seconds, more than 0."""
    found = _FORM.fullmatch(value.strip().lower())
    seconds = 0
    for number, unit in zip(found.groups(), UNITS.values(), strict=True) if found else ():
        seconds += int(number or 0) * unit
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is not a duration: write 90s, 10m, 1h30m or 7d")
    return float(seconds)


def duration_or_zero(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Callback of an option: return seconds; "0" is one, too."""
    return 0.0 if value.strip() == "0" else duration(ctx, param, value)


def duration_text(seconds: float) -> str:
    """Return a duration in its two greatest units: "1 h 30 m", "7 d", "0 s"."""
    left = max(0, round(seconds))
    parts: list[tuple[int, str]] = []
    for name, unit in UNITS.items():
        if name != "w" and (left >= unit or parts):
            parts.append((left // unit, name))
            left %= unit
    return " ".join(f"{number} {name}" for number, name in parts[:2] if number) or "0 s"
