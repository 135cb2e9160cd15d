"""`ids-appliance why ADDRESS`: everything that speaks for and against a sender."""

from pathlib import Path

import click

from ids_appliance.cli.asking import format_option, gateway_options, run_dir_of, sender_text
from ids_appliance.cli.durations import duration_text
from ids_appliance.cli.screens import moment, show_fields, show_json, show_table, show_text
from ids_appliance.gateway.actions import WhyInfo
from ids_appliance.gateway.client import ask
from ids_appliance.gateway.messages import AskWhy


@click.command()
@click.argument("address", callback=sender_text)
@format_option
@gateway_options
def command(address: str, form: str, config: Path | None, run_dir: Path | None) -> None:
    """Explain what is done about a sender: triggers, evidence, top cells, decisions, allow match.

    ADDRESS is an IPv4 or IPv6 address, a MAC, either with @INTERFACE, or VICTIM:PORT of a flood.
    The score is a sum of log-odds: it rises with packets that look malicious and falls with
    ordinary ones; above the upper bound a decision is made, below the lower one the sender is
    cleared. A cell is a kind of packet: all that the forest cannot tell apart.

    \b
    Examples:
      ids-appliance why 192.0.2.66
      ids-appliance why 02:00:5e:10:00:01@br-lan --format json
    """
    why = ask(run_dir_of(config, run_dir), AskWhy(text=address))
    if form == "json":
        show_json(why)
    else:
        _show(why)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _show(why: WhyInfo) -> None:
    show_text(why.summary)
    click.echo()
    decision = ""
    if why.decision is not None:
        made = why.decision
        by_hand = made.by_hand and made.reason != "by hand"
        decision = (
            f"number {made.number}, {made.would or made.response}"
            f"{'' if made.enforced else ' (not in the kernel)'}, "
            f"another {duration_text(made.remaining_s)}, {made.count}. about this sender"
            f"{', by hand' if by_hand else ''}{', on probation' if made.probation else ''}: "
            f"{made.reason}{f' ({made.note})' if made.note else ''}"
        )
    evidence = ""
    if why.score is not None:
        evidence = (
            f"score {_number(why.score)} of {why.packets:,} judged packets; a decision above "
            f"{_number(why.upper)}, cleared below {_number(why.lower)}"
        )
    show_fields(
        [
            ("sender", why.subject + (f"@{why.interface}" if why.interface else "")),
            ("address", why.address),
            ("device", why.device),
            ("decision", decision),
            ("evidence", evidence),
            ("standing", ", ".join(why.standing)),
            ("protected", why.protected),
            ("allowed", why.allowed),
            ("doubted", why.doubted),
            ("ceiling", why.ceiling),
            ("others", f"{why.others} more senders match: name a MAC" if why.others else ""),
        ]
    )
    if why.triggers:
        click.echo()
        rows = [(moment(t.timestamp_ns), t.rule, t.detail) for t in why.triggers]
        show_table(("trigger at", "rule", "what"), rows)
    if why.cells:
        click.echo()
        cells = [(c.cell, f"{c.packets:,}", _number(c.log_odds)) for c in why.cells]
        show_table(("cell", "packets", "log-odds"), cells, right="packets log-odds")
    if why.history:
        click.echo()
        click.echo(click.style("history", bold=True))
        for line in why.history:
            show_text(line)
