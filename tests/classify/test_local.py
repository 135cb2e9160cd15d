"""The local classifier answers each request once, with the model that the request names."""

import numpy as np
import pytest

from ids_appliance.classify.local import MAX_WAITING, LocalClassifier
from ids_appliance.types import AnswerStatus, CellRequest, Classifier
from tests.bundles import random_bundle, random_rows
from tests.reference import forest as twin


def request(bundle, seq=1, n=5):
    rows = random_rows(seq, n)
    cells = b"".join(twin.pack(bundle.arrays, twin.encode(bundle.arrays, row)) for row in rows)
    cells = np.frombuffer(cells, np.uint8).reshape(n, -1)
    return CellRequest(seq, bundle.grid.model_id, cells, rows)


def expected(bundle, asked):
    out = np.empty(len(asked.rows))
    bundle.forest.evaluate_rows(asked.rows, out)
    return out.tobytes()


def test_answers_are_exact_and_in_order(small_bundle):
    classifier = LocalClassifier(small_bundle)
    assert isinstance(classifier, Classifier)
    asked = [request(small_bundle, seq) for seq in range(1, 9)]
    assert all(classifier.submit(r) for r in asked)
    answers = classifier.answers(0.0)
    assert [a.seq for a in answers] == list(range(1, 9))
    for question, answer in zip(asked, answers, strict=True):
        assert answer.status is AnswerStatus.ANSWERED
        assert answer.probabilities.tobytes() == expected(small_bundle, question)
    assert classifier.answers(0.0) == []
    assert classifier.counters()["cells"] == 40


def test_a_full_queue_refuses(small_bundle):
    classifier = LocalClassifier(small_bundle)
    question = request(small_bundle, n=1)
    taken = sum(classifier.submit(question) for _ in range(MAX_WAITING + 10))
    assert taken == MAX_WAITING == len(classifier.answers(0.0))
    assert classifier.submit(question)


def test_replacing_answers_the_previous_model_and_no_older(small_bundle, other_bundle):
    classifier = LocalClassifier(small_bundle)
    classifier.replace(small_bundle)
    assert classifier.counters()["models"] == 0
    classifier.replace(other_bundle)
    assert classifier.grid is other_bundle.grid
    for bundle in (small_bundle, other_bundle):
        question = request(bundle)
        classifier.submit(question)
        (answer,) = classifier.answers(0.0)
        assert answer.model_id == bundle.grid.model_id
        assert answer.probabilities.tobytes() == expected(bundle, question)
    classifier.replace(random_bundle(3))
    classifier.submit(request(small_bundle))
    (answer,) = classifier.answers(0.0)
    assert answer.status is AnswerStatus.STALE and answer.probabilities is None
    assert answer.model_id == classifier.grid.model_id


def test_closed_means_unanswered(small_bundle):
    classifier = LocalClassifier(small_bundle)
    before = request(small_bundle, 1)
    classifier.submit(before)
    classifier.close()
    classifier.close()
    classifier.submit(request(small_bundle, 2))
    first, second = classifier.answers(0.0)
    assert first.status is AnswerStatus.ANSWERED
    assert second.status is AnswerStatus.UNANSWERED and second.probabilities is None


def test_cells_of_another_width_are_refused(small_bundle):
    wrong = CellRequest(
        1, small_bundle.grid.model_id, np.zeros((1, 3), np.uint8), random_rows(1, 1)
    )
    with pytest.raises(ValueError, match="cells must be"):
        LocalClassifier(small_bundle).submit(wrong)
