"""`ids-appliance calibrate`: ordinary traffic in, the bounds of the evidence out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from ids_appliance import assemble, config
from ids_appliance.cli.calibrate_live import live_watch
from ids_appliance.cli.calibrating import (
    MALICIOUS_BIT,
    ORDINARY_BITS,
    Setup,
    captures,
    over_captures,
    uncalibrated,
)
from ids_appliance.cli.durations import duration
from ids_appliance.cli.identity import identity_options
from ids_appliance.cli.judging import MODEL
from ids_appliance.cli.previous import keep
from ids_appliance.config_file import load
from ids_appliance.policy.bounds import (
    RATES,
    Bounds,
    Peaks,
    Row,
    least_upper,
    read_bounds,
    table_of,
    write_bounds,
)
from ids_appliance.policy.calibration import Reached, peaks_of
from ids_appliance.trigger.embedded import build

_SHOWN = 10


@click.command()
@click.argument("targets", nargs=-1, metavar="[CAPTURE...|INTERFACE...]")
@click.option("--model", type=MODEL, required=True, metavar="BUNDLE", help="Model to judge with.")
@click.option(
    "--for",
    "for_s",
    callback=lambda c, p, v: None if v is None else duration(c, p, v),
    metavar="DURATION",
    help="Watch interfaces live for so long (90s, 1h30m, 7d) instead of reading captures.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="labels.json: only senders without malicious packets count as ordinary. Without CAPTURE, "
    "all that it lists are read.",
)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0.0, 0.5, min_open=True),
    default=RATES[0],
    show_default=True,
    help="Share of ordinary senders that may reach the bound.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the bounds to this file (JSON); name it in policy.bounds.",
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take [policy], [trigger] and [window] from this configuration file.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("calibration.json"),
    show_default=True,
    help="Live: where what was learned is kept, so that a broken-off watch goes on.",
)
@click.option(
    "--with-trained",
    is_flag=True,
    help="Also use captures of networks that the model was trained on.",
)
@identity_options
def command(targets: tuple[str, ...], path: Path | None, **given: Any) -> None:
    """Find the bounds of the evidence that keep ordinary senders from being accused.

    Every packet is judged as if the scrutiny window were always open, and the highest score of each
    sender is noted. The bound is the one that at most the share --false-alarms of the senders
    reaches, and never less than two cells' whole weight and a packet more, so that no packet and no
    two cells decide. Nothing is blocked; no payload is kept.

    \b
    Examples:
      ids-appliance calibrate monday.pcap tuesday.pcap --model models/iot-top20 --out bounds.json
      ids-appliance calibrate --labels captures/labels.json --model models/iot-top20
      ids-appliance calibrate br-lan --for 7d --model models/iot-top20 --out bounds.json
    """
    whole = load(path) if path is not None else config.Config(interfaces=())
    bundle = assemble.bundle(given["model"])
    before = read_bounds(whole.policy.bounds)
    setup = Setup(
        bundle,
        whole.policy,
        uncalibrated(whole.policy, bundle, {**before.priors, **whole.policy.priors}),
        lambda: build(whole.trigger),
        macs=given["macs"],
        addresses=given["addresses"],
        window_s=whole.window.max_window_s,
    )
    if given["for_s"] is not None:
        if not targets or given["labels"] is not None:
            raise click.UsageError("--for needs an INTERFACE to watch, and no --labels")
        said = _would_be_blocked(before.upper, least_upper(whole.policy), given["false_alarms"])
        watched = live_watch(targets, setup, for_s=given["for_s"], state=given["state"], tell=said)
        peaks = peaks_of(watched.reached)
        data, networks = watched.data, 1
        said(watched.reached)
    else:
        if not targets and given["labels"] is None:
            raise click.UsageError("name captures, --labels, or an INTERFACE with --for")
        paths = [_existing(target) for target in targets]
        todo = captures(paths, given["labels"])
        with _bar(len(todo)) as step:
            offline = over_captures(todo, setup, with_trained=given["with_trained"], progress=step)
        for why, names in offline.left_out.items():
            click.echo(f"left out ({why}): {len(names)} captures", err=True)
        if offline.evictions:
            click.echo(f"{offline.evictions:,} senders too many were forgotten", err=True)
        labelled = given["labels"] is not None
        peaks = peaks_of(
            offline.reached,
            benign=ORDINARY_BITS,
            malicious=MALICIOUS_BIT if labelled else None,
        )
        data = offline.data
        networks = len({network for network, _ in offline.reached})
    bounds = calibrated(setup, peaks, rate=given["false_alarms"], data=data)
    click.echo(report(bounds, networks=networks))
    if given["out"] is not None:
        kept = keep(given["out"])
        write_bounds(bounds, given["out"])
        click.echo(f"written to {given['out']}: name it in policy.bounds")
        if kept:
            click.echo(f"the bounds before: ids-appliance rollback {given['out']}")


def calibrated(setup: Setup, peaks: Peaks, *, rate: float, data: Mapping[str, str]) -> Bounds:
    """Return the bounds for a false-alarm rate. Raises BoundsError if no sender was ordinary."""
    least = least_upper(setup.policy)
    table = table_of(peaks, (*RATES, rate), least=least)
    row = next(row for row in table if row.false_alarms == rate)
    return structs.replace(
        setup.bounds,
        upper=row.upper,
        false_alarms=rate,
        least=least,
        table=table,
        senders=len(peaks.ordinary),
        malicious_senders=0 if peaks.malicious is None else len(peaks.malicious),
        device_days=round(peaks.device_days, 3),
        data=dict(data),
    )


def report(bounds: Bounds, *, networks: int) -> str:
    """Return the table that people decide by."""
    n = bounds.senders
    lines = [
        f"{n:,} ordinary senders of {networks:,} network{'s' * (networks != 1)}, "
        f"{bounds.device_days:,.1f} device-days"
        + (f"; {bounds.malicious_senders:,} malicious" if bounds.malicious_senders else ""),
        f"{'false alarms':>12}{'bound':>9}{'of these':>10}{'ordinary reach it':>20}"
        f"{'per device-day':>16}{'malicious reach it':>20}",
    ]
    lines += [_line(row, bounds) for row in bounds.table]
    if any(row.upper > row.quantile for row in bounds.table):
        lines.append(
            f"* the senders alone would allow the figure in column 'of these'; below "
            f"{bounds.least:.1f} two cells would decide"
        )
    lowest = min(row.false_alarms for row in bounds.table)
    if n * lowest < 1:
        lines.append(
            f"{n:,} senders cannot show a rate of {lowest:.1%}: where none reaches the bound, the "
            f"true rate is below {3 / n:.1%} with 95 % certainty"
        )
    lines.append(
        f"bound for {bounds.false_alarms:.1%}: {bounds.upper:.2f} nats, model {bounds.model_id}"
    )
    return "\n".join(lines)


def _line(row: Row, bounds: Bounds) -> str:
    star = "*" if row.upper > row.quantile else " "
    found = "" if row.malicious is None else f"{row.malicious:,} of {bounds.malicious_senders:,}"
    return (
        f"{row.false_alarms:>12.1%}{row.upper:>8.2f}{star}{row.quantile:>10.2f}"
        f"{f'{row.ordinary:,} of {bounds.senders:,}':>20}{row.per_device_day:>16.3f}{found:>20}"
    ).rstrip()


def _would_be_blocked(
    now: float, least: float, rate: float
) -> Callable[[Mapping[str, Reached]], None]:
    """Return what shows who would have been blocked so far, with today's bound and a new one."""

    def show(reached: Mapping[str, Reached]) -> None:
        if not reached:
            click.echo("no sender has been seen yet", err=True)
            return
        row = table_of(peaks_of(reached), [rate], least=least)[0]
        ranked = sorted(reached.items(), key=lambda one: (-one[1].peak, one[0]))
        for bound, name in ((now, "today's bound"), (row.upper, f"bound for {rate:.1%}")):
            blocked = [text for text, one in ranked if one.peak >= bound]
            listed = f": {', '.join(blocked[:_SHOWN])}" if blocked else ""
            click.echo(f"{name} {bound:.2f}: {len(blocked)} would have been blocked{listed}")
        click.echo(f"{'highest scores':44}{'score':>8}{'packets':>12}{'hours':>7}")
        for text, one in ranked[:_SHOWN]:
            click.echo(f"{text[:43]:44}{one.peak:>8.2f}{one.packets:>12,}{one.hours:>7,}")

    return show


def _existing(target: str) -> Path:
    path = Path(target)
    if not path.is_file():
        raise click.UsageError(f"{target} is no file; to watch an interface, give --for as well")
    return path


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal after two seconds, where tqdm is installed."""
    try:
        from tqdm import tqdm  # noqa: PLC0415  (an extra: a gateway need not have it)
    except ModuleNotFoundError:
        yield lambda name: None
        return
    with tqdm(total=total, unit="capture", delay=2, leave=False, disable=None) as bar:

        def step(name: str) -> None:
            bar.set_description(name[-40:], refresh=False)
            bar.update()

        yield step
