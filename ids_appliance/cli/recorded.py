"""`ids-appliance demo --recorded`: a recorded attack in, the proof that both modes judge it alike
out."""

import ipaddress
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

import ids_appliance
from ids_appliance import assemble
from ids_appliance._features import HostIdentity
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.cli.judging import account
from ids_appliance.cli.options import parse_address
from ids_appliance.cli.tables import sender_table
from ids_appliance.errors import CaptureError, LinkError
from ids_appliance.pipeline import Pipeline
from ids_appliance.telemetry.pictures import drawing, save
from ids_appliance.telemetry.senders import SenderTotals, mac_text, sender_text
from ids_appliance.train.labels import Label, Labeller, read_labels
from ids_appliance.types import F64, U8, Classifier, JudgedBatch

HOME = Path(ids_appliance.__file__).parent / "demo"
MODELS = Path(ids_appliance.__file__).parent.parent / "models"
PASSES = 5
PATIENT = LinkOptions(deadline_s=30.0)
"""A slow machine takes longer; that is no reason for the modes to differ."""


class _Keep:
    """Keep every batch."""

    def __init__(self) -> None:
        self.batches: list[JudgedBatch] = []

    def take(self, batch: JudgedBatch) -> None:
        """VerdictSink."""
        self.batches.append(batch)


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over the capture in one mode."""

    batches: list[JudgedBatch]
    seconds: float
    counters: dict[str, int]
    link_bytes: int
    """Both directions, as counted by the gateway's end; 0 where there is no link."""

    @property
    def probabilities(self) -> F64:
        return np.concatenate([b.probabilities for b in self.batches])


def _run(capture: Path, host: HostIdentity, connect: Callable[[], Classifier]) -> Run:
    classifier = connect()
    source = assemble.capture_file(str(capture))
    keep = _Keep()
    try:
        start = time.perf_counter()
        pipeline = Pipeline(source, classifier, keep, host=host)
        pipeline.run()
        seconds = time.perf_counter() - start
        totals = classifier.counters()
    finally:
        classifier.close()
        source.close()
    link = totals.get("bytes_sent", 0) + totals.get("bytes_received", 0)
    return Run(keep.batches, seconds, pipeline.counters(), link)


@contextmanager
def _node(model: Path, transport: str) -> Iterator[tuple[str, int]]:
    """Start a node as a process of its own on loopback; end it afterwards."""
    arguments = ["classifier", "--listen", "127.0.0.1:0", "--plaintext"]
    arguments += ["--model", str(model), "--transport", transport]
    process = subprocess.Popen(
        [sys.executable, "-m", "ids_appliance", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise LinkError(f"the node did not start: {process.stderr.read().strip() or line}")
        yield parse_address(line.split()[2])
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _truth(capture: Path) -> tuple[U8, list[str]]:
    """Return the label of every frame, and its family ("" where it is not an attack's)."""
    entry = read_labels(capture.parent / "labels.json")[0]
    labeller = Labeller(entry)
    labels, families = [], []
    source = assemble.capture_file(str(capture))
    for batch in source.batches():
        label, rule = labeller.label(batch)
        labels.append(label)
        families += [labeller.families[r] for r in rule.tolist()]
    source.close()
    return np.concatenate(labels), families


def _senders(run: Run, verdicts: U8 | None = None) -> SenderTotals:
    totals = SenderTotals(by="device")
    at = 0
    for batch in run.batches:
        n = len(batch.frames)
        if verdicts is not None:
            batch = replace(batch, verdicts=verdicts[at : at + n])
        totals.take(batch)
        at += n
    return totals


def show(model: Path, out: Path) -> None:
    """Judge the capture here, on a node, and packet by packet in JSON; print and keep figures.

    Raises LinkError unless all agree bit for bit."""
    capture = HOME / "lan.pcap.gz"
    described = json.loads((HOME / "labels.json").read_text())["files"][0]
    host = HostIdentity(
        [bytes.fromhex(described["gateway_mac"].replace(":", ""))],
        [ipaddress.ip_address(a).packed for a in described["gateway_addresses"]],
    )
    labels, families = _truth(capture)
    grid = assemble.bundle(model).grid
    click.echo(f"capture  {len(labels):,} frames in {described['seconds']:.0f} s of a home network")
    click.echo(f"attacks  {described['attack']}")
    click.echo(
        f"model    {model.name}, {len(grid.features)} features, id {grid.model_id.hex()[:8]}\n"
    )

    local = [_run(capture, host, lambda: assemble.local_classifier(model)) for _ in range(PASSES)]
    with _node(model, "binary") as node:
        connect = lambda: RemoteClassifier.connect([node], PATIENT)  # noqa: E731
        remote = [_run(capture, host, connect) for _ in range(PASSES)]
    with _node(model, "json") as node:
        literal = _run(capture, host, lambda: JsonClassifier.connect([node], PATIENT))

    if local[0].counters["delivered"] != len(labels):
        raise CaptureError(f"{capture} was not read whole")
    figures = _figures(local, remote, literal)
    alike = _modes(local, remote, literal, figures)
    verdicts = np.concatenate([b.verdicts for b in local[0].batches])
    _people(local[0], labels, families, verdicts, described["devices"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    click.echo(f"\nfigures: {out / 'figures.json'}")
    _plot(local[0], labels, verdicts, out / "verdicts.png")
    if not alike:
        raise LinkError("the modes disagree: see the table above")


def _figures(local: list[Run], remote: list[Run], literal: Run) -> dict[str, float]:
    def rate(runs: list[Run]) -> float:
        return statistics.median(r.counters["judged"] / r.seconds for r in runs)

    packets = literal.counters["judged"]
    return {
        "packets": packets,
        "cells": local[0].counters["cell_asks"],
        "gateway_only_packets_per_s": round(rate(local)),
        "offloaded_packets_per_s": round(rate(remote)),
        "json_packets_per_s": round(rate([literal])),
        "link_bytes_per_packet": round(remote[0].link_bytes / packets, 2),
        "json_bytes_per_packet": round(literal.link_bytes / packets, 2),
    }


def _modes(local: list[Run], remote: list[Run], literal: Run, figures: dict[str, float]) -> bool:
    """Print the table of modes; return whether every packet has the same probability in all."""
    modes = [
        ("gateway-only", local, figures["gateway_only_packets_per_s"], None),
        ("offloaded", remote, figures["offloaded_packets_per_s"], figures["link_bytes_per_packet"]),
        (
            "JSON per packet",
            [literal],
            figures["json_packets_per_s"],
            figures["json_bytes_per_packet"],
        ),
    ]
    alike = True
    expected = local[0].probabilities.tobytes()
    click.echo(
        f"{'mode':17}{'judged':>9}{'packets/s':>12}{'bytes/packet':>14}  same as gateway-only"
    )
    for name, runs, rate, per_packet in modes:
        same = all(r.probabilities.tobytes() == expected for r in runs)
        alike &= same
        link = "-" if per_packet is None else f"{per_packet:.1f}"
        words = "bit for bit" if same else "NO"
        click.echo(f"{name:17}{runs[0].counters['judged']:>9,}{rate:>12,.0f}{link:>14}  {words}")
    click.echo(
        f"{figures['packets']:,.0f} packets fell into {figures['cells']:,.0f} cells; "
        f"JSON takes {figures['json_bytes_per_packet'] / figures['link_bytes_per_packet']:,.0f} "
        f"times the bytes\n{account(local[0].counters)}\n"
    )
    return alike


def _people(
    run: Run, labels: U8, families: list[str], verdicts: U8, devices: dict[str, str]
) -> None:
    """Print the summary per sender beside the truth, and what was found and wrongly flagged."""
    attack = labels == Label.MALICIOUS
    seen = _senders(run)
    truth = _senders(run, attack.astype(np.uint8))
    words = {}
    for key, row in truth.rows.items():
        name = devices.get(mac_text(row.sender[6:12]), "") if row.sender[4] == 0 else "beyond"
        words[seen.rows[key].sender] = (
            f"{name}: {row.malicious:,} attack" if row.malicious else name
        )
    click.echo(sender_table(seen.top(12), total=len(seen.rows), truth=words))
    click.echo(f"\n{'the packets of':22}{'packets':>9}{'flagged':>9}{'share':>8}")
    for family in sorted({f for f, a in zip(families, attack.tolist(), strict=True) if a}):
        which = attack & np.array([f == family for f in families])
        _line(family, which, verdicts)
    _line("attacks' victims", labels == Label.RELATED, verdicts)
    _line("ordinary life", labels == Label.BENIGN, verdicts)
    click.echo()
    for key, row in truth.rows.items():
        if not row.malicious and seen.rows[key].share > 0.5:
            accused = seen.rows[key]
            name = words[accused.sender] or sender_text(accused.sender)
            click.echo(f"Wrongly accused: {name}, {accused.share:.0%} flagged, attacked nobody.")
    click.echo(
        "A forest alone judges packets, not senders, and this one has seen other networks than\n"
        "yours: models/README.md says how far it can be trusted on captures of other origins."
    )


def _line(name: str, which: U8, verdicts: U8) -> None:
    n = int(which.sum())
    flagged = int(verdicts[which.astype(bool)].sum())
    click.echo(f"{name:22}{n:>9,}{flagged:>9,}{flagged / n if n else 0:>8.1%}")


def _plot(run: Run, labels: U8, verdicts: U8, path: Path) -> None:
    pyplot = drawing()
    if pyplot is None:
        needed = f"{sys.executable} -m pip install 'ids-appliance[plot]'"
        click.echo(f"plot: skipped, matplotlib is not installed ({needed})")
        return
    times = np.concatenate([b.frames["timestamp_ns"] for b in run.batches]) / 1e9
    seconds = (times - times.min()).astype(int)
    n = int(seconds.max()) + 1
    figure, axes = pyplot.subplots(
        2, 1, sharex=True, sharey=True, figsize=(9, 5), layout="constrained"
    )
    groups = [
        ("ordinary life", labels == Label.BENIGN, "#4c78a8"),
        ("victims' answers, relayed", labels == Label.RELATED, "#8a817c"),
        ("attack", labels == Label.MALICIOUS, "#e45756"),
    ]
    for ax, weights, title in (
        (axes[0], np.ones(len(labels)), "packets per second, by what they truly were"),
        (axes[1], verdicts, "of these, flagged by the forest"),
    ):
        for name, which, colour in groups:
            height = np.bincount(seconds[which], weights=weights[which], minlength=n)
            ax.fill_between(range(n), height, step="mid", color=colour, alpha=0.25)
            ax.step(range(n), height, where="mid", color=colour, label=name, linewidth=1.2)
        ax.set_yscale("symlog", linthresh=10)
        ax.set_ylim(bottom=0)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_ylabel("packets")
    axes[0].legend(loc="upper left", fontsize=8, frameon=False)
    axes[1].set_xlabel("seconds since the capture began")
    save(pyplot, figure, path)
    click.echo(f"plot:    {path}")
