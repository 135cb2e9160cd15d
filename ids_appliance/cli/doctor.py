"""`ids-appliance doctor`: this machine and a configuration in, what is wrong and what to do out."""

import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

import click

from ids_appliance.config_file import DEFAULT_PATH, load
from ids_appliance.errors import ConfigError
from ids_appliance.gateway import doctor, machine
from ids_appliance.gateway.machine import Finding


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help=f"Configuration file to look at as well.  [default: {DEFAULT_PATH} where it exists]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, or one JSON object.",
)
def command(path: Path | None, form: str) -> None:
    """Look whether this machine can run the gateway, and say what to do where it cannot.

    Kernel, rights, nftables, capture, clock, memory; with a configuration also its interfaces,
    disks, model, certificates and nodes. Nothing is changed. Without root it says what could not
    be looked at. Exit code 1 if something has failed.

    \b
    Examples:
      ids-appliance doctor
      ids-appliance doctor --config gateway.toml --format json
    """
    now = time.time_ns() / 1e9
    findings = list(machine.examine(now))
    if path is None and Path(DEFAULT_PATH).exists():
        path = Path(DEFAULT_PATH)
    if path is not None:
        try:
            config = load(path)
        except ConfigError as error:
            findings.append(Finding("configuration", "fail", str(error), "correct it first"))
        else:
            findings.append(Finding("configuration", "ok", f"{path}: good"))
            # Once with the rings of its interfaces is enough.
            findings = [one for one in findings if one.topic != "memory"]
            findings += doctor.examine(config, now)
    failed = any(one.state == "fail" for one in findings)
    if form == "json":
        told = [dataclasses.asdict(one) for one in findings]
        click.echo(json.dumps({"ok": not failed, "findings": told}))
    else:
        click.echo(_table(findings))
    sys.exit(1 if failed else 0)


def _table(findings: list[Finding]) -> str:
    """Return a line or more per finding, what to do below it."""
    columns = max(60, min(100, shutil.get_terminal_size().columns))
    width = max(len(one.topic) for one in findings)
    indent = " " * (width + 11)
    lines = []
    for one in findings:
        head = f"{one.state:>7}  {one.topic:{width}}  "
        lines.append(click.wrap_text(_shown(one.text), columns, head, indent))
        if one.remedy:
            lines.append(
                click.wrap_text(_shown(one.remedy), columns, indent + "-> ", indent + "   ")
            )
    states = [one.state for one in findings]
    counts = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("ok", "unknown", "warn", "fail")
        if state in states
    )
    return "\n".join([*lines, counts])


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
