"""Captures in, the highest score of every sender in them out; what `calibrate` does offline."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ids_appliance import assemble, config
from ids_appliance._features import HostIdentity
from ids_appliance.capture.forwarders import forwarders
from ids_appliance.classify.bundle import Bundle
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.errors import BoundsError, LabelError
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.policy.bounds import Bounds, settings_of
from ids_appliance.policy.calibration import Calibration, Reached
from ids_appliance.train.extract import CUT_SHARE, content_sha256
from ids_appliance.train.labels import Entry, Label, Labeller, read_labels
from ids_appliance.trigger.gate import Screen
from ids_appliance.types import SENDER, U8, U64, FrameBatch, Outcome, Source, TriggerEvent

ALIKE = "balanced", "origin"
"""Weightings of `train` under which both classes weigh alike."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What evidence is added up with."""

    bundle: Bundle
    policy: config.Policy
    bounds: Bounds
    """Whose priors count; its bounds are the ones to be replaced."""
    screen: Callable[[], Screen] | None = None
    """Opens a prescreener; None: no triggers, and answers count like all packets."""
    macs: Sequence[bytes] = ()
    """Of the gateway that captured."""
    addresses: Sequence[bytes] = ()
    window_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Capture:
    """One file to calibrate by."""

    path: Path
    name: str
    group: str
    """Its network: a MAC means the same sender in all of a network's captures."""
    entry: Entry | None


@dataclass(slots=True)
class Offline:
    """What a calibration by captures has come to."""

    reached: dict[tuple[str, bytes], Reached] = field(default_factory=dict)
    """(network, canonical SENDER bytes) -> what it reached."""
    data: dict[str, str] = field(default_factory=dict)
    """Captures that were used, with their SHA-256."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Why -> captures."""
    evictions: int = 0
    triggers: dict[str, set[tuple[str, bytes]]] = field(default_factory=dict)


class AsIfOpen:
    """A `types.Gate` that has everything judged, and tells what the triggers say."""

    def __init__(self, screen: Screen, calibration: Calibration) -> None:
        screen.open_window()
        self._screen = screen
        self._calibration = calibration

    def admit(self, batch: FrameBatch, host: bytes) -> U8:
        """Return (n,) of Outcome; Gate."""
        marks = np.full(len(batch.frames), Outcome.WAITING, np.uint8)
        fired = self._screen.screen(batch.data, batch.frames, host, marks)
        records = np.zeros(16, SENDER)
        for slot, record in self._screen.floods():
            records[slot] = np.frombuffer(record, SENDER)[0]
        self._calibration.set_floods(records)
        for event in fired:
            self._calibration.notice(
                event if isinstance(event, TriggerEvent) else TriggerEvent(*event)
            )
        return marks


def training_prior(card: Mapping[str, Any]) -> float:
    """Return the log-odds of "malicious" in what a model was trained on. Raises BoundsError."""
    options, packets = card.get("options"), card.get("packets_trained_on")
    if isinstance(options, dict) and options.get("weight") in ALIKE:
        return 0.0
    if isinstance(packets, dict):
        bad, good = packets.get("malicious"), packets.get("benign")
        if isinstance(bad, int) and isinstance(good, int) and bad > 0 and good > 0:
            return math.log(bad / good)
    raise BoundsError("the model's card does not say what it was trained on: no prior to subtract")


def uncalibrated(policy: config.Policy, bundle: Bundle, priors: dict[str, float]) -> Bounds:
    """Return bounds that hold nothing yet but the model's prior and the triggers'."""
    return Bounds(
        upper=1e5,
        false_alarms=0.0,
        prior_logit=training_prior(bundle.card),
        model_id=bundle.grid.model_id.hex(),
        settings=settings_of(policy),
        priors=priors,
    )


def captures(targets: Sequence[Path], labels: Path | None) -> list[Capture]:
    """Return what is to be read: `targets`, or all captures of `labels`. Raises LabelError."""
    if labels is None:
        return [Capture(path, path.name, "", None) for path in targets]
    entries = {
        (labels.parent / entry.file).resolve(): entry
        for entry in read_labels(labels)
        if entry.kind == "pcap"
    }
    chosen = [path.resolve() for path in targets] or list(entries)
    strange = [path for path in chosen if path not in entries]
    if strange:
        raise LabelError(f"{labels} does not label {strange[0]}: name labelled captures only")
    return [
        Capture(path, entries[path].file, entries[path].group, entries[path]) for path in chosen
    ]


def over_captures(
    given: Sequence[Capture],
    setup: Setup,
    *,
    with_trained: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Offline:
    """Judge every packet of captures as if the window were open.

    with_trained: also use captures of networks that the model was trained on, which it knows too
    well. Raises CaptureError for a file that is no capture and no labels speak of."""
    offline = Offline()
    trained = setup.bundle.card.get("data", [])
    origins = {one.get("origin") for one in trained if isinstance(one, dict)}
    hashes = {one.get("sha256") for one in trained if isinstance(one, dict)}
    for capture in given:
        progress(capture.name)
        sha256 = content_sha256(capture.path)
        if not with_trained and (capture.group in origins or sha256 in hashes):
            _leave_out(offline, "of a network that the model was trained on", capture)
            continue
        _one(capture, setup, offline)
        offline.data.setdefault(capture.name, sha256)
    for names in offline.left_out.values():
        for name in names:
            offline.data.pop(name, None)
    return offline


def _leave_out(offline: Offline, why: str, capture: Capture) -> None:
    offline.left_out.setdefault(why, []).append(capture.name)


class Labelled:
    """A `types.Source` that labels what passes, and counts what was cut short."""

    def __init__(self, source: Source, entry: Entry | None) -> None:
        self._source = source
        self._labeller = None if entry is None else Labeller(entry)
        self._labels: list[U8] = []
        self._whole: U8 = np.zeros(0, np.uint8)
        self.frames = self.cut = 0

    def batches(self) -> Any:
        for batch in self._source.batches():
            if batch is not None:
                self.frames += len(batch.frames)
                short = batch.frames["caplen"] < batch.frames["wirelen"]
                self.cut += int(np.count_nonzero(short))
                if self._labeller is not None:
                    self._labels.append(self._labeller.label(batch)[0])
            yield batch

    def labels_of(self, numbers: U64) -> U8:
        if self._labels:
            self._whole = np.concatenate([self._whole, *self._labels])
            self._labels.clear()
        return self._whole[numbers.astype(np.int64) - 1]

    def counters(self) -> dict[str, int]:
        return self._source.counters()

    def close(self) -> None:
        self._source.close()


def _one(capture: Capture, setup: Setup, offline: Offline) -> None:
    with closing(assemble.capture_file(str(capture.path))) as file:
        routers = forwarders(batch for batch in file.batches() if batch is not None)
    host = HostIdentity(setup.macs, setup.addresses, routers=routers)
    with closing(assemble.capture_file(str(capture.path))) as file:
        source = Labelled(file, capture.entry)
        calibration = Calibration(
            setup.policy,
            setup.bounds,
            labels_of=None if capture.entry is None else source.labels_of,
            window_s=setup.window_s,
        )
        gate = None if setup.screen is None else AsIfOpen(setup.screen(), calibration)
        Pipeline(
            source,
            LocalClassifier(setup.bundle),
            calibration,
            host=host,
            gate=gate,
            limits=Limits(lockstep=True),
        ).run()
    if source.cut > CUT_SHARE * source.frames:
        _leave_out(offline, "cut short, so that the payload is missing", capture)
        return
    offline.evictions += calibration.counters()["evidence_evictions"]
    for sender, reached in calibration.reached().items():
        key = (capture.group, sender)
        before = offline.reached.get(key)
        offline.reached[key] = reached if before is None else before.merged(reached)
    for rule, named in calibration.triggers.items():
        offline.triggers.setdefault(rule, set()).update((capture.group, one) for one in named)


ORDINARY_BITS = 1 << Label.BENIGN
MALICIOUS_BIT = 1 << Label.MALICIOUS
