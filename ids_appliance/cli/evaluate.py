"""`ids-appliance evaluate`: labelled captures in, what a model of them is worth out."""

from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ids_appliance.cli.learning import (
    data_option,
    leave_out_option,
    max_per_capture_option,
    recipe,
    recipe_options,
)
from ids_appliance.errors import LabelError
from ids_appliance.train.readers import catalogue
from ids_appliance.train.study import report
from ids_appliance.train.study.plots import draw
from ids_appliance.train.study.study import PAPER, SPLITS, Plan, folds_of, read, steps, study


@click.command()
@data_option("Directory of labelled captures (labels.json or captures.toml).")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report, and for what is kept so that a stopped run goes on.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice([*SPLITS, PAPER]),
    help="What is left out together; may be repeated. paper: random packets, counted and judged as "
    "the seed paper does, all 60 features and top 20, with the folds' spread. "
    "[default: the first three]",
)
@recipe_options
@click.option(
    "--folds",
    type=click.IntRange(2, 50),
    default=5,
    show_default=True,
    help="Of the random split; captures and origins with an attack are left out one at a time, "
    "those without in so many folds.",
)
@click.option("--no-audit", is_flag=True, help="Leave out the features one by one.")
@click.option("--no-ablations", is_flag=True, help="Leave out training without some features.")
@click.option(
    "--no-replay", is_flag=True, help="Packets only: leave out the whole appliance replayed."
)
@leave_out_option
@max_per_capture_option
def command(**given: Any) -> None:
    """Say what to expect of a model: honestly, side by side with what papers report.

    Packets under three splits, with intervals and baselines; each feature alone, to find shortcuts;
    training without some; and the whole appliance replayed over every capture, by the model that
    has seen nothing of the capture's origin: who is found, who is wronged, what was missed and why.
    Writes evaluation.md, .html, .json and plots. Stopped, it goes on where it was.

    \b
    Example:
      ids-appliance evaluate --data captures --out evaluation
      ids-appliance evaluate --data captures --out quick --split origin --no-ablations
    """
    if not given["data"].is_dir():
        raise LabelError(f"{given['data']} is not a directory: --data names the one of captures")
    plan = Plan(
        data=given["data"],
        folder=given["out"],
        recipe=recipe(given),
        folds=given["folds"],
        splits=given["splits"] or SPLITS,
        audit=not given["no_audit"],
        ablate=not given["no_ablations"],
        replays=not given["no_replay"],
        jobs=given["jobs"],
        leave_out=given["leave_out"],
        max_per_capture=given["max_per_capture"],
    )
    files = len(catalogue(plan.data, on_error="skip").entries)
    with tqdm(total=files, unit="step", delay=2, leave=False, disable=None) as bar:

        def step(name: str) -> None:
            bar.set_description(name[-40:], refresh=False)
            bar.update()

        material = read(plan, step=step)
        made = folds_of(plan, material)
        replays = files if plan.replays and "origin" in made else 0
        bar.reset(total=steps(plan, made) + replays)
        result = study(plan, material, made, step=step)
    page = report.write(result, plan.folder, plots=draw(result, plan.folder))
    click.echo(page.partition("## Shortcuts")[0].rstrip())
    click.echo(f"\nwritten to {plan.folder}: evaluation.html, .md, .json")
