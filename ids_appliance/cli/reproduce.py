"""`ids-appliance reproduce`: a published result, measured anew, put beside what was published."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from ids_appliance.bench import reproduce
from ids_appliance.errors import IdsError

CHECKOUT = Path(__file__).resolve().parents[2]
MODES = "bare,tapped,paper-gateway,paper-offloaded,gateway-only,offloaded"


def finished(words: list[str], **more: Any) -> tuple[int, str]:
    """Run a command to its end, also after Ctrl-C: it has heard that as well, and would be killed
    while it removes what it has made. Return how it ended and, where it is piped, what it said."""
    with subprocess.Popen(words, text=True, **more) as running:
        try:
            said = running.communicate()[0]
        except KeyboardInterrupt:
            running.communicate()
            raise
    return running.returncode, said or ""


def ours(*words: str) -> None:
    """Run a command of ours, seen; raises IdsError where it fails."""
    click.echo(f"$ ids-appliance {shlex.join(words)}")
    code, _ = finished([sys.executable, "-m", "ids_appliance", *words])
    if code != 0:
        raise IdsError(f"`ids-appliance {words[0]}` ended with {code}: it says why above")


def s1_table2(data: Path | None, scratch: Path, quick: bool) -> str:
    """Train on all features and on the top 20, as published."""
    if data is None:
        raise IdsError("s1-table2 needs --data: a folder of labelled captures, CICIoT2023's own or "
                       "one with labels.json")  # fmt: skip
    size = ("--rows", "100000") if quick else ("--preset", "paper")
    cards = {}
    for name, features in (("all 60", "all"), ("top 20", "top20")):
        out = scratch / features
        ours("train", "--data", str(data), *size, "--features", features, "--out", str(out))
        cards[name] = json.loads((out / "card.json").read_text())
    command = f"ids-appliance train --data DIR {shlex.join(size)} --features all|top20 --out BUNDLE"
    return reproduce.table2(cards, command=command)


def s1_table3(data: Path | None, scratch: Path, quick: bool) -> str:
    """Search the highest rates."""
    del data  # packets are made, not read
    how = ["--quick"] if quick else ["--rounds", "3"]
    ours("bench", "--modes", MODES, "--mixes", reproduce.FLOOD, *how, "--out", str(scratch))
    return reproduce.table3(reproduce.made_before(scratch))


def s2(data: Path | None, scratch: Path, quick: bool) -> str:
    """Judge KDD Cup 1999's records; with root, judge packets in the queue of a lab as well."""
    if data is None:
        raise IdsError("s2 needs --data: the file kddcup.data_10_percent.gz, or the full one")
    records = ["--records", "5000"] if quick else []
    out = scratch / "kdd.json"
    ours("kdd", str(data), *records, "--json", str(out))
    command = shlex.join(["ids-appliance", "kdd", data.name, *records])
    return reproduce.kdd(json.loads(out.read_text()), command=command, inline=s2_inline(quick))


def s2_inline(quick: bool) -> str:
    """Return what the campaign prints that plays the models past a gateway's packet queue."""
    words = ["tests.campaigns.s2", *(["--families", "vote"] if quick else [])]
    if os.geteuid() != 0 or not (CHECKOUT / "tests" / "campaigns" / "s2.py").is_file():
        return f"Not measured: `python -m {shlex.join(words)}` needs root and a clone."
    click.echo(f"$ python -m {shlex.join(words)}")
    code, said = finished([sys.executable, "-m", *words], cwd=CHECKOUT, stdout=subprocess.PIPE)
    if code not in (0, 1) or not said:
        raise IdsError(f"the campaign ended with {code}: it says why above")
    held = "" if code == 0 else "\n\nDOES NOT HOLD: not every drop was logged."
    return f"`python -m {shlex.join(words)}`\n\n{said.strip()}{held}"


def s3(data: Path | None, scratch: Path, quick: bool) -> str:
    """Play the monitor's scenario."""
    del data, scratch
    if not (CHECKOUT / "tests" / "campaigns" / "monitor_s3.py").is_file():
        raise IdsError("s3 needs a clone of the repository: its scenario is one of the campaigns")
    words = ["tests.campaigns.monitor_s3", *(["--repeats", "1"] if quick else [])]
    words += ["--kill-step", "20" if quick else "5"]
    code, said = finished([sys.executable, "-m", *words], cwd=CHECKOUT, stdout=subprocess.PIPE)
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError as error:
        raise IdsError(f"the campaign ended with {code}: it says why above") from error
    if code:
        found["DOES NOT HOLD"] = "a frame was lost or seen twice, or a kind of frame is missing"
    return reproduce.monitor(found, command=f"python -m {shlex.join(words)}")


RESULTS: dict[str, Callable[[Path | None, Path, bool], str]] = {
    "s1-table2": s1_table2,
    "s1-table3": s1_table3,
    "s2": s2,
    "s3": s3,
}


@click.command()
@click.argument("name", type=click.Choice(list(RESULTS)))
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="s1-table2: folder of labelled captures; s2: KDD Cup 1999's file.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("docs/reproduction.md"),
    show_default=True,
    help="Page of which the result's section is written anew.",
)
@click.option("--quick", is_flag=True, help="The shape: less data, shorter steps.")
@click.option(
    "--from",
    "made",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="s1-table3: folder of an `ids-appliance bench` that was run before; nothing is measured.",
)
def command(name: str, data: Path | None, output: Path, quick: bool, made: Path | None) -> None:
    """Measure a published result anew, and write it beside what was published.

    s1-table2: accuracy of the packet forest, all features and top 20. s1-table3: highest rate
    without loss, CPU and memory, gateway-only and offloaded (root). s2: four models and their vote
    on KDD Cup 1999, and past a packet queue in the lab (root, a clone of the repository). s3: the
    traffic monitor's scenario (root, Open vSwitch, a clone). Seeds are fixed: where no clock is
    involved, a second run is identical. What needs a part that is not there says so in its section.

    \b
    Examples:
      ids-appliance reproduce s1-table2 --data captures
      ids-appliance reproduce s1-table3 --quick --output /tmp/reproduction.md
      ids-appliance reproduce s1-table3 --from docs/benchmarks/run
      ids-appliance reproduce s2 --data kddcup.data_10_percent.gz
    """
    if not output.parent.is_dir():
        raise IdsError(f"{output.parent} is no folder: run it in a clone, or give --output")
    if made is not None:
        if name != "s1-table3":
            raise IdsError(f"--from belongs to s1-table3: {name} is measured anew each time")
        section = reproduce.table3(reproduce.made_before(made))
    else:
        with TemporaryDirectory(prefix="ids-reproduce-") as scratch:
            section = RESULTS[name](data, Path(scratch), quick)
    page = output.read_text(encoding="utf-8") if output.is_file() else ""
    output.write_text(reproduce.replaced(page, name, section), encoding="utf-8")
    click.echo(f"\n{section}\n\n{output} has it.")
