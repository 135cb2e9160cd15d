"""A capture and a model in, what the whole appliance makes of it out, in four ways.

    appliance  default rules, window, evidence and decisions, as if enforced
    always     the same with the window always open (trigger = "always")
    triggers   a sender is accused by being named by a rule
    forest     window always open, no rule is counted: evidence alone

An attacker is one culprit of one capture: a sender of a malicious frame. Senders of a spoofed
flood, and forged clients by the dozen, are one. Every other sender of labelled frames is ordinary,
victims included. Accused means rate-limited or worse.
"""

import hashlib
import json
import time
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import msgspec

from ids_appliance import __version__, assemble, config
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, Replay, Replayed, Sent
from ids_appliance.policy import bounds
from ids_appliance.train.labels import Entry, Labeller
from ids_appliance.types import U8, FrameBatch

RUNS: Final = ("appliance", "always", "triggers", "forest")
FORGED: Final = 16
"""More malicious senders than this in one capture are forged ones of one culprit."""
S: Final = 10**9


def settings(run: str, whole: config.Config | None = None) -> config.Config:
    """Return the settings of a run; whole: others than the defaults."""
    base = config.Config(interfaces=(INTERFACE,)) if whole is None else whole
    trigger = base.trigger
    if run in ("always", "forest"):
        trigger = msgspec.structs.replace(trigger, kind="always")
    if run == "forest":
        rules = {name: getattr(trigger, name) for name in trigger.__struct_fields__}
        trigger = msgspec.structs.replace(
            trigger,
            **{
                name: msgspec.structs.replace(rule, enabled=False)
                for name, rule in rules.items()
                if hasattr(rule, "enabled")
            },
        )
    enforce = msgspec.structs.replace(base.enforce, enabled=run != "triggers")
    return msgspec.structs.replace(base, trigger=trigger, enforce=enforce)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to in one capture."""

    windows: int
    named: int
    """Attackers that a rule has named."""
    decisions: int
    culprits: int
    found: int
    ordinary: int
    wronged: int
    delay_s: float | None
    """From the first malicious frame of whom was found first to acting."""


def outcome(run: str, replayed: Replayed) -> Outcome:
    """Return what a run came to."""
    accused = replayed.named if run == "triggers" else replayed.acted()
    attackers = [one for one in replayed.senders.values() if one.attacker]
    found = replayed.found(accused)
    return Outcome(
        windows=sum(window.incident for window in replayed.windows),
        named=len(replayed.found(replayed.named)),
        decisions=len(replayed.made),
        culprits=_culprits(attackers, of=attackers),
        found=_culprits([replayed.senders[who] for who in found], of=attackers),
        ordinary=sum(one.ordinary for one in replayed.senders.values()),
        wronged=len(replayed.wronged(accused)),
        delay_s=_delay(replayed, found),
    )


def _culprits(some: list[Sent], *, of: list[Sent]) -> int:
    """Count some of a capture's attackers, forged ones as one: those of each flood, and a crowd.

    Whether there is a crowd is seen from all of them: who is found of one is that one culprit."""
    floods = {flood for one in some for flood in one.flooding}
    plain, crowd = (sum(not one.flooding for one in them) for them in (some, of))
    return len(floods) + (min(plain, 1) if crowd > FORGED else plain)


def _delay(replayed: Replayed, found: list[bytes]) -> float | None:
    first: dict[bytes, int] = {}
    for made in replayed.made:
        if made.acts:
            first.setdefault(made.sender, made.at_ns)
    began = [(w, replayed.senders[w].first_malicious_ns) for w in found if w in first]
    delays = [(first[who] - ns) / S for who, ns in began if ns is not None]
    return round(min(delays), 3) if delays else None


def replay(
    entry: Entry, *, data: Path, model: Path, whole: config.Config | None = None
) -> dict[str, Any]:
    """Return a capture's row: family, origin, and per run an Outcome; ordinary life in seconds."""
    row: dict[str, Any] = {"file": entry.file, "family": entry.family, "origin": entry.group}
    began = time.monotonic()
    for run in RUNS:
        replayed = run_once(entry, run, data=data, model=model, whole=whole)
        made = outcome(run, replayed)
        row[run] = {f.name: getattr(made, f.name) for f in fields(made)}
        if run == RUNS[0]:
            active = sum(one.active_ns for one in replayed.senders.values() if one.ordinary)
            row["ordinary_s"] = round(active / S, 3)
            row["frames"] = replayed.counters["delivered"]
    row["took_s"] = round(time.monotonic() - began, 3)
    return row


def replay_kept(entry: Entry, model: Path, *, data: Path, folder: Path) -> dict[str, Any]:
    """Return a capture's row as `replay` does, from the folder if it was replayed like this before.

    Like this: of the same labels, by the same model, under the same settings and bounds.
    """
    digest = hashlib.sha256(f"{__version__} {entry} {model.name}".encode())
    for run in RUNS:
        whole = settings(run)
        digest.update(repr(whole).encode())
        digest.update(Path(whole.policy.bounds or bounds.SHIPPED).read_bytes())
    place = folder / f"{digest.hexdigest()[:24]}.json"
    if place.is_file():
        kept: dict[str, Any] = json.loads(place.read_text())
        return kept
    row = replay(entry, data=data, model=model)
    staged = place.with_suffix(".tmp")
    staged.write_text(json.dumps(row) + "\n")
    staged.replace(place)
    return row


def run_once(
    entry: Entry, run: str, *, data: Path, model: Path, whole: config.Config | None = None
) -> Replayed:
    """Replay a capture once. Raises CaptureError, BundleError, ConfigError."""
    labeller = Labeller(entry)

    def label(batch: FrameBatch) -> U8:
        return labeller.label(batch)[0]

    with closing(assemble.local_classifier(model)) as classifier:
        parts = offline_parts
        return Replay(settings(run, whole), parts, classifier, label=label).run(data / entry.file)


def why_missed(row: dict[str, Any]) -> str:
    """Return why no culprit of a capture was found by the appliance, as far as a replay shows."""
    appliance, always = row["appliance"], row["always"]
    if not appliance["windows"]:
        could = " (with the window open it would have been found)" if always["found"] else ""
        return f"no rule fired{could}"
    if not appliance["named"]:
        return "a window opened, but no rule named the culprit"
    if not appliance["decisions"]:
        return "named, but the forest does not know its packets"
    return "somebody else was decided about"
