"""The second published system in the lab: four models and their vote, inline, in one table.

    python -m tests.campaigns.s2 --features header --json OUT

An evening with attacks is recorded in the lab (routed) and labelled by who attacked whom; the four
models and the vote are trained on it. Then it is played anew, once for each model, with the gateway
holding every routed packet in its queue, `profile = "paper"`: each packet judged malicious is
dropped and logged. What the second time has and the training has not: a sweep by another device.
Of the vote the members' words are counted twice: those in the events of the dropped packets, and
those about every packet of the capture that was made beside it. With --scratch DIR what is there
already is not done again, so that each model can be measured on a quiet machine by itself. Needs
root, hping3, nmap, mosquitto; prints Markdown. Exit code 1 where a dropped packet was not logged
with its votes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from ids_appliance.bench.report import table
from ids_appliance.classify.bundle import Bundle, load_bundle
from ids_appliance.errors import LabError
from ids_appliance.lab import scenarios
from ids_appliance.lab.namespaces import orderly, require
from ids_appliance.lab.network import Lab
from ids_appliance.lab.run import play
from ids_appliance.lab.services import NEEDS, offered
from ids_appliance.lab.truth import LABELS
from ids_appliance.train.corpus import Corpus, read_corpus
from ids_appliance.train.labels import Label
from tests.campaigns.drills.ground import IDS, Ground

FAMILIES: Final = ("logistic", "forest", "xgboost", "lightgbm", "vote")
LOG_PER_SECOND: Final = 10_000
"""Every dropped packet has an event of its own."""
SEEN: Final = ("DoS", "Recon")
UNSEEN: Final = "Mirai"

EVENING: Final = """
name = "evening"
about = "Telemetry, names, polls, a download; a flood and a scan."

[[step]]
id = "telemetry"
at = 0.0
seconds = 20.0
who = ["devices:10", "bot"]
tool = "mosquitto_pub"
with = { every_s = 0.2 }

[[step]]
id = "names"
at = 0.5
seconds = 19.0
who = ["devices:8", "phone", "bot", "hub"]
tool = "names"
with = { every_s = 0.5 }

[[step]]
id = "polls"
at = 1.0
seconds = 18.0
who = ["hub"]
tool = "poll"

[[step]]
id = "download"
at = 1.0
seconds = 17.0
who = ["dev05"]
tool = "curl"
with = { mib = 50, mbit = 8 }

[[step]]
id = "flood"
at = 4.0
seconds = 6.0
who = ["bot"]
tool = "hping3"
attack = "DoS"
victim = "dev01"
with = { target = "dev01", port = 80, pps = 500 }

[[step]]
id = "scan"
at = 11.0
seconds = 5.0
who = ["bot"]
tool = "nmap"
attack = "Recon"
victim = "dev02"
with = { targets = "dev02", ports = "1-1000", pps = 200 }
"""
SWEEP: Final = """
[[step]]
id = "sweep"
at = 14.0
seconds = 5.0
who = ["phone"]
tool = "nmap"
attack = "Mirai"
victim = "dev01"
with = { targets = "iot", ports = "23,2323", pps = 100 }
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One model, inline."""

    family: str
    packets: dict[str, int]
    """Attack's family, or "ordinary" -> packets that came in at the protected side."""
    judged_malicious: dict[str, int]
    """The same, of those the model calls malicious; ordinary ones include answers to an attack."""
    held: int
    """Packets that waited in the queue."""
    dropped: int
    logged: int
    """Dropped packets with an event of their own."""
    p50_us: int
    p99_us: int
    """From the kernel's time stamp to the verdict, upper bound of the bucket."""
    votes: dict[str, dict[str, int]]
    """Member -> group of `packets` -> how many it calls malicious."""
    logged_votes: dict[str, int]
    """Member -> dropped packets that its event says it called malicious."""
    together: dict[str, int]
    """How many members agreed on a dropped packet -> packets."""


def record(where: Path) -> None:
    """Play the evening and record it."""
    if (where / "evening" / LABELS).is_file():
        return
    with Lab("routed", tag="s") as lab, offered(lab):
        for _ in play(lab, _scenario(where, EVENING), out=where / "evening", clock=time.time_ns):
            pass


def train(where: Path, family: str, features: str) -> Path:
    """Return a bundle trained on what was recorded. Raises SystemExit."""
    out = where / features / family
    if out.is_dir():
        return out
    out.parent.mkdir(exist_ok=True)
    words = ["train", "--data", str(where / "evening"), "--family", family, "--features", features]
    done = subprocess.run(
        [*IDS, *words, "--no-evaluate", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return out


def inline(where: Path, family: str, model: Path) -> Run:
    """Play the evening, and the sweep, past an inline gateway that judges by the model."""
    settings: dict[str, Any] = {
        "model": str(model),
        "profile": "paper",
        "inline.enabled": True,
        "inline.log_per_second": LOG_PER_SECOND,
        "events.rotate_mib": 256,
    }
    out = model.with_name(f"{family}-inline")
    with Ground("routed", **settings) as ground:
        ground.start()
        scenario = _scenario(where, EVENING + SWEEP)
        for _ in play(ground.lab, scenario, out=out, clock=time.time_ns):
            pass
        counters = ground.status().counters
        drops = [event["drop"] for event in ground.events("drop")]
    told = [drop for drop in drops if drop["action"] == "dropped"]
    bundle = load_bundle(model)
    corpus = read_corpus(out)
    groups = _groups(corpus)
    whole, each = _said(bundle, corpus)
    return Run(
        family=family,
        packets={name: int(mask.sum()) for name, mask in groups.items()},
        judged_malicious={name: int((whole & mask).sum()) for name, mask in groups.items()},
        held=counters["queue_received"],
        dropped=counters["queue_dropped"],
        logged=len(told),
        p50_us=counters["inline_delay_us_p50"],
        p99_us=counters["inline_delay_us_p99"],
        votes={
            name: {group: int((said & mask).sum()) for group, mask in groups.items()}
            for name, said in each.items()
        },
        logged_votes=_logged(told),
        together={
            str(n): count
            for n, count in sorted(
                Counter(
                    sum(said > 0.5 for said in drop["votes"].values())
                    for drop in told
                    if "votes" in drop
                ).items()
            )
        },
    )


def _scenario(where: Path, text: str) -> scenarios.Scenario:
    path = where / "played.toml"
    path.write_text(text)
    return scenarios.read(str(path))


def _groups(corpus: Corpus) -> dict[str, Any]:
    """Return masks: each family's attack packets, and everything that is no attack's."""
    bad = corpus.labels == Label.MALICIOUS
    found = {"ordinary": ~bad}
    for name in (*SEEN, UNSEEN):
        there = corpus.families.index(name) if name in corpus.families else -1
        found[name] = bad & (corpus.family == there)
    return found


def _said(bundle: Bundle, corpus: Corpus) -> tuple[Any, dict[str, Any]]:
    """Return which packets the model calls malicious, and each member, where several vote."""
    rows = np.ascontiguousarray(corpus.rows)
    whole = np.zeros(len(rows))
    bundle.forest.evaluate_rows(rows, whole)
    members = bundle.forest.members
    if len(members) < 2:
        return whole > bundle.grid.threshold, {}
    each = np.zeros((len(rows), len(members)))
    bundle.forest.evaluate_rows_each(rows, each)
    return whole > bundle.grid.threshold, {
        name: each[:, place] > 0.5 for place, name in enumerate(members)
    }


def _logged(told: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for drop in told:
        for name, said in drop.get("votes", {}).items():
            found[name] += said > 0.5
    return dict(found)


def whole(run: Run) -> bool:
    """Return whether each dropped packet was logged, and, of a vote, with what members said."""
    voted = sum(run.together.values())
    return run.logged == run.dropped and (run.family != "vote" or voted == run.dropped)


def markdown(runs: Sequence[Run], *, features: str) -> list[str]:
    """Return the table, published beside measured, as lines."""
    rows = [["published", *["not public"] * 7]]
    for run in runs:
        shares = [
            f"{run.judged_malicious[name]:,} of {run.packets[name]:,}"
            for name in (*SEEN, UNSEEN, "ordinary")
        ]
        delay = f"{run.p50_us:,}, {run.p99_us:,}"
        rows.append([run.family, *shares, f"{run.dropped:,}", f"{run.logged:,}", delay])
    head = ["model", "flood", "scan", "sweep (unseen)", "not an attack's", "dropped", "logged"]
    lines = table([*head, "us: p50, p99"], rows)
    for run in runs:
        if run.votes:
            lines += ["", *_votes(run)]
    return [f"Features: {features}. Packets judged malicious, inline:", "", *lines]


def _votes(run: Run) -> list[str]:
    rows = [
        [name, *(f"{said[group]:,}" for group in (*SEEN, UNSEEN, "ordinary"))]
        + [f"{run.logged_votes.get(name, 0):,}"]
        for name, said in run.votes.items()
    ]
    head = ["member of the vote", "flood", "scan", "sweep", "not an attack's", "in drop events"]
    agreed = ", ".join(f"{n} of {len(run.votes)}: {count:,}" for n, count in run.together.items())
    return [*table(head, rows), "", f"Dropped by so many of the members: {agreed}."]


def campaign(features: str, families: Sequence[str], scratch: Path | None = None) -> list[Run]:
    """Record, train, play; what `scratch` has already is taken from there."""
    kept = nullcontext(str(scratch)) if scratch else TemporaryDirectory(prefix="ids-s2-")
    with kept as place, orderly():
        where = Path(place)
        record(where)
        models = {family: train(where, family, features) for family in families}
        runs = []
        for family, model in models.items():
            path = model.with_name(f"{family}.json")
            if not path.is_file():
                path.write_text(json.dumps(asdict(inline(where, family, model))) + "\n")
            runs.append(Run(**json.loads(path.read_text())))
        return runs


def main() -> int:
    """Measure, print, say whether every drop was logged."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--features", default="header", help="as `train` takes them")
    asked.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    asked.add_argument("--scratch", type=Path, metavar="DIR")
    asked.add_argument("--json", type=Path)
    words = asked.parse_args()
    if words.scratch:
        words.scratch.mkdir(parents=True, exist_ok=True)
    try:
        require(*NEEDS, *scenarios_need())
    except LabError as error:
        raise SystemExit(str(error)) from error
    runs = campaign(words.features, words.families, words.scratch)
    print("\n".join(markdown(runs, features=words.features)))
    if words.json:
        found = {"features": words.features, "runs": [asdict(run) for run in runs]}
        words.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(map(whole, runs)) else 1


def scenarios_need() -> tuple[str, ...]:
    """Return the programs that the evening needs."""
    with TemporaryDirectory() as scratch:
        return _scenario(Path(scratch), EVENING + SWEEP).needs


if __name__ == "__main__":
    sys.exit(main())
