"""`ids-appliance events`: what a running gateway tells, as it happens."""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of
from ids_appliance.cli.screens import WIDTH, Colour, clean, cut
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import MAX_ITEMS, AskEvents

COLOURS: dict[str, Colour] = {"decision": "red", "response": "red", "trigger": "yellow",
                              "window": "cyan"}  # fmt: skip
WHOM = ("subject", "sender")
TOLD = ("component", "action", "state", "response", "rule", "key", "detail", "message", "reason",
        "note", "why")  # fmt: skip
COUNTED = ("duration_s", "packets", "judged", "votes", "cells_asked", "decisions", "score")
"""What a line has of an event; all the rest is in JSON."""


@click.command()
@click.option(
    "-n", type=click.IntRange(0, MAX_ITEMS), default=20, show_default=True, help="How many."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@format_option
@gateway_options
def command(n: int, follow: bool, *, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Print the latest events, and with --follow all that come: triggers, windows, decisions.

    One line each; JSON is one object a line with every field, as in the event log, which has
    also what happened before the gateway was started. Who reads too slowly is told how many
    events he has missed.

    \b
    Examples:
      ids-appliance events -n 50
      ids-appliance events --follow
      ids-appliance events --follow --format json | jq 'select(.event_type == "decision")'
    """
    with Client(run_dir_of(config, run_dir)) as client:
        try:
            for event in client.follow(n) if follow else client.ask(AskEvents(n=n)):
                _show(event, form)
                if follow:
                    sys.stdout.flush()
        except KeyboardInterrupt:
            return
    if follow:
        click.echo("the gateway has stopped", err=True)


def _show(event: Mapping[str, Any] | int, form: str) -> None:
    if isinstance(event, int):
        click.echo(f"({event:,} events missed)", err=True)
    elif form == "json":
        click.echo(json.dumps(event))
    else:
        kind = str(event.get("event_type", "?"))
        colour = COLOURS.get(kind)
        text = cut(clean(f"{_time(event)}  {kind:8}  {_story(event, kind)}"), WIDTH)
        click.echo(click.style(text, fg=colour) if colour else text)


def _time(event: Mapping[str, Any]) -> str:
    """Return the local time of day; events themselves have the date, too."""
    try:
        when = datetime.fromisoformat(str(event.get("timestamp"))).astimezone()
    except (OverflowError, ValueError):
        return f"{'?':12}"
    return when.strftime("%H:%M:%S.%f")[:12]


def _story(event: Mapping[str, Any], kind: str) -> str:
    own = event.get(kind)
    fields = own if isinstance(own, dict) else {}
    device = event.get("device")
    names = [event.get("src_ip"), event.get("src_mac"), *map(fields.get, WHOM)]
    words = [str(name) for name in names if name][-1:]
    if isinstance(device, dict):
        words += [f"({value})" for value in list(device.values())[:1]]
    words += [str(fields[name]).replace("_", " ") if name == "action" else str(fields[name])
              for name in TOLD if fields.get(name)]  # fmt: skip
    counts = [f"{name}={fields[name]}" for name in COUNTED if fields.get(name)]
    return " ".join([*words, *counts])
