"""Record attacks by real tools in the lab, or replay what was recorded through the appliance.

    python -m tests.campaigns.lab_attacks record FOLDER [--each 20] [--unseen] [--layout routed]
    python -m tests.campaigns.lab_attacks judge FOLDER [--model models/iot-top20]

`record` writes captures and one labels.json that `train` and `evaluate` read, an origin for each
tool; what is there is kept. `judge` says who was limited or cut off, tool by tool, n of N.
"""

import argparse
import ipaddress
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ids_appliance import assemble
from ids_appliance._features import HostIdentity
from ids_appliance.errors import LabError
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import Replay, Replayed
from ids_appliance.lab import scenarios
from ids_appliance.lab.network import Lab
from ids_appliance.lab.run import play
from ids_appliance.lab.services import offered
from ids_appliance.train.labels import Entry, Labeller, read_labels
from ids_appliance.train.study.intervals import wilson
from ids_appliance.train.study.replays import outcome, settings
from ids_appliance.types import U8, FrameBatch
from tests.campaigns.lab_attacks.drawing import LEARNT, OWN, UNSEEN, scenario

ROOT: Final = Path(__file__).resolve().parents[3]
TAG: Final = "lat"


def record(
    folder: Path, layout: str, wanted: Sequence[tuple[str, str, int]]
) -> list[dict[str, Any]]:
    """Record what is not there yet; return the entries of labels.json of all."""
    missing = [one for one in wanted if not (place(folder, layout, one) / "labels.json").exists()]
    if missing:
        with Lab(layout, tag=TAG) as lab, offered(lab):
            for one in missing:
                out = place(folder, layout, one)
                try:
                    for _ in play(lab, scenario(*one), out=out, clock=time.time_ns):
                        pass
                except LabError as error:
                    print(f"{out.name}: not recorded: {error}", flush=True)
                    continue
                print(out.name, flush=True)
    entries = []
    for one in wanted:
        path = place(folder, layout, one)
        if (path / "labels.json").exists():
            entry = json.loads((path / "labels.json").read_text())["files"][0]
            entry["file"] = f"{path.name}/{entry['file']}"
            entry["group"] = f"lab_{one[1]}"
            entry["origin"] = {"repo": "lab"}
            entries.append(entry)
    return entries


def place(folder: Path, layout: str, one: tuple[str, str, int]) -> Path:
    """Return where a scenario's capture goes."""
    return folder / "-".join((layout, *map(str, one)))


def judged(folder: Path, model: Path) -> list[str]:
    """Return what the appliance made of each tool's captures, as lines."""
    lines: list[str] = []
    tools: dict[tuple[str, str], list[Any]] = {}
    gateways = {
        raw["file"]: raw for raw in json.loads((folder / "labels.json").read_text())["files"]
    }
    for entry in read_labels(folder / "labels.json"):
        done = outcome("appliance", replayed(entry, gateways[entry.file], folder, model))
        tools.setdefault((entry.family, entry.group), []).append((entry, done))
    for (family, group), rows in sorted(tools.items()):
        found, of = (sum(getattr(d, name) for _, d in rows) for name in ("found", "culprits"))
        low, high = wilson(found, of)
        delays = sorted(d.delay_s for _, d in rows if d.delay_s is not None)
        wronged, ordinary = (sum(getattr(d, n) for _, d in rows) for n in ("wronged", "ordinary"))
        lines.append(
            f"{family} {group}: {len(rows)} captures, contained {found} of {of} "
            f"({low:.1%} to {high:.1%}), windows in {sum(d.windows > 0 for _, d in rows)}, median "
            f"{delays[len(delays) // 2] if delays else '-'} s; wronged {wronged} of {ordinary}"
        )
        for entry, d in rows:
            if d.found < d.culprits:
                lines.append(f"  missed: {entry.file}: windows {d.windows}, named {d.named}")
    return lines


def replayed(entry: Entry, told: dict[str, Any], folder: Path, model: Path) -> Replayed:
    """Replay a capture through the gateway that the lab had: its own frames are nobody's."""
    identity = HostIdentity(
        [bytes.fromhex(mac.replace(":", "")) for mac in told["gateway_macs"]],
        [ipaddress.ip_address(one).packed for one in told["gateway_addresses"]],
        routers=[bytes.fromhex(mac.replace(":", "")) for mac in told["router_macs"]],
    )
    labeller = Labeller(entry)

    def label(batch: FrameBatch) -> U8:
        return labeller.label(batch)[0]

    with closing(assemble.local_classifier(model)) as classifier:
        replay = Replay(
            settings("appliance"), offline_parts, classifier, label=label, host=identity
        )
        return replay.run(folder / entry.file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("record", "judge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--unseen", action="store_true", help="tools that nothing is learnt from")
    parser.add_argument("--layout", action="append", default=[])
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "iot-top20")
    given = parser.parse_args()
    scenarios.TOOLS.update(OWN)
    if given.what == "judge":
        print("\n".join(judged(given.folder, given.model)))
        return
    kinds = UNSEEN if given.unseen else LEARNT
    wanted = [(*kind, number) for number in range(given.each) for kind in kinds]
    given.folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for layout in given.layout or ["routed"]:
        entries += record(given.folder, layout, wanted)
    document = {"version": 1, "files": entries}
    (given.folder / "labels.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
