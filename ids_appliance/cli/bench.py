"""`ids-appliance bench`: the highest rate without loss in every mode, measured on this machine."""

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import click

from ids_appliance.bench import mixes as packets
from ids_appliance.bench import suricata
from ids_appliance.bench.bed import Bed
from ids_appliance.bench.cpus import Camps
from ids_appliance.bench.document import document
from ids_appliance.bench.groups import CLASSES, held, sweep
from ids_appliance.bench.inventory import read
from ids_appliance.bench.live import MODES as LIVE_MODES
from ids_appliance.bench.live import Live
from ids_appliance.bench.machine import machine
from ids_appliance.bench.modes import MODES, Mode, Stage, others
from ids_appliance.bench.plan import QUICK, Run, Thoroughness, Trials, hasten, steps_at_most
from ids_appliance.bench.plots import draw
from ids_appliance.bench.remote import Ssh
from ids_appliance.bench.report import report
from ids_appliance.bench.trial import BedTrials
from ids_appliance.cli import recorded
from ids_appliance.cli.judging import MODEL
from ids_appliance.errors import IdsError
from ids_appliance.lab.namespaces import orderly, require

F = TypeVar("F", bound=Callable[..., Any])
QUICK_MIXES = ("syn-single", "mixed")
LIVE_MIX = "live"
OF_THE_BED = ("mixes", "cgroup", "apart", "against", "model")
QUICK_MODES = ("bare", "tapped", "gateway-only", "offloaded")
USUAL = [mode.name for mode in MODES.values() if not mode.absent]


def chosen(_context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """Turn `a,b` into names that exist."""
    known = MODES if option.name == "modes" else packets.MIXES
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise click.BadParameter(f"there is no {name!r}: {', '.join(known)}")
    return list(dict.fromkeys(names))


def rates(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    """Turn `15000,19500` into rates; "" into none."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of packets a second") from error
    if any(not 1 <= pps <= 1e7 for pps in found):
        raise click.BadParameter("packets a second are from 1 to 10,000,000")
    return found


def number(name: str, about: str, low: float, *, whole: bool = False) -> Callable[[F], F]:
    """Return an option for a number of at least so much; what it is without it, `--help` says."""
    if whole:
        return click.option(name, type=click.IntRange(min=int(low)), help=about)
    return click.option(name, type=click.FloatRange(min=low), help=about)


@click.command()
@click.option("--modes", callback=chosen, help=f"Of {', '.join(MODES)}; by default all there are.")
@click.option("--mixes", callback=chosen, help=f"Of {', '.join(packets.MIXES)}; by default all.")
@click.option("--quick", is_flag=True, help="The shape in ten minutes: short steps, one round.")
@number("--step", "Seconds a step of the search (10).", 0.5)
@number("--confirm", "Seconds a confirmation (60).", 0.5)
@number("--confirmations", "Longer runs that have to hold as well (3).", 0, whole=True)
@number("--confirmed-rounds", "Rounds whose answers are confirmed (all).", 1, whole=True)
@number("--rounds", "Searches of each mode, interleaved: pairs for the ratios (10).", 1, whole=True)
@number("--resolution", "Share by which the answer may be too low (0.05).", 0.001)
@number("--ceiling", "Packets a second above which nobody looks (4,000,000).", 100)
@click.option("--fixed", callback=rates, help='Rates for CPU and memory (15000,19500); "" none.')
@number("--fixed-for", "Seconds at a fixed rate (60).", 0.5)
@click.option(
    "--cgroup",
    type=click.Choice(list(CLASSES)),
    help="Hold the gateway's process to a class of machine (control groups).",
)
@click.option(
    "--apart",
    is_flag=True,
    help="Gateway and forwarding on one CPU, generator and node on the others.",
)
@click.option(
    "--against",
    type=click.Choice(["suricata"]),
    help="Another system under the same load: Suricata beside the packets' way and in it.",
)
@click.option(
    "--model",
    type=MODEL,
    default=recorded.MODELS / "iot-top20",
    metavar="BUNDLE",
    help="Model bundle to judge with; by default the shipped one of 20 features.",
)
@click.option("--live", is_flag=True, help="On the real hosts of --inventory instead.")
@click.option(
    "--inventory",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Hosts of --live: TOML, or Ansible's YAML.",
)
@click.option(
    "--profile",
    type=click.Choice(["own", "paper"]),
    default="own",
    show_default=True,
    help="Of --live; paper: the rules open the window, gateway-only runs without Zeek.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bench-output"),
    show_default=True,
    help="Folder for bench.json, report.md and plots.",
)
def command(quick: bool, modes: list[str], mixes: list[str], **given: Any) -> None:
    """Find the highest rate without loss of every mode, in namespaces on this machine.

    A generator sends through a gateway to a counting sink; a node stands beside it. The window is
    open from the first to the last packet and responses are off. A packet is lost that is not
    forwarded, or, where packets are judged, not judged: dropped, shed or unanswered; 1 in 100,000
    is allowed. A step counts only if the generator achieved 99.9 % of the rate: an answer that the
    generator has limited says so. Modes take turns, so that a noisy machine hits all alike; ratios
    are of pairs of one round. CPU, memory and bytes on the link are measured at fixed rates.

    The defaults take many hours (it says about how many) on a machine that should do nothing else.
    Needs root; Ctrl-C writes what there is, and nothing is left behind.

    With --live the same search goes over real hosts by SSH: SYNs from the generator to the sink,
    through a gateway that runs; its mode is switched and restored at the end. Nothing is sent to
    anybody but the inventory's sink (docs/benchmarks/README.md has a form of the inventory).

    \b
    Examples:
      ids-appliance bench --quick
      ids-appliance bench --mixes syn-spoofed --modes tapped,offloaded --rounds 3
      ids-appliance bench --out docs/benchmarks/run
      ids-appliance bench --live --inventory hosts.toml --profile paper --confirmations 0
    """
    how = _thoroughness(quick, given)
    live, inventory, out = given["live"], given["inventory"], given["out"]
    if live != (inventory is not None):
        raise click.UsageError("--live and --inventory FILE belong together")
    _alone(click.get_current_context(), live=live)
    usual = LIVE_MODES if live else QUICK_MODES if quick else USUAL
    against = others(given["against"] or "")
    chosen_modes = [*(MODES[name] for name in modes or usual), *against]
    chosen_mixes = [LIVE_MIX] if live else mixes or list(QUICK_MIXES if quick else packets.MIXES)
    for mode in chosen_modes:
        if mode.absent:
            raise IdsError(f"mode {mode.name} cannot be measured: {mode.absent}")
        if live and mode.name not in LIVE_MODES:
            raise IdsError(f"mode {mode.name} cannot be measured live: {', '.join(LIVE_MODES)} can")
    about = {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "command": called(click.get_current_context()),
        "machine": machine(),
        "model": given["model"].name,
        "interrupted": True,
        "notes": [],
    }
    if against:
        about["notes"].append(suricata.about())
    with orderly(), ExitStack() as stack:
        if live:
            trials: Trials = _live(stack, inventory, given["profile"], about)
        else:
            trials = _bed(stack, given, about)
        hours = steps_at_most(how, len(chosen_modes), len(chosen_mixes)) / 3600
        click.echo(f"about {60 * hours:.0f} minutes" if hours < 2 else f"about {hours:.0f} hours")
        out.mkdir(parents=True, exist_ok=True)
        run = Run(trials, how, say=click.echo)
        try:
            # What takes longest comes last: cut off, it still tells what it had.
            run.fix(chosen_modes, chosen_mixes, timed=not live)
            run.search(chosen_modes, chosen_mixes)
            about["interrupted"] = False
        finally:
            _write(out, run, how=how, about=about, modes=chosen_modes, mixes=chosen_mixes)


def _alone(context: click.Context, *, live: bool) -> None:
    """Refuse what says nothing here: the report would tell it as if it had been so."""
    for name in OF_THE_BED if live else ("profile",):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            where = "with --live: it is of the test bed" if live else "without --live"
            raise click.UsageError(f"--{name} says nothing {where}")


def _bed(stack: ExitStack, given: dict[str, Any], about: dict[str, Any]) -> Trials:
    """Build the test bed. Raises LabError, IdsError before anything is built."""
    require("taskset") if given["apart"] else require()
    sweep()
    model, cgroup, notes = given["model"], given["cgroup"], about["notes"]
    if not (model / "card.json").is_file():
        raise IdsError(f"{model} is no model bundle: it has no card.json")
    camps = Camps.found() if given["apart"] else None
    prefix: tuple[str, ...] = ()
    if cgroup:
        prefix = stack.enter_context(held(cgroup))
        notes.append(f"the gateway's process is held to {cgroup}")
    if camps is not None:
        prefix += camps.prefix
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, camps.others)
        notes.append(
            f"CPU {camps.gateway} forwards and is the gateway's, all else is done by the others"
        )
    bed = stack.enter_context(Bed(camps))
    stage = stack.enter_context(Stage(bed, model, prefix=prefix))
    return BedTrials(bed, stage)


def _live(stack: ExitStack, path: Path, profile: str, about: dict[str, Any]) -> Trials:
    """Reach the hosts of an inventory, and see that they can do their part. Raises LabError."""
    hosts = read(path)
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="ids-ssh-")))
    live = Live(hosts, stack.enter_context(Ssh(folder)), profile=profile)
    status = live.check()
    about["model"] = str(status.get("model", ""))
    about["notes"].append(
        f"live, profile {profile}: {hosts.generator.address} through {hosts.gateway.address} to "
        f"{hosts.sink.address}; the machine above is the one that gave the orders"
    )
    stack.enter_context(live.restored())
    return live


def _thoroughness(quick: bool, given: dict[str, Any]) -> Thoroughness:
    return hasten(
        QUICK if quick else Thoroughness(),
        step_s=given["step"],
        confirm_s=given["confirm"],
        confirmations=given["confirmations"],
        rounds=given["rounds"],
        confirmed_rounds=given["confirmed_rounds"] or given["rounds"],
        resolution=given["resolution"],
        ceiling_pps=given["ceiling"],
        fixed_pps=given["fixed"],
        fixed_s=given["fixed_for"],
    )


def called(context: click.Context) -> str:
    """Return the command as it was given, without the machine's own paths."""
    words = ["ids-appliance bench"]
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not given or isinstance(option.type, click.Path):
            continue
        value = context.params[name]
        words.append(option.opts[0])
        if value is not True:
            several = value if isinstance(value, list | tuple) else [value]
            said = ",".join(f"{v:.12g}" if isinstance(v, float) else str(v) for v in several)
            words.append(said or '""')
    return " ".join(words)


def _write(
    out: Path,
    run: Run,
    *,
    how: Thoroughness,
    about: dict[str, Any],
    modes: list[Mode],
    mixes: list[str],
) -> None:
    if not run.results.steps and not run.results.fixed:
        click.echo(f"nothing was measured: {out} is as it was", err=True)
        return
    names = {mode.name: mode.about for mode in modes}
    told = document(run.results, how=how, modes=names, mixes=mixes, about=about)
    _replace(out / "bench.json", json.dumps(told, indent=1) + "\n")
    page = report(told, pictures=draw(told, out))
    _replace(out / "report.md", page)
    click.echo(f"\n{page}")
    click.echo(f"bench.json and report.md are in {out}")


def _replace(path: Path, text: str) -> None:
    """Write a file whole, or leave the one that is there. Raises IdsError."""
    staged = path.with_name(f".{path.name}")
    try:
        staged.write_text(text)
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise IdsError(f"cannot write {path}: {error.strerror}") from error
