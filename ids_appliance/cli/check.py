"""`ids-appliance check`: a configuration file in, what it amounts to out; nothing is changed."""

import shutil
from pathlib import Path

import click

from ids_appliance.capture.interfaces import capture_points
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.tls import TlsFiles, client_context
from ids_appliance.config import Config
from ids_appliance.config_file import DEFAULT_PATH, load
from ids_appliance.config_file.document import effective, failure_policies, markdown
from ids_appliance.policy.bounds import doubts, read_bounds
from ids_appliance.trigger import embedded


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="Configuration file (TOML).",
)
@click.option(
    "--mode",
    type=click.Choice(["gateway-only", "offloaded"]),
    help="Check it for this mode instead of the file's own.",
)
@click.option("--changed", is_flag=True, help="Show only what differs from the defaults.")
@click.option("--document", is_flag=True, help="Print the page of all settings (Markdown) instead.")
def command(path: Path, mode: str | None, changed: bool, document: bool) -> None:
    """Check a configuration, print the settings that result and what happens on failures.

    Reads the model, the bounds, the certificates and the names of the interfaces as well. Exit
    code 2 and one line if anything is wrong. What the machine needs beside: `doctor`.

    \b
    Examples:
      ids-appliance check --config gateway.toml --changed
      ids-appliance check --config gateway.toml --mode offloaded
    """
    if document:
        click.echo(markdown(), nl=False)
        return
    config = load(path, mode=mode)
    embedded.build(config.trigger)
    notes = _look_at_files(config)
    rows = [row for row in effective(config) if row[2] or not changed]
    width = max((len(place) for place, _, _ in rows), default=0)
    columns = max(60, min(100, shutil.get_terminal_size().columns))
    room = max(20, columns - width - 10)
    for place, value, origin in rows:
        shown = value if len(value) <= room else value[: room - 1] + "…"
        click.echo(f"{place:{width}}  {shown:{room}} {origin}".rstrip())
    click.echo("\nWhen things go wrong:")
    for line in failure_policies(config):
        click.echo(click.wrap_text(line, columns, "  ", "    "))
    for line in notes:
        click.echo(f"Warning: {line}", err=True)
    click.echo(f"\n{path}: good")


def _look_at_files(config: Config) -> list[str]:
    """Read what the configuration names; return what people should know, one line each.

    Raises IdsError where something is missing or not usable."""
    capture_points(config.interfaces)
    bounds = read_bounds(config.policy.bounds)
    model_id = None
    if config.model:
        model_id = load_bundle(config.model).grid.model_id
    node = config.node
    if config.mode == "offloaded" and not node.plaintext:
        crl = Path(node.crl) if node.crl else None
        client_context(TlsFiles(Path(node.cert), Path(node.key), Path(node.ca), crl))
    if config.policy.kind == "per_packet":
        return []
    return doubts(bounds, config.policy, model_id)
