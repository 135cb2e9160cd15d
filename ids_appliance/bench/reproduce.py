"""What our commands have measured in, a section of docs/reproduction.md out: published beside it.

A section stands between markers, so that one result is made anew without touching the others. Where
no clock is involved it holds nothing that changes from run to run: the same data and seed give the
same bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ids_appliance.bench import published
from ids_appliance.bench.document import VERSION, Document, answers
from ids_appliance.bench.report import confirmed, in_the_published_form, table
from ids_appliance.errors import IdsError

TITLE: Final = """# Published results, made again

Each section is written by `ids-appliance reproduce NAME`: published and measured.
"""
NAMES: Final = ("s1-table2", "s1-table3", "s2", "s3")
FLOOD: Final = "syn-single"
"""The mix that is nearest to the published load: hping3's SYNs."""
_SIDE_BY_SIDE: Final = ("paper-gateway", "paper-offloaded", "gateway-only", "offloaded")
_WEIGHTS: Final = {
    "record": "Trained on every different packet of an origin alike",
    "balanced": "Trained on every different packet of an origin, both classes alike",
    "origin": "Trained on every different packet of an origin, origins alike in their class",
}
_ALIKE: Final = (
    "the paper counts every packet alike; its own protocol, fold by fold, is `ids-appliance "
    "evaluate --split paper` (docs/evaluation.md)."
)
_REAL_HOSTS: Final = (
    "Not in it: real hosts, and Zeek as the trigger with what it costs the gateway; `ids-appliance "
    "bench --live --profile paper` measures both."
)


def replaced(page: str, name: str, section: str) -> str:
    """Return a page with one section made anew, the others as they are, in the order of NAMES."""
    found = dict(re.findall(r"<!-- (\S+) -->\n(.*?)<!-- end -->\n", page, re.DOTALL))
    found[name] = section.rstrip("\n") + "\n"
    parts = [f"<!-- {n} -->\n{found[n]}<!-- end -->\n" for n in NAMES if n in found]
    return TITLE + "\n" + "\n".join(parts)


def table2(cards: Mapping[str, Mapping[str, Any]], *, command: str) -> str:
    """Return S1's accuracies. cards: "all 60", "top 20" -> a bundle's card."""
    rows = []
    for name, figures in published.ACCURACY.items():
        rows.append([f"published, {name}", *(f"{value:.3f}" for value in figures.values())])
        metrics = cards[name]["metrics"]
        for split, what in (("random", "random split, as published"), ("origin", "origins unseen")):
            if split in metrics:
                rows.append([f"measured, {name}, {what}", *_weighted(metrics[split])])
    head = ["", *next(iter(published.ACCURACY.values()))]
    counts = cards["top 20"]["packets_trained_on"]
    versions = ", ".join(f"{k} {v}" for k, v in sorted(cards["top 20"]["versions"].items()))
    options = cards["top 20"]["options"]
    weight = _WEIGHTS.get(options["weight"])
    return "\n".join(
        [
            "## S1, table II: accuracy of the forest",
            "",
            f"`{command}`",
            "",
            *table(head, rows),
            "",
            f"Published: {published.PACKETS['benign']:,} benign and "
            f"{published.PACKETS['malicious']:,} malicious packets of CICIoT2023. Measured: "
            f"{counts['benign']:,} and {counts['malicious']:,} packets of {counts['origins']} "
            f"origins. Precision, recall and F1 weighted by class. {versions}; seed "
            f"{options['seed']}.",
            "",
            *([f"{weight}: {_ALIKE}", ""] if weight else []),
            "A random split has near twins of every packet on both sides; what is to be expected "
            "on a network that the model has not seen is in the rows with origins unseen.",
        ]
    )


def _weighted(metrics: Mapping[str, Any]) -> list[str]:
    both = metrics["weighted"]
    values = (metrics["accuracy"], both["precision"], both["recall"], both["f1"])
    return [f"{value:.3f}" for value in values]


def made_before(folder: Path) -> Document:
    """Return the document that a benchmark has left in a folder. Raises IdsError unless it is one
    of ours, with the mix that is compared."""
    path = folder / "bench.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IdsError(
            f"{path} cannot be read ({error}): --from wants the folder of `ids-appliance bench`"
        ) from error
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise IdsError(f"{path} is of another version than {VERSION}: run `ids-appliance bench`")
    if FLOOD not in told.get("mixes", []):
        raise IdsError(f"{path} has no figures of the mix {FLOOD}: it has {told.get('mixes')}")
    return told


def table3(told: Document) -> str:
    """Return S1's rates, CPU and memory, of a benchmark's document."""
    machine, how = told["machine"], told["thoroughness"]
    found = {one["mode"] for one in answers(told, FLOOD)}
    rounds = max((one["round"] for one in answers(told, FLOOD)), default=0)
    missing = [mode for mode in _SIDE_BY_SIDE if mode not in found]
    parts = [
        "## S1, table III: highest rate without loss, CPU, memory",
        "",
        f"`{told['command']}`, {told['date']}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['kernel']}",
        "",
        *in_the_published_form(told),
        "",
        f"Rates: medians of the rounds ({rounds}); steps of {how['step_s']:g} s; "
        f"{how['confirmations']} confirmations of {how['confirm_s']:g} s{confirmed(how)}; CPU and "
        f"memory over {how['fixed_s']:g} s.",
        *(f"{note[0].upper()}{note[1:]}." for note in told["notes"]),
    ]
    if told["interrupted"]:
        parts += ["", "**The run was interrupted: this is what it had.**"]
    if missing:
        parts += ["", f"Not measured in this run: {', '.join(missing)}."]
    return "\n".join([*parts, "", _REAL_HOSTS])


def kdd(report: Mapping[str, Any], *, command: str, inline: str = "") -> str:
    """Return S2's four models and their vote, of the document that `kdd` writes.

    inline: what the campaign that plays them past a packet queue has printed."""
    rows = []
    for name, own in report["columns"].items():
        for family, found in own["models"].items():
            test = found["test"]
            figures = [f"{test[key]:.4f}" for key in ("accuracy", "precision", "recall", "f1")]
            rows.append([f"{family}, columns: {name}", *figures, f"{found['fresh']['f1']:.4f}"])
    head = ["measured", "accuracy", "precision", "recall", "F1", "F1 without twins"]
    return "\n".join(
        [
            "## S2: four models and their vote on KDD Cup 1999",
            "",
            f"`{command}`",
            "",
            "Published: 50,000 records; the figures themselves are not public.",
            "",
            *table(head, rows),
            "",
            f"{report['sampled']:,} of {report['records']:,} records, seed {report['seed']}, "
            f"{report['tested_on']:,} tested ({report['split']}).",
            *(["", "### Inline in the lab", "", inline.strip()] if inline else []),
        ]
    )


def monitor(found: Mapping[str, Any], *, command: str) -> str:
    """Return S3's scenario, of what its campaign prints."""
    # A scratch folder is another one each time.
    rows = [[name, re.sub(r"/\S+/", "", _said(value))] for name, value in _flat(found)]
    return "\n".join(
        [
            "## S3: the traffic monitor",
            "",
            f"`{command}`",
            "",
            "Published: Host1 pings Host2; the monitor's capture shows ICMP echo requests and "
            "replies, and the controller's LLDP and 0x8942 frames.",
            "",
            *table(["measured", ""], rows),
        ]
    )


def _flat(found: Mapping[str, Any], before: str = "") -> Sequence[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{key}: ")
        else:
            rows.append((f"{before}{key}", value))
    return rows


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(_said, value)) if isinstance(value, list) else str(value)
