"""A training run in, its card out: for programs (card.json) and for people (card.md, card.html)."""

import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ids_appliance import __version__
from ids_appliance.train.corpus import Corpus
from ids_appliance.train.families import LIBRARIES, TITLES
from ids_appliance.train.labels import Label
from ids_appliance.train.terms import Terms

SPLITS = {
    "random": "random split of packets (as papers do; leaks, do not expect this)",
    "origin": "whole origins left out (what to expect on a network of your own)",
    "origin_distinct": "the same, equal packets of an origin counted once",
    "foreign": "origins that may not be trained on, judged by this very model",
}

EXPECT = "**Expect the figures of the split by origin**, not the first line."
UNTESTED = (
    "**Nothing is known of other networks**: of one origin, or with one class in a part of them "
    "only, there is no split by origin. Add captures of other origins, attacks of two at least."
)
"""Of a model that could not be tested on origins left out."""


def describe(
    options: Mapping[str, Any], corpus: Corpus, terms: Mapping[str, Terms]
) -> dict[str, Any]:
    """Return the card's part about origin: program, options, data with hashes, terms."""
    used, left_out = [], []
    for report in corpus.reports:
        entry = report.entry
        permitted = not terms or (entry.repo in terms and terms[entry.repo].ship)
        if report.judged and report.status in ("used", "damaged") and permitted:
            fact = {
                "file": entry.file,
                "origin": entry.group,
                "sha256": report.sha256,
                "packets": report.judged,
            }
            used.append(fact | ({"damage": report.detail} if report.detail else {}))
        else:
            if not permitted and report.status not in ("skipped", "missing"):
                why = "terms do not permit it"
            elif report.status == "used":
                why = "no packet in it that can be judged"
            else:
                why = f"{report.status}: {report.detail}"
            left_out.append({"file": entry.file, "why": why})
    repos = sorted({r.entry.repo for r in corpus.reports})
    found = Counter(corpus.labels.tolist())
    return {
        "created_by": f"ids-appliance {__version__}",
        "options": dict(options),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES[options["family"]]},
        },
        "data": used,
        "data_left_out": _grouped(left_out),
        "labels_read": {label.name.lower(): found.get(label, 0) for label in Label},
        "terms": [
            {"repo": terms[r].repo, "terms": terms[r].terms, "cite": terms[r].cite}
            for r in repos
            if r in terms and terms[r].ship
        ],
    }


def _grouped(left_out: list[dict[str, str]]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for one in left_out:
        out.setdefault(one["why"], []).append(one["file"])
    return out


def card_markdown(card: Mapping[str, Any], name: str) -> str:
    """Return the card for people: what it is, what to expect of it, where it comes from."""
    size, options, trained = card["size"], card["options"], card["packets_trained_on"]
    title = TITLES[options.get("family", "forest")]
    libraries = ", ".join(f"{k} {v}" for k, v in card["versions"].items() if k != "python")
    lines = [
        f"# Model {name}",
        "",
        f"{title} on single packets; model id `{card['model_id']}`. "
        f"{size['trees']} trees, {size['leaves']} leaves, {len(card['features'])} features "
        f"({size['features_asked']} asked for), {size['cuts']} cuts, {size['cell_bytes']} bytes "
        f"a cell. Verdict: malicious if the probability is greater than {card['threshold']}.",
        "",
        f"Trained by {card['created_by']} on {trained['benign']:,} benign and "
        f"{trained['malicious']:,} malicious packets of {trained['origins']} origins "
        f"({libraries}, seed {options['seed']}, weighting `{options['weight']}`, related packets: "
        f"{options['related']}). {card['packets_at_threshold']} of the packets read lie within "
        "1e-9 of the threshold.",
        "",
    ]
    lines += _expectations(card["metrics"])
    if any("_octet_" in name for name in card["features"]):
        lines += [
            "**This model asks for addresses.** They tell one capture from another, and one "
            "network's hosts from another's: it is made to be compared with a paper, not to be "
            "relied upon where other addresses are in use.",
            "",
        ]
    lines += ["## Features", "", ", ".join(f"`{name}`" for name in card["features"]), ""]
    lines += _sources(card)
    return "\n".join(lines) + "\n"


def _expectations(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return ["**Not evaluated** (`--no-evaluate`): nothing is known about its verdicts.", ""]
    tested = metrics.keys() & {"origin", "foreign"}
    lines = [
        "## What to expect",
        "",
        "Packets of one scan or one device are near twins, so a random split of packets tests on "
        f"what was trained on. {EXPECT if tested else UNTESTED}",
        "",
        "| split | accuracy | precision | recall | F1 | weighted F1 | found, mean of origins | "
        "false alarms | the same, mean of origins | majority class: accuracy | size rule: F1 |",
        "|---" * 11 + "|",
    ]
    for name, text in SPLITS.items():
        if name in metrics:
            m, b = metrics[name], metrics[name]["baselines"]
            bad = m["malicious"]
            lines.append(
                f"| {text}: {m['packets']:,} packets | {m['accuracy']:.3f} | "
                f"{bad['precision']:.3f} | {bad['recall']:.3f} | {bad['f1']:.3f} | "
                f"{m['weighted']['f1']:.3f} | {_percent(m['found_mean_of_origins'])} | "
                f"{_percent(m['false_alarms'])} | {_percent(m['false_alarms_mean_of_origins'])} | "
                f"{b['majority_class']['accuracy']:.3f} | {b['size_rule']['malicious']['f1']:.3f} |"
            )
    lines += [
        "",
        "Precision, recall and F1 are of the class malicious; false alarms are the share of benign "
        "packets flagged.",
        "",
        "Share of malicious packets found, by family:",
        "",
    ]
    families = sorted({f for m in metrics.values() for f in m["found_by_family"]})
    lines += ["| family | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for family in families:
        cells = []
        for m in metrics.values():
            own = m["found_by_family"].get(family)
            cells.append(f"{_percent(own['found'])} of {own['packets']:,}" if own else "-")
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    lines += ["", "Share of malicious packets found, by origin:", ""]
    for split in ("origin", "foreign"):
        own = metrics.get(split, {}).get("found_by_origin", {})
        shares = [f"{o} {_percent(f['found'])} of {f['packets']:,}" for o, f in own.items()]
        lines += [f"- {split}: {', '.join(shares)}"] if shares else []
    lines += ["", "Worst origins (left out of training; share judged wrongly):", ""]
    for split in ("origin", "foreign"):
        lines += [
            f"- {split}: {o['origin']}, {o['class']}: {_percent(o['wrong'])} of {o['packets']:,}"
            for o in metrics.get(split, {}).get("worst_origins", [])
        ]
    return [*lines, ""]


def _sources(card: Mapping[str, Any]) -> list[str]:
    lines = ["## Data", ""]
    packets: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for fact in card["data"]:
        packets[fact["origin"]] += fact["packets"]
        files[fact["origin"]] += 1
    lines += [
        f"{len(card['data'])} captures of {len(files)} origins; files and their SHA-256 are in "
        "card.json.",
        "",
        ", ".join(f"{o} ({files[o]} files, {packets[o]:,} packets)" for o in sorted(files)),
        "",
        "Left out:",
        "",
    ]
    for why, names in card["data_left_out"].items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"- {why}: {shown}")
    if card["terms"]:
        lines += ["", "## Terms and citations", ""]
        lines += [f"- {t['repo']}: {t['terms']}. Cite: {t['cite']}" for t in card["terms"]]
    return [*lines, ""]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
