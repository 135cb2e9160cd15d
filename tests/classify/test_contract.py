"""What every classifier promises, whoever evaluates: the contract of types.Classifier."""

import signal
import time

import numpy as np
import pytest

from ids_appliance.classify.bundle import save_bundle
from ids_appliance.classify.fallback import FallbackClassifier
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.switch import SwitchClassifier
from ids_appliance.types import AnswerStatus, Classifier
from tests.bundles import random_rows
from tests.classify.nodes import collect, make_request, reference

KINDS = ("local", "remote", "json", "switch", "fallback", "fallback-down")
PATIENT = LinkOptions(deadline_s=30.0, connect_timeout_s=30.0)
NOBODY = ("127.0.0.1", 9)
"""Nothing listens at the discard port."""


@pytest.fixture(params=KINDS)
def classifier(request, small_bundle):
    """A classifier of the small bundle."""
    if request.param == "local":
        made = LocalClassifier(small_bundle)
    elif request.param == "remote":
        node = request.getfixturevalue("plain_node")
        made = RemoteClassifier.connect([node.address], PATIENT)
    elif request.param == "switch":
        node = request.getfixturevalue("plain_node")
        made = SwitchClassifier(LocalClassifier(small_bundle))
        made.switch(RemoteClassifier.connect([node.address], PATIENT))
    elif request.param == "fallback":
        node = request.getfixturevalue("plain_node")
        remote = RemoteClassifier.connect([node.address], PATIENT)
        made = FallbackClassifier(remote, LocalClassifier(small_bundle), policy="local")
    elif request.param == "fallback-down":
        remote = RemoteClassifier.start([NOBODY], PATIENT)
        made = FallbackClassifier(remote, LocalClassifier(small_bundle), policy="local")
    else:
        node = request.getfixturevalue("json_node")
        made = JsonClassifier.connect([node.address], PATIENT)
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def swapping(request, small_bundle, swap_path, start_node):
    """A classifier of the small bundle, and a function that replaces its model."""
    if request.param in ("local", "switch", "fallback-down"):
        made = local = LocalClassifier(small_bundle)
        if request.param == "switch":
            made = SwitchClassifier(local)
        elif request.param == "fallback-down":
            remote = RemoteClassifier.start([NOBODY], PATIENT)
            made = FallbackClassifier(remote, local, policy="local")
        yield made, local.replace
        made.close()
        return
    extra = ("--transport", "json") if request.param == "json" else ()
    node = start_node(swap_path, options=("--plaintext", *extra))
    kind = JsonClassifier if request.param == "json" else RemoteClassifier
    made = kind.connect([node.address], PATIENT)
    if request.param == "fallback":
        made = FallbackClassifier(made, LocalClassifier(small_bundle), policy="local")

    def replace(bundle):
        save_bundle(bundle, swap_path)
        node.signal(signal.SIGHUP)

    yield made, replace
    made.close()


def test_is_a_classifier(classifier):
    assert isinstance(classifier, Classifier)


def test_grid(classifier, small_bundle):
    assert classifier.grid.model_id == small_bundle.grid.model_id
    assert classifier.grid.threshold == small_bundle.grid.threshold
    assert classifier.grid.features in ((), small_bundle.grid.features)


def test_exact_probabilities_one_answer_each(classifier, small_bundle):
    asked = {}
    for seq in range(1, 41):
        rows = random_rows(seq, seq)
        asked[seq] = rows
        assert classifier.submit(make_request(seq, small_bundle, rows))
    answers = collect(classifier, 40)
    assert set(answers) == set(asked)
    for seq, answer in answers.items():
        assert answer.status is AnswerStatus.ANSWERED
        assert answer.model_id == small_bundle.grid.model_id
        assert answer.probabilities.tobytes() == reference(small_bundle, asked[seq]).tobytes()
    assert list(classifier.answers(0.05)) == []


def test_a_request_larger_than_one_message(classifier, small_bundle):
    rows = random_rows(3, 3000)
    assert classifier.submit(make_request(1, small_bundle, rows))
    answer = collect(classifier, 1)[1]
    assert answer.probabilities.tobytes() == reference(small_bundle, rows).tobytes()


def test_answers_waits_no_longer_than_told(classifier):
    began = time.monotonic()
    assert list(classifier.answers(0.1)) == []
    assert time.monotonic() - began < 30.0


def test_submit_never_blocks_and_refuses_in_the_end(classifier, small_bundle):
    request = make_request(1, small_bundle, random_rows(1, 4))
    refusals: list[float] = []
    taken = 0
    while len(refusals) < 5:
        began = time.monotonic()
        again = type(request)(taken + 1, request.model_id, request.cells, request.rows)
        if classifier.submit(again):
            taken += 1
            assert taken < 100_000, "the queue has no end"
        else:
            refusals.append(time.monotonic() - began)
    # Any of them may find the machine busy; who waited for room would do it each time.
    assert min(refusals) < 0.5
    assert set(collect(classifier, taken)) == set(range(1, taken + 1))


def test_an_unknown_model_is_stale(classifier, small_bundle):
    request = make_request(1, small_bundle, random_rows(1, 4))
    assert classifier.submit(type(request)(1, b"?" * 16, request.cells, request.rows))
    answer = collect(classifier, 1)[1]
    assert answer.status is AnswerStatus.STALE
    assert answer.probabilities is None


def test_close_answers_what_is_outstanding(classifier, small_bundle):
    for seq in range(1, 21):
        assert classifier.submit(make_request(seq, small_bundle, random_rows(seq, 50)))
    classifier.close()
    classifier.close()
    for answer in collect(classifier, 20).values():
        assert answer.status in (AnswerStatus.ANSWERED, AnswerStatus.UNANSWERED)
        assert (answer.probabilities is not None) == (answer.status is AnswerStatus.ANSWERED)
    assert classifier.submit(make_request(21, small_bundle, random_rows(1, 1)))
    assert collect(classifier, 1)[21].status is AnswerStatus.UNANSWERED


def test_never_a_probability_of_another_model(swapping, small_bundle, other_bundle):
    """Requests of both models cross two replacements; each answer is its model's, or STALE."""
    classifier, replace = swapping
    models = {b.grid.model_id: b for b in (small_bundle, other_bundle)}
    rows = random_rows(1, 8)
    requests = {i: make_request(0, bundle, rows) for i, bundle in models.items()}
    want = {i: reference(bundle, rows) for i, bundle in models.items()}
    assert not np.array_equal(*want.values())
    seq, seen, stale = 0, [], 0
    plan = iter([other_bundle, small_bundle])
    changes = 0
    until = time.monotonic() + 120
    while changes < 2 or seq < 300:
        assert time.monotonic() < until
        if seq % 100 == 50 and len(seen) == changes:
            bundle = next(plan, None)
            if bundle is not None:
                replace(bundle)
                seen.append(bundle.grid.model_id)
        # Both the present model and, at times, the other one: late by a replacement.
        model_id = classifier.grid.model_id
        if seen and model_id == seen[-1] and changes < len(seen):
            changes += 1
        if seq % 7 == 0:
            model_id = next(i for i in models if i != model_id)
        seq += 1
        template = requests[model_id]
        assert classifier.submit(type(template)(seq, model_id, template.cells, template.rows))
        answer = collect(classifier, 1)[seq]
        if answer.status is AnswerStatus.STALE:
            stale += 1
            assert answer.probabilities is None
        else:
            assert answer.status is AnswerStatus.ANSWERED
            assert answer.model_id == model_id
            assert answer.probabilities.tobytes() == want[model_id].tobytes()
    assert stale > 0
