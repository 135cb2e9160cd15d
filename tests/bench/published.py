"""An evaluation's replays in, how many who meet a published rule's condition are contained out.

    python -m tests.bench.published FOLDER/evaluation.json [--data DIR] [--jobs 2]

A culprit meets one where a replay with the four published rules alone names it. FOLDER is
`ids-appliance evaluate`'s, with the split by origin: contained there means limited or cut off by
the whole appliance, with a model that has seen nothing of the culprit's network.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ids_appliance import config
from ids_appliance.config_file.paper import PUBLISHED_RULES, RULES
from ids_appliance.gateway.replay import INTERFACE
from ids_appliance.train.labels import Entry, read_labels
from ids_appliance.train.study.replays import outcome, run_once

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
MODEL: Final = ROOT / "models" / "iot-top20"
"""Not asked: rules are looked at alone."""


def four_rules() -> config.Config:
    """Return the defaults, but for the further rules, which are off."""
    trigger = config.Trigger()
    switched: dict[str, Any] = {
        rule: msgspec.structs.replace(getattr(trigger, rule), enabled=rule in PUBLISHED_RULES)
        for rule in RULES
    }
    trigger = msgspec.structs.replace(trigger, **switched)
    return config.Config(interfaces=(INTERFACE,), trigger=trigger)


def named(entry: Entry, data: Path) -> int:
    """Return how many culprits of a capture a published rule names."""
    replayed = run_once(entry, "triggers", data=data, model=MODEL, whole=four_rules())
    return outcome("triggers", replayed).found


def main() -> None:
    """Print who meets a rule and is not contained, then both numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2)
    given = parser.parse_args()
    rows = {row["file"]: row for row in json.loads(given.evaluation.read_text())["captures"]}
    entries = [
        one
        for one in read_labels(given.data / "labels.json")
        if one.file in rows and rows[one.file]["appliance"]["culprits"]
    ]
    met = contained = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for entry, of in zip(
            entries, pool.map(partial(named, data=given.data), entries), strict=True
        ):
            found = min(of, rows[entry.file]["appliance"]["found"])
            met, contained = met + of, contained + found
            if found < of:
                print(f"{entry.file} ({entry.family}): {of} named, {found} contained")
    print(f"{contained} of {met} culprits that meet a published rule's condition are contained")


if __name__ == "__main__":
    main()
