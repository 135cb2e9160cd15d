"""`ids-appliance decisions`: what stands about whom in a running gateway."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of
from ids_appliance.cli.durations import duration_text
from ids_appliance.cli.screens import Cell, Colour, cut, show_json, show_table
from ids_appliance.gateway.actions import DecisionInfo
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import MAX_ITEMS, AskDecisions

COLOURS: dict[str, Colour] = {"quarantine": "red", "rate_limit": "yellow"}


@click.command()
@click.option(
    "-n", type=click.IntRange(1, MAX_ITEMS), default=200, show_default=True, help="How many."
)
@format_option
@gateway_options
def command(n: int, form: str, config: Path | None, run_dir: Path | None) -> None:
    """List the standing decisions, the latest first.

    Each ends by itself after its time. "kernel" says whether it is enforced; where it is not, the
    response is what would be done. `why ADDRESS` tells the whole story of one, `release ADDRESS`
    ends it, `allow add ADDRESS` lets nothing be decided about that sender any more.

    \b
    Examples:
      ids-appliance decisions
      ids-appliance decisions --format json | jq '.[].subject'
    """
    decisions = ask(run_dir_of(config, run_dir), AskDecisions(n=n))
    if form == "json":
        show_json(decisions)
    elif not decisions:
        click.echo("nothing stands about anybody")
    else:
        heads = ("number", "sender", "response", "left", "kernel", "device", "reason")
        show_table(heads, [_row(d) for d in decisions], right="number left")


def _row(decision: DecisionInfo) -> tuple[str | Cell, ...]:
    place = f"@{decision.interface}" if decision.interface else ""
    response = decision.would or decision.response
    told = decision.note or decision.reason
    by_hand = decision.by_hand and not told.startswith("by hand")
    return (
        str(decision.number),
        decision.subject + place,
        Cell(response, COLOURS.get(response) if decision.enforced else None),
        duration_text(decision.remaining_s),
        "yes" if decision.enforced else "no",
        cut(decision.device, 16) or decision.address,
        ("by hand: " if by_hand else "") + told,
    )
