"""`ids-appliance train`: labelled captures in, a model bundle out."""

from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ids_appliance.classify.bundle import save_bundle
from ids_appliance.cli.learning import (
    dask_option,
    data_option,
    leave_out_option,
    max_per_capture_option,
    on_error_option,
    recipe,
    recipe_options,
)
from ids_appliance.train.card import SPLITS, UNTESTED, card_markdown
from ids_appliance.train.corpus import find_parts
from ids_appliance.train.page import to_html
from ids_appliance.train.scale import open_workers
from ids_appliance.train.terms import SHIPPED
from ids_appliance.train.training import Material, Options, Trained, gather, steps, train


@click.command()
@data_option("Directory of labelled captures, or of the tables that `extract` made from them.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Bundle to write (a directory)."
)
@recipe_options
@click.option(
    "--related",
    type=click.Choice(["exclude", "benign", "malicious"]),
    default="exclude",
    show_default=True,
    help="What the victims' answers to an attack count as.",
)
@leave_out_option
@on_error_option("skip")
@click.option(
    "--keep-cut",
    is_flag=True,
    help="Also use captures whose payload was cut away; without it they are left out, because a "
    "model would learn that ordinary devices send zeros.",
)
@click.option(
    "--only-shippable",
    is_flag=True,
    help="Train only on repositories whose terms permit to ship the model; the others then serve "
    "as a test on foreign origins.",
)
@click.option(
    "--terms",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Terms of your own repositories, in the form of the project's train/terms.json; implies "
    "--only-shippable.",
)
@max_per_capture_option
@click.option(
    "--rows",
    type=click.IntRange(0, 50_000_000),
    default=0,
    help="Draw so many packets instead of reading all: evenly over the origins of both classes, "
    "equal ones once (--weight packet: alike over all packets). 300,000 need less than 1 GB. "
    "[default: all]",
)
@click.option(
    "--preset",
    type=click.Choice(["paper"]),
    help="Draw the seed paper's 417,389 benign packets and 559,072 of DoS, Spoofing, Mirai and "
    "Recon, without DDoS.",
)
@click.option(
    "--paper-split",
    default="equal",
    show_default=True,
    metavar="SPLIT",
    help="The paper does not say how its attack packets split into families: equal, proportional, "
    "or DoS=N,Spoofing=N,Mirai=N,Recon=N.",
)
@dask_option("goes through the data for --rows or --preset")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A packet's verdict is malicious above this probability.",
)
@click.option(
    "--folds", type=click.IntRange(2, 50), default=5, show_default=True, help="Of the evaluation."
)
@click.option(
    "--no-evaluate", is_flag=True, help="Only train: seconds, and nothing is known of the model."
)
def command(**given: Any) -> None:
    """Train a model on labelled captures and write it as a bundle.

    Standardises and normalises each feature, fits a model of a family, turns it into integer cuts
    that judge alike (checked on every different packet), and writes BUNDLE with a card that says
    what to expect. Equal data and options give equal bytes.

    \b
    Example:
      ids-appliance train --data captures --features top20 --out models/mine
      ids-appliance inspect models/mine
    """
    terms = given["terms"] or (SHIPPED if given["only_shippable"] else None)
    options = Options(
        data=given["data"],
        recipe=recipe(given),
        threshold=given["threshold"],
        folds=0 if given["no_evaluate"] else given["folds"],
        related=given["related"],
        leave_out=given["leave_out"],
        on_error=given["on_error"],
        keep_cut=given["keep_cut"],
        terms=terms,
        max_per_capture=given["max_per_capture"],
        rows=given["rows"],
        paper=given["paper_split"] if given["preset"] else "",
    )
    total = steps(options, len(find_parts(options.data, on_error=options.on_error)))
    with (
        open_workers(given["dask"]) as workers,
        tqdm(total=total, unit="step", delay=2, leave=False, disable=None) as bar,
    ):

        def progress(step: str) -> None:
            bar.set_description(step[:40], refresh=False)
            bar.update()

        material = gather(options, workers=workers, progress=progress)
        trained = train(options, material, progress=progress)
    card = card_markdown(trained.bundle.card, given["out"].name)
    save_bundle(trained.bundle, given["out"], card_md=card, card_html=to_html(card))
    _report(given["out"], material, trained)


def _report(out: Path, material: Material, trained: Trained) -> None:
    card = trained.bundle.card
    for report in material.corpus.reports:
        if report.status not in ("used", "skipped"):
            click.echo(f"{report.status}: {report.entry.file}: {report.detail}", err=True)
    for pool, (there, asked) in material.short.items():
        click.echo(f"drawn: all {there:,} packets of `{pool}`, {asked:,} were asked for", err=True)
    for why, files in card["data_left_out"].items():
        click.echo(f"left out ({why}): {len(files)} files", err=True)
    trees, leaves = card["size"]["trees"], card["size"]["leaves"]
    click.echo(
        f"{out}: model {card['model_id']}, {trees} trees, {leaves} leaves, "
        f"{len(card['features'])} features, {card['size']['cell_bytes']} bytes a cell"
    )
    for name, metrics in card["metrics"].items():
        bad = metrics["malicious"]
        click.echo(
            f"{name:16} accuracy {metrics['accuracy']:.3f}  precision {bad['precision']:.3f}  "
            f"recall {bad['recall']:.3f}  F1 {bad['f1']:.3f}  false alarms "
            f"{100 * (metrics['false_alarms'] or 0):.2f} %   {SPLITS[name]}"
        )
    if card["metrics"] and not card["metrics"].keys() & {"origin", "foreign"}:
        click.echo(UNTESTED.replace("**", ""))
