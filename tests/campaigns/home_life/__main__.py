"""Device-days of ordinary life, and who is wrongly accused in them.

    python -m tests.campaigns.home_life --out FOLDER [--homes 12] [--devices 12] [--hours 9]

Each home is made up from its number: devices of many kinds with habits drawn over wide ranges,
hours of life in virtual time, frames with the times they would have had. It is synthetic: it shows
how the rules, evidence and bounds take much ordinary behaviour at its natural pace, not how real
networks of strangers look. Every frame is ordinary, so whoever is limited or cut off is wronged and
is named with the reason. Each home's figures are kept in FOLDER, so that a stopped run goes on.
"""

import argparse
import hashlib
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from ids_appliance import assemble
from ids_appliance._features import HostIdentity
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import BENIGN, Replay, Replayed
from ids_appliance.train.study.intervals import wilson
from ids_appliance.train.study.replays import settings
from ids_appliance.types import SENDER, U8, FrameBatch
from tests.campaigns.home_life import homes
from tests.campaigns.home_life.habits import Home

ROOT: Final = Path(__file__).resolve().parents[3]
DAY_NS: Final = 86_400 * 10**9
RUNS: Final = ("appliance", "triggers")


def ordinary(batch: FrameBatch) -> U8:
    """Label every frame as what it is."""
    return np.full(len(batch.frames), BENIGN, np.uint8)


def live(seed: int, *, devices: int, hours: float, model: Path, runs: tuple[str, ...]) -> Any:
    """Return what became of one home, per run."""
    home = homes.make(seed, devices=devices, hours=hours)
    row: dict[str, Any] = {"home": seed, "devices": devices, "hours": hours, "runs": {}}
    with TemporaryDirectory(prefix="home-life-") as scratch:
        capture = Path(scratch) / "home.pcap"
        row["frames"] = homes.write(home, capture)
        home.wire.frames.clear()
        identity = HostIdentity(routers=[home.router.mac])
        for run in runs:
            with closing(assemble.local_classifier(model)) as classifier:
                replay = Replay(
                    settings(run), offline_parts, classifier, label=ordinary, host=identity
                )
                row["runs"][run] = told(home, run, replay.run(capture))
    return row


def told(home: Home, run: str, done: Replayed) -> dict[str, Any]:
    """Return one run's figures: active time and accused by kind of device."""
    kinds = {device.host.mac: device.kind for device in home.devices}
    accused = done.named if run == "triggers" else done.acted()
    active: Counter[str] = Counter()
    beyond = 0
    for who, sent in done.senders.items():
        kind = kinds.get(mac_of(who))
        if kind is None:
            beyond += 1
        else:
            active[kind] += sent.active_ns
    return {
        "active_days": {kind: ns / DAY_NS for kind, ns in sorted(active.items())},
        "devices": dict(Counter(kinds.values())),
        "beyond": beyond,
        "windows": sum(window.incident for window in done.windows),
        "window_causes": dict(Counter(event.rule for event in done.events)),
        "accused": [
            {
                "kind": kinds.get(mac_of(who), "somebody beyond the router"),
                "why": why(run, done, who),
            }
            for who in sorted(accused)
        ],
    }


def mac_of(who: bytes) -> bytes:
    """Return the MAC in a SENDER record."""
    return bytes(np.frombuffer(who, SENDER)[0]["mac"])


def why(run: str, done: Replayed, who: bytes) -> str:
    """Return what was first held against somebody."""
    events = [f"{e.rule}: {e.detail}" for e in done.events if e.sender == who]
    if run == "triggers":
        return events[0] if events else "named"
    made = next(m for m in done.made if m.sender == who and m.acts)
    return f"{made.decision.response.name.lower()}, {made.decision.reason}; {events[:1]}"


def table(rows: list[Any]) -> list[str]:
    """Return the report's lines."""
    runs = [run for run in rows[0]["runs"] if all(run in row["runs"] for row in rows)]
    lines = []
    for run in runs:
        mine = [row["runs"][run] for row in rows]
        devices = sum(row["devices"] for row in rows)
        days = sum(sum(one["active_days"].values()) for one in mine)
        accused = [who for one in mine for who in one["accused"]]
        inside = [who for who in accused if who["kind"] != "somebody beyond the router"]
        low, high = wilson(len(inside), devices)
        lines.append(
            f"{run}: {len(rows)} homes, {devices} devices, {days:.1f} device-days of active time, "
            f"{sum(row['frames'] for row in rows):,} frames; windows "
            f"{sum(one['windows'] for one in mine)}; accused {len(inside)} devices "
            f"({low:.2%} to {high:.2%}), {len(inside) / days:.3f} a device-day; of "
            f"{sum(one['beyond'] for one in mine):,} beyond the router {len(accused) - len(inside)}"
        )
        causes = sum((Counter(one["window_causes"]) for one in mine), Counter())
        lines.append(f"  rules fired: {dict(causes.most_common())}")
        kinds = sorted({kind for one in mine for kind in one["devices"]})
        for kind in kinds:
            own = [who for who in accused if who["kind"] == kind]
            n = sum(one["devices"].get(kind, 0) for one in mine)
            active = sum(one["active_days"].get(kind, 0.0) for one in mine)
            lines.append(f"  {kind:12}{n:4} devices {active:7.2f} days  accused {len(own)}")
        lines += [f"    {who['kind']}: {who['why']}" for who in accused]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "iot-top20")
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--devices", type=int, default=12)
    parser.add_argument("--hours", type=float, default=9.0)
    parser.add_argument("--run", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    one = partial(
        kept,
        folder=given.out,
        devices=given.devices,
        hours=given.hours,
        model=given.model,
        runs=tuple(given.run) or RUNS,
    )
    with ProcessPoolExecutor(given.jobs) as pool:
        rows = list(pool.map(one, range(given.homes)))
    print("\n".join(table(rows)))


def kept(seed: int, *, folder: Path, **asked: Any) -> Any:
    """Return a home's row, from the folder if it is there: of that model, with all the runs."""
    model = hashlib.sha256((asked["model"] / "card.json").read_bytes()).hexdigest()[:8]
    path = folder / f"{asked['devices']}x{asked['hours']:g}-{model}-{seed}.json"
    row = json.loads(path.read_text()) if path.is_file() else {"runs": {}}
    if not set(asked["runs"]) <= set(row["runs"]):
        row = live(seed, **asked)
        path.write_text(json.dumps(row, indent=1) + "\n")
    return row


if __name__ == "__main__":
    main()
