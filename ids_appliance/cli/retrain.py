"""`ids-appliance retrain`: the corpus and captures of one's own network in, a better bundle out."""

from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ids_appliance.classify.bundle import load_bundle, save_bundle
from ids_appliance.cli.learning import data_option, leave_out_option, max_per_capture_option
from ids_appliance.cli.previous import keep, previous
from ids_appliance.errors import WorseModel
from ids_appliance.train.card import card_markdown
from ids_appliance.train.corpus import find_parts
from ids_appliance.train.page import to_html
from ids_appliance.train.retraining import Asked, recipe_of, retrain
from ids_appliance.train.training import Options

_ROWS = {
    "own_old": "own captures, model in use",
    "own_new": "own captures, new model",
    "corpus_without": "other networks, same recipe without own captures",
    "corpus_with": "other networks, new model",
}


@click.command()
@data_option("The corpus: labelled captures, or the tables that `extract` made from them.")
@click.option(
    "--own",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Captures of your own network, with captures.toml or labels.json that says what they are; "
    "a clean week, or a window that you have looked at.",
)
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="Bundle in use: its recipe is used again, and it is what the new one is compared with.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to put the new bundle; may be --model. What was there is kept as OUT.previous.",
)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Share of your own ordinary packets that the new model may flag (or as many as the old).",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="What it may lose on other networks: less found, or more flagged.",
)
@leave_out_option
@max_per_capture_option
def command(**given: Any) -> None:
    """Learn from your own network too, and replace the model only if that is no loss.

    The last three tenths of each of your captures and a fifth of the corpus's origins are not
    learnt from. On these the new model is compared; one that is worse is not written, and the exit
    code is 2. `rollback OUT` goes back.

    \b
    Example:
      ids-appliance retrain --data captures --own my-week --model models/iot-top20 --out model
      ids-appliance rollback model
    """
    old = load_bundle(given["model"])
    options = Options(
        data=given["data"],
        recipe=recipe_of(old),
        threshold=old.grid.threshold,
        folds=0,
        leave_out=given["leave_out"],
        max_per_capture=given["max_per_capture"],
    )
    asked = Asked(options, given["own"], given["false_alarms"], given["tolerance"])
    total = len(find_parts(options.data)) + len(find_parts(asked.own)) + 2
    with tqdm(total=total, unit="step", delay=2, leave=False, disable=None) as bar:

        def progress(step: str) -> None:
            bar.set_description(step[-40:], refresh=False)
            bar.update()

        made = retrain(asked, old, progress=progress)
    click.echo(f"{'':50}{'flagged':>10}{'found':>10}")
    for name, title in _ROWS.items():
        row = made.compared[name]
        click.echo(f"{title:50}{_share(row['flagged']):>10}{_share(row['found']):>10}")
    if made.against:
        raise WorseModel(f"the new model was not written: {'; '.join(made.against)}")
    out = given["out"]
    kept = keep(out)
    text = card_markdown(made.bundle.card, out.name)
    save_bundle(made.bundle, out, card_md=text, card_html=to_html(text))
    click.echo(f"{out}: model {made.bundle.grid.model_id.hex()}")
    if kept:
        click.echo(f"the one before is {previous(out)}: ids-appliance rollback {out}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
