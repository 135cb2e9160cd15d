"""Gateway-only = offloaded = offline, packet by packet, also while models and nodes change."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import ids_appliance
from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.file import CaptureFile
from ids_appliance.classify.bundle import Bundle, make_bundle, save_bundle
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import SENDER, Classifier, FrameBatch, JudgedBatch, Outcome
from tests.bundles import random_members
from tests.classify.nodes import NodeProcess

CAPTURE = Path(ids_appliance.__file__).parent / "demo" / "lan.pcap.gz"
PATIENT = LinkOptions(deadline_s=60.0, connect_timeout_s=30.0)


class Keep:
    def __init__(self) -> None:
        self.batches: list[JudgedBatch] = []

    def take(self, batch: JudgedBatch) -> None:
        self.batches.append(batch)


class Passes:
    """The capture again and again, with something done before a batch."""

    def __init__(self, before: Callable[[int], bool]) -> None:
        self._before = before
        self._batches = 0

    def batches(self) -> Iterator[FrameBatch | None]:
        while True:
            with closing(CaptureFile(CAPTURE)) as source:
                for batch in source.batches():
                    if not self._before(self._batches):
                        return
                    self._batches += 1
                    yield batch

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def offline(path: Path, bundle: Bundle) -> np.ndarray:
    """Return the probability of every judged frame, without pipeline, cells or cache."""
    found = []
    with closing(CaptureFile(path)) as source:
        batches = [FrameBatch(b.data.copy(), b.frames.copy()) for b in source.batches()]
    for batch in batches:
        n = len(batch.frames)
        rows = np.empty((n, N_FEATURES), np.uint16)
        outcomes = np.empty(n, np.uint8)
        counters = np.zeros(len(COUNTER_NAMES), np.uint64)
        senders = np.empty(n, SENDER)
        extract(batch.data, batch.frames, HostIdentity(), rows, senders, outcomes, counters)
        judged = rows[outcomes == Outcome.JUDGED]
        out = np.empty(len(judged))
        bundle.forest.evaluate_rows(judged, out)
        found.append(out)
    return np.concatenate(found)


def judged(batches: list[JudgedBatch]) -> np.ndarray:
    return np.concatenate([b.probabilities[b.outcomes == Outcome.JUDGED] for b in batches])


def through_pipeline(path: Path, classifier: Classifier) -> np.ndarray:
    keep = Keep()
    with closing(classifier), closing(CaptureFile(path)) as source:
        Pipeline(source, classifier, keep).run()
    return judged(keep.batches)


@pytest.fixture
def model(small_bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(small_bundle, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("transport", ["binary", "json"])
def test_modes_agree_to_the_last_bit(
    transport: str, small_bundle: Bundle, model: Path, tmp_path: Path
) -> None:
    expected = offline(CAPTURE, small_bundle)
    assert len(np.unique(expected)) > 20
    assert through_pipeline(CAPTURE, LocalClassifier(small_bundle)).tobytes() == expected.tobytes()
    options = ("--plaintext", "--transport", transport)
    node = NodeProcess(model, tmp_path / "log", options=options)
    try:
        kind = JsonClassifier if transport == "json" else RemoteClassifier
        found = through_pipeline(CAPTURE, kind.connect([node.address], PATIENT))
    finally:
        node.close()
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("transport", ["binary", "json"])
def test_modes_agree_about_a_vote_with_a_linear_member(transport: str, tmp_path: Path) -> None:
    # All 60 columns at full resolution: the largest grid there can be.
    vote = make_bundle(random_members(4, features=list(range(N_FEATURES))), 0.5, card={})
    save_bundle(vote, tmp_path / "vote")
    expected = offline(CAPTURE, vote)
    assert len(np.unique(expected)) > 100
    assert through_pipeline(CAPTURE, LocalClassifier(vote)).tobytes() == expected.tobytes()
    options = ("--plaintext", "--transport", transport)
    node = NodeProcess(tmp_path / "vote", tmp_path / "log", options=options)
    try:
        kind = JsonClassifier if transport == "json" else RemoteClassifier
        found = through_pipeline(CAPTURE, kind.connect([node.address], PATIENT))
    finally:
        node.close()
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("where", ["local", "remote"])
def test_a_model_swapped_under_way_mixes_nothing(
    where: str, small_bundle: Bundle, other_bundle: Bundle, model: Path, tmp_path: Path
) -> None:
    """Each packet has the probability of the model named beside it, and both models judged."""
    expected = {b.grid.model_id: offline(CAPTURE, b) for b in (small_bundle, other_bundle)}
    node = NodeProcess(model, tmp_path / "log")
    local = LocalClassifier(small_bundle)
    classifier: Classifier = (
        local if where == "local" else RemoteClassifier.connect([node.address], PATIENT)
    )
    after = 0

    def before(number: int) -> bool:
        nonlocal after
        if number == 6:
            if where == "local":
                local.replace(other_bundle)
            else:
                save_bundle(other_bundle, model)
                node.signal(signal.SIGHUP)
        if classifier.grid.model_id == other_bundle.grid.model_id:
            after += 1
        return after < 40

    keep = Keep()
    try:
        # A small cache and few asks, so that requests are under way nearly all the time.
        limits = Limits(cache_cells=64, max_asks=512, max_rows=64)
        pipeline = Pipeline(Passes(before), classifier, keep, limits=limits)
        pipeline.run()
    finally:
        classifier.close()
        node.close()
    seen = set()
    for batch in keep.batches:
        ok = batch.outcomes == Outcome.JUDGED
        assert ok.all()
        numbers = batch.frames["number"].astype(int) - 1
        for index in np.unique(batch.models):
            which = batch.models == index
            model_id = batch.model_ids[index]
            seen.add(model_id)
            right = expected[model_id][numbers[which]]
            assert batch.probabilities[which].tobytes() == right.tobytes()
    assert seen == set(expected)
    counters = pipeline.counters()
    assert counters["judged"] == counters["delivered"] and counters["under_way"] == 0


def test_a_node_killed_under_way_costs_no_packet(
    small_bundle: Bundle, model: Path, tmp_path: Path
) -> None:
    """Fail-over, every packet accounted for and judged alike."""
    expected = offline(CAPTURE, small_bundle)
    nodes = [NodeProcess(model, tmp_path / f"log{i}") for i in range(2)]
    classifier = RemoteClassifier.connect([n.address for n in nodes], PATIENT)
    killed = False

    def before(number: int) -> bool:
        nonlocal killed
        if number == 6:
            nodes[0].kill()
            killed = True
        return number < 60

    keep = Keep()
    try:
        limits = Limits(cache_cells=64, max_asks=512, max_rows=64)
        pipeline = Pipeline(Passes(before), classifier, keep, limits=limits)
        pipeline.run()
    finally:
        classifier.close()
        for node in nodes:
            node.close()
    assert killed and classifier.counters()["failovers"] == 1
    counters = pipeline.counters()
    assert counters["judged"] == counters["delivered"] and counters["under_way"] == 0
    for batch in keep.batches:
        right = expected[batch.frames["number"].astype(int) - 1]
        assert batch.probabilities.tobytes() == right.tobytes()
