"""Every labelled capture through the whole appliance with one model: who was found, who wronged.

    python -m tests.campaigns.replay_all [--data DIR] [--model BUNDLE] [--config FILE] [--out DIR]

The runs and what is counted are those of `ids-appliance evaluate` (train/study/replays.py), which
trains a model for each origin left out; here it is the one that is shipped. Captures are grouped by
whether their origin is in its training data: only the rest says what to expect. Two processes at
most. Writes replay.json and replay.txt.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ids_appliance import assemble, config_file
from ids_appliance.train.labels import read_labels
from ids_appliance.train.study.replays import RUNS, replay
from ids_appliance.train.study.summary import summary

ROOT = Path(__file__).resolve().parents[2]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the readable table."""
    lines = [
        "found: captures with a culprit found / with one; culprits found / all",
        "wrong: ordinary senders accused / all",
        f"{'':26}{'files':>6}{'frames':>10}{'windows':>8}" + "".join(f"{run:>18}" for run in RUNS),
    ]
    for known in (False, True):
        part = [row for row in rows if row["trained_on"] is known]
        if part:
            lines.append(f"origin {'' if known else 'not '}in the training data")
            lines += _part(part)
    return "\n".join([*lines, "everything", *_part(rows)])


def _part(rows: list[dict[str, Any]]) -> list[str]:
    made = summary(rows)["runs"]
    lines = []
    for family in sorted({row["family"] for row in rows}):
        own = [row for row in rows if row["family"] == family]
        cells = []
        for run in RUNS:
            of = made[run]["families"].get(family)
            hit = sum(row[run]["found"] > 0 for row in own)
            share = f"{hit}/{of['captures']} {of['found']}/{of['culprits']}" if of else "-"
            cells.append(f"{share:>18}")
        lines.append(_line(f"  {family}", own) + "".join(cells))
    wrong = [made[run]["ordinary"] for run in RUNS]
    shares = "".join(f"{one['accused']}/{one['senders']}".rjust(18) for one in wrong)
    return [*lines, _line("  wrong", rows) + shares]


def _line(name: str, rows: list[dict[str, Any]]) -> str:
    frames = sum(row["frames"] for row in rows)
    windows = sum(row["appliance"]["windows"] for row in rows)
    return f"{name:26}{len(rows):>6}{frames:>10,}{windows:>8}"


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
    whole = config_file.load(chosen.config) if chosen.config else None
    work = partial(replay, data=chosen.data, model=chosen.model, whole=whole)
    with ProcessPoolExecutor(chosen.jobs) as pool:
        rows = list(tqdm(pool.map(work, entries), total=len(entries), unit="file", disable=None))
    for row in rows:
        row["trained_on"] = row["origin"] in trained
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
