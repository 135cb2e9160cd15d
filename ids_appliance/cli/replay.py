"""`ids-appliance replay`: captures in, what the whole appliance would have done out."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ids_appliance import config_file
from ids_appliance.cli.identity import identity, identity_options
from ids_appliance.cli.judging import MODEL, open_classifier
from ids_appliance.cli.options import node_options
from ids_appliance.config import Config
from ids_appliance.errors import LabelError
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, Label, Made, Replay, Replayed
from ids_appliance.policy.subjects import subject_of, told
from ids_appliance.policy.wording import duration_text
from ids_appliance.train.labels import Labeller, read_labels
from ids_appliance.trigger.window import WindowRecord
from ids_appliance.types import Decision

SHOWN: Final = 40
"""Windows and decisions in a table; JSON has them all."""
S: Final = 1e9


@click.command()
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...")
@click.option("--model", type=MODEL, metavar="BUNDLE", help="Model bundle to judge with.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings of trigger, window, policy and enforce; the defaults where it is not given.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    help="labels.json that names the captures: say who was found, and who wrongly accused.",
)
@click.option(
    "--enforce/--observe",
    default=None,
    help="As if decisions were enforced, or only recorded; without --config: enforced.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="Tables for people, or one JSON object per window, decision and capture.",
)
@identity_options
@node_options
def command(
    captures: tuple[str, ...],
    model: Path | None,
    config_path: Path | None,
    labels: Path | None,
    enforce: bool | None,
    form: str,
    macs: list[bytes],
    addresses: list[bytes],
    **options: Any,
) -> None:
    """Run captures through the whole appliance and print windows, decisions and totals.

    Screen, scrutiny window, forest, evidence and decisions are those of the gateway; time is that
    of the packets, and a dry run stands for the kernel: whom it cuts off is not judged any more,
    although the capture goes on showing its packets. The same capture gives the same result every
    time. Who forwards for others in the capture is taken for a router, unless you say who the
    gateway was.

    A damaged capture is replayed as far as it can be read; the exit code is 2 then.

    \b
    Examples:
      ids-appliance replay lan.pcap --model models/iot-top20
      ids-appliance replay data/*.pcap.gz --model models/iot-top20 --labels data/labels.json
    """
    config = settings(config_path, enforce)
    host = identity(macs, addresses) if macs or addresses else None
    entries = label_files(labels)
    bad = False
    with closing(open_classifier(model, options)) as classifier:
        for capture in captures:
            label = labelling(entries, labels, capture)
            replayed = Replay(config, offline_parts, classifier, label=label, host=host).run(
                capture
            )
            rows = as_json(replayed) if form == "jsonl" else as_text(replayed)
            for line in rows:
                click.echo(line)
            if replayed.problem:
                click.echo(f"Error: {replayed.problem}", err=True)
            bad = bad or replayed.problem is not None
    if bad:
        sys.exit(2)


def settings(path: Path | None, enforce: bool | None) -> Config:
    """Return the configuration of a replay. Raises ConfigError."""
    if path is None:
        config = Config(interfaces=(INTERFACE,))
        enforce = True if enforce is None else enforce
    else:
        config = config_file.load(path)
    if enforce is None:
        return config
    section = msgspec.structs.replace(config.enforce, enabled=enforce)
    return msgspec.structs.replace(config, enforce=section)


def label_files(labels: Path | None) -> dict[Path, Labeller]:
    """Return a labeller per capture that labels.json names. Raises LabelError."""
    if labels is None:
        return {}
    root = labels.parent
    return {
        (root / entry.file).resolve(): Labeller(entry)
        for entry in read_labels(labels)
        if entry.kind == "pcap"
    }


def labelling(entries: dict[Path, Labeller], labels: Path | None, capture: str) -> Label | None:
    """Return what labels a capture's frames; None without labels. Raises LabelError."""
    if labels is None:
        return None
    found = entries.get(Path(capture).resolve())
    if found is None:
        raise LabelError(f"{labels} does not name {capture}")
    return lambda batch: found.label(batch)[0]


# Tables ----------------------------------------------------------------------------------------


def as_text(replayed: Replayed) -> Iterator[str]:
    """Yield the lines of a table for people."""
    first = replayed.first_ns or 0
    c = replayed.counters
    incidents = [w for w in replayed.windows if w.incident]
    yield (
        f"{replayed.capture}: {c['delivered']:,} frames in {(replayed.last_ns - first) / S:,.1f} s"
        f" · windows {len(incidents)} · triggers {replayed.n_events:,} · judged {c['judged']:,}"
        f" · cells {c['cell_asks']:,} · contained {c['contained']:,}"
    )
    if replayed.windows:
        names = f"{'seen':>9} {'judged':>9} {'votes':>7}  cause"
        yield f"  {'window':>6} {'from':>10} {'for':>9} {names}"
    for window in replayed.windows[:SHOWN]:
        end = window.closed_ns if window.closed_ns is not None else replayed.last_ns
        yield (
            f"  {window.id:>6} {(window.opened_ns - first) / S:>+9.2f}s"
            f" {(end - window.opened_ns) / S:>8.2f}s {window.seen:>9,} {window.judged:>9,}"
            f" {window.votes:>7,}  {cause(window)} ({window.why})"
        )
    yield from _more(replayed.windows)
    for made in replayed.made[:SHOWN]:
        yield f"  {(made.at_ns - first) / S:>+9.2f}s {decided(made)}"
    yield from _more(replayed.made)
    for name, accused in (("appliance", replayed.acted()), ("triggers alone", replayed.named)):
        line = judgement(replayed, accused)
        if line:
            yield f"  {name}: {line}"


def _more(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > SHOWN:
        yield f"  ... and {len(rows) - SHOWN:,} more"


def cause(window: WindowRecord) -> str:
    """Return what opened a window, on one line."""
    return " ".join(part for part in (window.rule, window.key, window.detail) if part)[:100]


def who(sender: bytes) -> str:
    """Return a canonical sender for people."""
    subject = subject_of(sender, lambda index: INTERFACE)
    return told(subject) if subject is not None else "nobody"


def decided(made: Made) -> str:
    """Return a decision on one line."""
    decision: Decision = made.decision
    time = duration_text(decision.duration_s)
    return (
        f"{decision.response.name.lower()} {told(decision.subject)} for {time}"
        f"{'' if made.acts else ' (not enforced)'}: {decision.reason}"
    )


def judgement(replayed: Replayed, accused: set[bytes]) -> str:
    """Return how many were found and wronged; "" without labels."""
    attackers = sum(sent.attacker for sent in replayed.senders.values())
    ordinary = sum(sent.ordinary for sent in replayed.senders.values())
    if not attackers + ordinary:
        return ""
    wronged = replayed.wronged(accused)
    names = ": " + ", ".join(map(who, wronged[:5])) if wronged else ""
    return (
        f"attackers found {len(replayed.found(accused))} of {attackers}, "
        f"ordinary senders accused {len(wronged)} of {ordinary}{names}"
    )


# JSON ------------------------------------------------------------------------------------------


def as_json(replayed: Replayed) -> Iterator[str]:
    """Yield one JSON object a window, a decision, and the capture's totals."""
    for window in replayed.windows:
        record = {name: getattr(window, name) for name in WindowRecord.__slots__}
        record |= {
            "cause": who(window.cause) if window.cause else "",
            "rules": dict(window.rules),
        }
        yield json.dumps({"type": "window", "capture": replayed.capture} | record)
    for made in replayed.made:
        decision = made.decision
        yield json.dumps(
            {
                "type": "decision",
                "capture": replayed.capture,
                "number": decision.number,
                "subject": told(decision.subject),
                "response": decision.response.name.lower(),
                "duration_s": decision.duration_s,
                "reason": decision.reason,
                "score": decision.score,
                "at_ns": made.at_ns,
                "acts": made.acts,
            }
        )
    yield json.dumps({"type": "capture"} | totals(replayed))


def totals(replayed: Replayed) -> dict[str, Any]:
    """Return a capture's totals as JSON has them."""
    accused, senders = replayed.acted(), replayed.senders.values()
    return {
        "capture": replayed.capture,
        "frames": replayed.counters["delivered"],
        "seconds": (replayed.last_ns - (replayed.first_ns or 0)) / S,
        "windows": sum(window.incident for window in replayed.windows),
        "triggers": replayed.n_events,
        "decisions": len(replayed.made),
        "attackers": sum(sent.attacker for sent in senders),
        "found": len(replayed.found(accused)),
        "ordinary": sum(sent.ordinary for sent in senders),
        "accused": [who(one) for one in replayed.wronged(accused)],
        "triggers_alone": {
            "found": len(replayed.found(replayed.named)),
            "accused": [who(one) for one in replayed.wronged(replayed.named)],
        },
        "counters": replayed.counters,
        "problem": replayed.problem,
    }
