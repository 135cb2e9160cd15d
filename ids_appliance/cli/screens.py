"""What a gateway answers in, what a person reads out: tables of 100 columns, or JSON.

Texts may come from the network (a device's name for itself), so whatever could move a terminal's
cursor or turn its writing around is replaced.
"""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import click
import msgspec

WIDTH = 100

Colour = Literal["red", "yellow", "green", "cyan"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a colour, where the terminal has colours."""

    text: str
    colour: Colour | None = None


def clean(text: str) -> str:
    """Return one line without control, formatting and invisible characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def moment(ns: int) -> str:
    """Return a time of day, in the local zone; "-" for 0."""
    if ns <= 0:
        return "-"
    try:
        return datetime.fromtimestamp(ns / 1e9).strftime("%Y-%m-%d %H:%M:%S")
    except (OSError, OverflowError, ValueError):
        return "?"


def cut(text: str, width: int) -> str:
    """Return at most `width` characters; one that was cut says so."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def show_table(
    heads: Sequence[str], rows: Sequence[Sequence[str | Cell]], *, right: str = ""
) -> None:
    """Print a table; heads named in `right` (blanks between) have numbers below them.

    The last column gives way where a line would be too long, then the widest of the others."""
    cells = [
        [Cell(clean(cell)) if isinstance(cell, str) else Cell(clean(cell.text), cell.colour)
         for cell in row]
        for row in rows
    ]  # fmt: skip
    widths = [
        max([len(head), *(len(row[at].text) for row in cells)]) for at, head in enumerate(heads)
    ]
    room = WIDTH - 2 * (len(heads) - 1)
    widths[-1] = max(len(heads[-1]), min(widths[-1], max(16, room - sum(widths[:-1]))))
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    numbers = set(right.split())

    def line(texts: Sequence[Cell]) -> str:
        parts = []
        for head, cell, width in zip(heads, texts, widths, strict=True):
            text = cut(cell.text, width)
            text = text.rjust(width) if head in numbers else text.ljust(width)
            parts.append(click.style(text, fg=cell.colour) if cell.colour else text)
        return "  ".join(parts).rstrip()

    click.echo(click.style(line([Cell(head) for head in heads]), bold=True))
    for row in cells:
        click.echo(line(row))


def show_fields(fields: Sequence[tuple[str, str | Cell]]) -> None:
    """Print one "name  value" a line, long values wrapped; empty values are passed over."""
    width = max(len(name) for name, _ in fields) + 2
    for name, value in fields:
        cell = value if isinstance(value, Cell) else Cell(value)
        lines = textwrap.wrap(clean(cell.text), WIDTH - width)
        for at, line in enumerate(lines):
            text = click.style(line, fg=cell.colour) if cell.colour else line
            click.echo(f"{'' if at else name:{width}}{text}")


def show_text(text: str, colour: Colour | None = None) -> None:
    """Print a sentence, wrapped."""
    for line in textwrap.wrap(clean(text), WIDTH) or [""]:
        click.echo(click.style(line, fg=colour) if colour else line)


def show_json(answer: Any) -> None:
    """Print an answer as JSON, readable and safe on a terminal."""
    click.echo(json.dumps(msgspec.to_builtins(answer), indent=2))
