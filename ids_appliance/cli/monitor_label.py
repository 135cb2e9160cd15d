"""`ids-appliance monitor label`: who attacked whom and when in, labels that training reads out."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import click

from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import LabelError
from ids_appliance.monitor import sidecar
from ids_appliance.monitor.sidecar import Attack, Facts, Json
from ids_appliance.train.labels import Label, Labeller, read_labels

_CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,9})?)", re.ASCII)
_OFFSET = re.compile(r"\+(\d{1,9}(?:\.\d{1,9})?)s?", re.ASCII)


@click.command()
@click.argument(
    "captures",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@click.option("--attack", metavar="FAMILY", help="Name of the attack, such as syn_flood.")
@click.option("--from", "attackers", multiple=True, metavar="WHO", help="Address or MAC; again.")
@click.option("--to", "victims", multiple=True, metavar="WHOM", help="Victim; again for several.")
@click.option("--proto", type=click.Choice(["tcp", "udp", "icmp", "icmp6"]), help="Only that.")
@click.option(
    "--port",
    "ports",
    multiple=True,
    type=click.IntRange(0, 65_535),
    help="Port of the victim; again for several.",
)
@click.option("--during", metavar="START..END", help="When, see below; without it: always.")
@click.option("--ordinary", is_flag=True, help="Nobody attacked: every frame is benign.")
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="What `lab run --out FOLDER` played meanwhile.",
)
@click.option(
    "--default",
    "default",
    type=click.Choice(["benign", "ignore"]),
    default="benign",
    show_default=True,
    help="What all other frames are.",
)
@click.option("--group", default="monitor", show_default=True, help="Name of the network.")
@click.option("--note", default="", help="For people.")
@click.option("--replace", is_flag=True, help="Forget what was said of these files before.")
def command(
    captures: tuple[Path, ...],
    attack: str | None,
    ordinary: bool,
    scenario: Path | None,
    default: str,
    group: str,
    note: str,
    replace: bool,
    during: str | None,
    **who: tuple[str, ...] | tuple[int, ...] | str | None,
) -> None:
    """Say of captures who attacked whom, and when, in the labels.json beside them.

    What the attackers sent is malicious; what the victims sent back, until 5 seconds later,
    is related; the rest is benign. `ids-appliance train --data FOLDER` and `calibrate --labels
    FOLDER/labels.json` read it at once. Several attacks: call it once for each. Of several files,
    such as a ring's, those get the attack that it fell into.

    Times are of the local clock on the day of the first frame (12:00:03), ISO 8601 with the date,
    or seconds since the first frame (+3.5). Nothing is written unless frames match.

    \b
    Examples:
      ids-appliance monitor label flood.pcap --attack syn_flood --from 10.0.0.5 \\
          --to 192.168.1.223 --proto tcp --port 80 --during 12:00:03..12:00:09
      ids-appliance monitor label quiet.pcap --ordinary
      ids-appliance monitor label mirror.pcap --scenario out/syn_flood
    """
    if sum((attack is not None, ordinary, scenario is not None)) != 1:
        raise LabelError("say one of: --attack FAMILY, --ordinary, --scenario FOLDER")
    if attack is not None and not who["attackers"]:
        raise LabelError("who attacked? --from ADDRESS or MAC")
    if attack is None and (any(who.values()) or during):
        raise LabelError("--from, --to, --proto, --port and --during say more of an --attack")
    if len({path.parent.resolve() for path in captures}) > 1:
        raise LabelError("files of several folders: each folder has its own labels.json")
    labels = captures[0].parent / sidecar.LABELS
    document = sidecar.read(labels)
    played = _played(scenario) if scenario is not None else None
    before: dict[str, int] = {}
    fell_in = ordinary
    for path in captures:
        capture = sidecar.facts(path)
        if attack is not None:
            found = sidecar.rules(_attack(attack, who, capture, during), capture)
        elif played is not None:
            found = sidecar.shifted(played[0], first_ns=played[1], capture=capture)
        else:
            found = []
        new = sidecar.entry(capture, found, group=group, note=note, default=default)
        before[path.name] = 0 if replace else sidecar.rules_of(document, path.name)
        document = sidecar.merged(document, new, replace=replace)
        fell_in = fell_in or bool(found)
    if not fell_in:
        raise LabelError("nothing written: the attack was before or after what the files hold")
    tables: dict[str, Counter[str]] = {}
    sidecar.write(
        labels, document, check=lambda part: tables.update(_counted(part, captures, before))
    )
    for name, counts in tables.items():
        told = " · ".join(f"{label} {n:,}" for label, n in counts.items())
        click.echo(f"{name}: {told}")
    click.echo(f"in {labels}")


def _attack(
    family: str,
    who: dict[str, tuple[str, ...] | tuple[int, ...] | str | None],
    capture: Facts,
    during: str | None,
) -> Attack:
    start, stop = _during(during, capture) if during else (None, None)
    return Attack(
        family,
        tuple(str(one) for one in who["attackers"] or ()),
        tuple(str(one) for one in who["victims"] or ()),
        str(who["proto"] or ""),
        tuple(int(one) for one in who["ports"] or ()),
        start,
        stop,
    )


def _during(text: str, capture: Facts) -> tuple[int, int]:
    """Return start and end in nanoseconds since the epoch. Raises LabelError."""
    first, dots, last = text.partition("..")
    if not dots:
        raise LabelError(f"--during {text!r}: write START..END, such as 12:00:03..12:00:09")
    start, stop = _moment(first, capture), _moment(last, capture)
    if stop < start and _CLOCK.fullmatch(first.strip()) and _CLOCK.fullmatch(last.strip()):
        stop += 86_400 * 10**9  # over midnight
    if stop < start:
        raise LabelError(f"--during {text!r} ends before it begins")
    return start, stop


def _moment(text: str, capture: Facts) -> int:
    text = text.strip()
    if offset := _OFFSET.fullmatch(text):
        return capture.first_ns + round(float(offset[1]) * 1e9)
    begin = datetime.fromtimestamp(capture.first_ns / 1e9).astimezone()
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = int(clock[1]), int(clock[2]), float(clock[3])
        if hours < 24 and minutes < 60 and seconds < 61:
            day = begin.replace(hour=0, minute=0, second=0, microsecond=0)
            moment = day + timedelta(hours=hours, minutes=minutes)
            # A capture from before midnight to after it: the same clock a day later.
            if moment + timedelta(hours=12) < begin:
                moment += timedelta(days=1)
            return round(moment.timestamp()) * 10**9 + round(seconds * 1e9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise LabelError(
            f"{text!r} is no time: write 12:00:03, 2026-05-01T12:00:03 or +3.5"
        ) from None
    return round(moment.astimezone().timestamp() * 1e6) * 1000


def _played(folder: Path) -> tuple[Json, int]:
    """Return a scenario's entry and the time of its capture's first frame. Raises LabelError."""
    document = sidecar.read(folder / sidecar.LABELS)
    entries = [one for one in document["files"] if isinstance(one, dict) and one.get("rules")]
    if len(entries) != 1:
        raise LabelError(f"{folder} is not what lab run --out has written: no rules of one capture")
    read_labels(folder / sidecar.LABELS)
    return entries[0], sidecar.facts(folder / str(entries[0]["file"])).first_ns


def _counted(
    labels: Path, captures: Sequence[Path], before: dict[str, int]
) -> dict[str, Counter[str]]:
    """Return how many frames of each file have which label; `before`: rules that were there.

    Raises LabelError: not to be read, or none of the new rules matches anything."""
    entries = {entry.file: entry for entry in read_labels(labels)}
    found: dict[str, Counter[str]] = {}
    matched = added = 0
    for path in captures:
        entry = entries[path.name]
        added += len(entry.rules) - before[path.name]
        labeller = Labeller(entry)
        counts: Counter[str] = Counter(dict.fromkeys(("malicious", "related", "benign"), 0))
        capture = CaptureFile(path)
        try:
            for batch in capture.batches():
                given, decided = labeller.label(batch)
                matched += int((decided > before[path.name]).sum())
                for label in Label:
                    if n := int((given == label).sum()):
                        counts[label.name.lower()] += n
        finally:
            capture.close()
        found[path.name] = counts
    if added and not matched:
        raise LabelError(
            "nothing written: no frame is of that attack that earlier rules leave over: look at "
            "--from, --to and --during; --replace forgets earlier rules"
        )
    return found
