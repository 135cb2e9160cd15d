"""`ids-appliance kdd`: a file of KDD records in, a table of four models and their vote out."""

import json
import time
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ids_appliance.train.families import TITLES
from ids_appliance.train.kdd.judging import Report, judge_sample, steps
from ids_appliance.train.kdd.records import read_sample

SHORT = {"vote": "Majority vote"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--records",
    type=click.IntRange(100),
    default=50_000,
    show_default=True,
    help="Records to draw: each label in proportion, at least one of each; all if there are fewer.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the sample, the split and the models.",
)
@click.option(
    "--json", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here."
)
def command(file: Path, records: int, seed: int, out: Path | None) -> None:
    """Judge connection records of KDD Cup 1999 or NSL-KDD, as published systems do.

    FILE as it was published, plain or gzip, the 10 % or the full one. Random forest, logistic
    regression, XGBoost, LightGBM and their majority vote, on all 41 columns, on the 28 that a
    gateway can know, and on those it knows at a connection's first packet. Records are connections:
    none of this says how packets of a network are judged (docs/kdd.md).

    \b
    Example:
      ids-appliance kdd kddcup.data_10_percent.gz --json kdd.json
    """
    sample = read_sample(file, records, seed=seed)
    if sample.wrong or sample.damage:
        said = f"{sample.wrong} lines are no record" if sample.wrong else ""
        click.echo(f"{file}: {'; '.join(filter(None, (said, sample.damage)))}", err=True)
    with tqdm(total=steps(sample), unit="step", delay=2, leave=False, disable=None) as bar:

        def progress(step: str) -> None:
            bar.set_description(step, refresh=False)
            bar.update()

        report = judge_sample(sample, seed=seed, clock=time.perf_counter, progress=progress)
    _show(report)
    if out:
        out.write_text(json.dumps({"file": file.name} | report, indent=1) + "\n")


def _show(report: Report) -> None:
    click.echo(
        f"{report['sampled']:,} of {report['records']:,} records, seed {report['seed']}: "
        f"{report['trained_on']:,} trained on, {report['tested_on']:,} tested "
        f"({report['attacks_tested']:,} attacks)"
    )
    for name, own in report["columns"].items():
        click.echo(f"\nColumns: {name} ({own['columns']})")
        click.echo(
            f"{'':20} accuracy  precision  recall  F1       "
            f"F1 of {own['fresh']:,} without twin   us: one by one  batched"
        )
        for family, found in own["models"].items():
            click.echo(_line(SHORT.get(family, TITLES[family]), found))
    click.echo("\nAttacks of a category left out of training, share found (columns: gateway)")
    families = [*next(iter(report["unseen"].values()), {})][1:]
    click.echo(f"{'':14} records  " + "  ".join(f"{family:>9}" for family in families))
    for category, found in report["unseen"].items():
        shares = "  ".join(f"{found[family]:9.3f}" for family in families)
        click.echo(f"{category:14} {found['records']:>7,}  {shares}")


def _line(title: str, found: dict[str, Any]) -> str:
    test, us = found["test"], found["us_a_record"]
    return (
        f"{title:20} {test['accuracy']:8.4f}  {test['precision']:9.4f}  {test['recall']:6.4f}  "
        f"{test['f1']:6.4f}  {found['fresh']['f1']:14.4f}  {us['one_at_a_time']:>22.0f}  "
        f"{us['batched']:7.1f}"
    )
