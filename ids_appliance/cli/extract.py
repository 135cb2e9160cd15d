"""`ids-appliance extract`: labelled captures in, a directory of feature tables out."""

from collections import Counter
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ids_appliance.cli.learning import (
    dask_option,
    data_option,
    leave_out_option,
    on_error_option,
)
from ids_appliance.train.draw import PAPER_FAMILIES, PAPER_LEAVE_OUT
from ids_appliance.train.extract import WRONG, FileReport
from ids_appliance.train.parts import Extracted
from ids_appliance.train.readers import LAYOUTS, catalogue
from ids_appliance.train.scale import Extraction, extract_corpus, open_workers


@click.command()
@data_option("Directory of the captures.")
@click.option(
    "--tables",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the tables; what is finished in it is kept.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", *LAYOUTS]),
    default="auto",
    show_default=True,
    help="labels: labels.json. ciciot2023: that dataset's tree of attacks. folder: captures.toml.",
)
@click.option(
    "--attacker",
    "attackers",
    multiple=True,
    metavar="MAC|ADDRESS",
    help="CICIoT2023: label packets by this attacking device, not whole files; may be repeated.",
)
@click.option(
    "--preset",
    type=click.Choice(["paper"]),
    help="Only the captures that `train --preset paper` draws from: benign, DoS, Spoofing, Mirai "
    "and Recon, without DDoS.",
)
@leave_out_option
@on_error_option("stop")
@dask_option("does the work")
def command(**given: Any) -> None:
    """Extract the packet records of labelled captures into Parquet tables.

    The tables are the same, byte for byte, whoever does the work. A run that was stopped or killed
    goes on where it was: give the same command again. `train --data TABLES` trains on them. Workers
    of a Dask cluster must see both directories under the same names.

    \b
    Example:
      ids-appliance extract --data CICIoT2023 --tables tables --on-error skip --dask local:2
      ids-appliance train --data tables --rows 300000 --out models/mine
    """
    paper = given["preset"] == "paper"
    listed = catalogue(
        given["data"],
        layout=given["layout"],
        on_error=given["on_error"],
        attackers=given["attackers"],
    )
    asked = Extraction(
        listed,
        given["tables"],
        on_error=given["on_error"],
        leave_out=given["leave_out"] + (PAPER_LEAVE_OUT if paper else ()),
        families=("Benign", *PAPER_FAMILIES) if paper else (),
    )
    sizes = {entry.file: _size(given["data"] / entry.file) for entry in listed.entries}
    kept = 0
    with (
        open_workers(given["dask"]) as workers,
        tqdm(
            total=sum(sizes.values()), unit="B", unit_scale=True, leave=False, disable=None
        ) as bar,
    ):

        def progress(done: Extracted) -> None:
            nonlocal kept
            kept += done.kept
            bar.set_description(done.report.entry.file[-40:], refresh=False)
            bar.update(sizes[done.report.entry.file])

        reports = extract_corpus(asked, workers, progress=progress)
    _report(given["tables"], reports, kept)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _report(tables: Path, reports: list[FileReport], kept: int) -> None:
    for report in reports:
        if report.status in (*WRONG, "cut"):
            click.echo(f"{report.status}: {report.entry.file}: {report.detail}", err=True)
    counts = Counter(report.status for report in reports)
    told = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    packets = sum(report.judged for report in reports)
    click.echo(
        f"{tables}: {packets:,} packets of {len(reports)} files ({told}; {kept} of them were "
        "there already)"
    )
