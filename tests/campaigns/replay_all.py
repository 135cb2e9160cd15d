"""Every labelled capture through the whole appliance: who was found, and who was wronged.

    python -m tests.campaigns.replay_all [--data DIR] [--model BUNDLE] [--config FILE] [--out DIR]

Per capture three runs: the appliance (as if enforced; default settings unless --config), triggers
alone (a sender is accused by being named), and the forest alone (window always open, no rules).
An attacker is a sender of a malicious frame; one that is part of a flood counts as found with the
flood. Every other sender of labelled frames is ordinary, victims included. Captures are grouped by
family, and by whether their origin is in the model's training data: only the rest says what to
expect. Two processes at most. Writes replay.json and replay.txt.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from ids_appliance import assemble, config, config_file
from ids_appliance.cli.replay import totals
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, Replay, Replayed
from ids_appliance.train.labels import Entry, Labeller, read_labels

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("appliance", "triggers", "forest")


def configuration(run: str, path: Path | None = None) -> config.Config:
    """Return the settings of a run."""
    whole = config.Config(interfaces=(INTERFACE,)) if path is None else config_file.load(path)
    enforce = msgspec.structs.replace(whole.enforce, enabled=run != "triggers")
    kind = "always" if run == "forest" else whole.trigger.kind
    trigger = msgspec.structs.replace(whole.trigger, kind=kind)
    return msgspec.structs.replace(whole, enforce=enforce, trigger=trigger)


def accused(run: str, replayed: Replayed) -> set[bytes]:
    """Return whom a run accuses."""
    return replayed.named if run == "triggers" else replayed.acted()


def replay(
    entry: Entry, *, data: Path, model: Path, settings: Path | None = None
) -> dict[str, Any]:
    """Return what the runs made of a capture."""
    row: dict[str, Any] = {"file": entry.file, "family": entry.family, "group": entry.group}
    began = time.monotonic()
    for run in RUNS:
        labeller = Labeller(entry)
        with closing(assemble.local_classifier(model)) as classifier:
            replayed = Replay(
                configuration(run, settings),
                offline_parts,
                classifier,
                label=lambda batch, labeller=labeller: labeller.label(batch)[0],
            ).run(data / entry.file)
        whom = accused(run, replayed)
        found = replayed.found(whom)
        row[run] = totals(replayed) | {
            "found": len(found),
            "wronged": len(replayed.wronged(whom)),
            "seconds_to_decision": delays(replayed, found),
        }
    row["attackers"] = row["appliance"]["attackers"]
    row["ordinary"] = row["appliance"]["ordinary"]
    row["took_s"] = round(time.monotonic() - began, 3)
    return row


def delays(replayed: Replayed, found: Iterable[bytes]) -> list[float]:
    """Return, per attacker found by itself, the time from its first malicious frame to acting."""
    first: dict[bytes, int] = {}
    for made in replayed.made:
        if made.acts:
            first.setdefault(made.sender, made.at_ns)
    out = []
    for who in found:
        began = replayed.senders[who].first_malicious_ns
        if who in first and began is not None:
            out.append(round((first[who] - began) / 1e9, 3))
    return out


@dataclass
class Sum:
    """Totals of a group of captures."""

    rows: list[dict[str, Any]]

    def line(self, name: str) -> str:
        """Return one line of the table."""
        rows = self.rows
        attacked = [row for row in rows if row["attackers"]]
        frames = sum(row["appliance"]["frames"] for row in rows)
        windows = sum(row["appliance"]["windows"] for row in rows)
        opened = sum(row["appliance"]["windows"] > 0 for row in rows)
        decisions = sum(row["appliance"]["decisions"] for row in rows)
        cells = [f"{name:24}{len(rows):>5}{frames:>10,}{windows:>8}{opened:>6}{decisions:>7}"]
        for run in RUNS:
            hit = sum(row[run]["found"] > 0 for row in attacked)
            found = sum(row[run]["found"] for row in rows)
            wronged = sum(row[run]["wronged"] for row in rows)
            of = sum(row["attackers"] for row in rows)
            ordinary = sum(row["ordinary"] for row in rows)
            cells.append(
                f"  {f'{hit}/{len(attacked)}':>9}{f'{found}/{of}':>14}{f'{wronged}/{ordinary}':>11}"
            )
        return "".join(cells)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the readable table."""
    head = [
        "found: captures with an attacker found / with one, attackers found / all;"
        " wrong: ordinary senders accused / all",
        f"{'':60}" + "".join(f"  {run:>34}" for run in RUNS),
        f"{'':24}{'files':>5}{'frames':>10}{'windows':>8}{'in':>6}{'decis.':>7}"
        + f"  {'captures':>9}{'attackers':>14}{'wrong':>11}" * len(RUNS),
    ]
    lines = []
    for known in (False, True):
        part = [row for row in rows if row["trained_on"] is known]
        lines.append("origin in the training data" if known else "origin not in the training data")
        for family in sorted({row["family"] for row in part}):
            lines.append(Sum([r for r in part if r["family"] == family]).line(f"  {family}"))
        lines.append(Sum(part).line("  all of them"))
    lines.append(Sum(rows).line("everything"))
    return "\n".join([*head, *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    default = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "iot-top20")
    parser.add_argument("--config", type=Path, help="settings instead of the defaults")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "replay")
    parser.add_argument("--only", default="", help="captures whose name contains this")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2)
    chosen = parser.parse_args()
    entries = [
        entry
        for entry in read_labels(chosen.data / "labels.json")
        if entry.kind == "pcap" and chosen.only in entry.file
    ]
    if not entries:
        parser.error(f"no capture in {chosen.data} is named like {chosen.only!r}")
    trained = {used["origin"] for used in assemble.bundle(chosen.model).card["data"]}
    work = partial(replay, data=chosen.data, model=chosen.model, settings=chosen.config)
    with ProcessPoolExecutor(chosen.jobs) as pool:
        rows = list(tqdm(pool.map(work, entries), total=len(entries), unit="file"))
    for row in rows:
        row["trained_on"] = row["group"] in trained
    text = table(rows)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "replay.txt").write_text(text + "\n")
    (chosen.out / "replay.json").write_text(
        json.dumps({"model": str(chosen.model.name), "captures": rows}, indent=1) + "\n"
    )
    print(text)
    print(f"written to {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
