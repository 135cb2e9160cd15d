"""`ids-appliance inspect`: a model bundle in, what it is and what to expect of it out."""

import json

import click

from ids_appliance.classify.bundle import key_widths, load_bundle
from ids_appliance.schema import COLUMNS


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the whole card as JSON.")
@click.option("--grid", is_flag=True, help="Print each feature's cut points.")
def command(bundle: str, as_json: bool, grid: bool) -> None:
    """Check a model bundle and say what it is.

    Reading a bundle executes nothing from it. A damaged or malicious one, or one for another packet
    record, is refused with a line that says why.
    """
    model = load_bundle(bundle)
    if as_json:
        click.echo(json.dumps(dict(model.card), indent=1, sort_keys=True))
        return
    forest = model.forest
    click.echo(f"model       {model.grid.model_id.hex()}")
    click.echo(f"threshold   malicious if the probability is greater than {model.grid.threshold}")
    click.echo(f"judged by   {', '.join(forest.members)}")
    click.echo(
        f"trees       {forest.n_trees}, with {forest.n_nodes} nodes, {forest.n_leaves} leaves"
    )
    click.echo(
        f"features    {len(model.card['features'])} trained on, {forest.n_features} asked for"
    )
    click.echo(f"cell        {forest.key_bytes} bytes")
    for name, metrics in model.card.get("metrics", {}).items():
        bad = metrics["malicious"]
        click.echo(
            f"{name:16}  recall {bad['recall']:.3f}  precision {bad['precision']:.3f}  "
            f"accuracy {metrics['accuracy']:.3f}  false alarms {metrics['false_alarms']}"
        )
    if grid:
        widths = key_widths(model.grid)
        for index, cuts, width in zip(model.grid.features, model.grid.cuts, widths, strict=True):
            shown = " ".join(str(cut) for cut in cuts.tolist())
            click.echo(f"{COLUMNS[index].name} ({len(cuts)} cuts, {width} byte): {shown}")
