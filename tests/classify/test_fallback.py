"""A node that fails in every way, and the forest here that stands in: one answer each, exact."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ids_appliance._cells import CellTable
from ids_appliance.classify.fallback import PROBE_S, FallbackClassifier
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.types import Answer, AnswerStatus, CellRequest
from tests.bundles import random_bundle, random_rows
from tests.classify.nodes import NodeProcess, collect, make_request, reference
from tests.examples import examples

QUICK = LinkOptions(deadline_s=0.5, backoff_s=(0.05, 0.2))


class Scripted:
    """A node driven by the test: it answers, loses and comes back when it is told to."""

    def __init__(self, bundle):
        self.bundle = bundle
        self.connected = True
        self.open = True
        self.under_way = []
        self.ready = []

    @property
    def grid(self):
        return self.bundle.grid

    def submit(self, request):
        if not self.open:
            self.ready.append(Answer(request.seq, request.model_id, AnswerStatus.UNANSWERED, None))
            return True
        if len(self.under_way) >= 8:
            return False
        self.under_way.append(request)
        return True

    def settle(self, n, *, answered):
        for request in self.under_way[:n]:
            if not answered:
                answer = Answer(request.seq, request.model_id, AnswerStatus.UNANSWERED, None)
            elif request.model_id != self.grid.model_id:
                answer = Answer(request.seq, self.grid.model_id, AnswerStatus.STALE, None)
            else:
                values = reference(self.bundle, request.rows)
                answer = Answer(request.seq, request.model_id, AnswerStatus.ANSWERED, values)
            self.ready.append(answer)
        del self.under_way[:n]

    def answers(self, timeout_s):
        ready, self.ready = self.ready, []
        return ready

    def counters(self):
        return {}

    def close(self):
        self.open = False
        self.settle(len(self.under_way), answered=False)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 4)),
        st.tuples(st.just("answer"), st.integers(1, 8)),
        st.tuples(st.just("lose"), st.integers(1, 8)),
        st.tuples(st.sampled_from(["down", "up", "fetch", "later", "other", "same"]), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
@example([("submit", 1), ("same", 0), ("answer", 1), ("other", 0)], True)
@example([("submit", 1), ("submit", 1), ("lose", 1), ("other", 0), ("answer", 1)], False)
@examples(150)
def test_no_answer_is_lost_or_doubled_whatever_the_node_does(steps, other_here):
    here, there = random_bundle(1), random_bundle(2)
    bundles = {b.grid.model_id: b for b in (here, there)}
    node, clock = Scripted(there if other_here else here), Clock()
    classifier = FallbackClassifier(node, LocalClassifier(here), policy="local", clock=clock)
    asked, answered = {}, {}

    def fetch():
        for answer in classifier.answers(0.0):
            assert answer.seq in asked and answer.seq not in answered
            answered[answer.seq] = answer
            if answer.status is AnswerStatus.STALE:
                # The packets are encoded again with this grid: it must be another model's.
                assert classifier.grid.model_id != asked[answer.seq].model_id

    for step, n in steps:
        if step == "submit":
            for _ in range(n):
                bundle = bundles[classifier.grid.model_id]
                request = make_request(len(asked) + 1, bundle, random_rows(len(asked), 3))
                if classifier.submit(request):
                    asked[request.seq] = request
        elif step in ("answer", "lose"):
            node.settle(n, answered=step == "answer")
        elif step in ("down", "up"):
            node.connected = step == "up"
        elif step == "later":
            clock.now += 2 * PROBE_S
        elif step in ("other", "same"):
            node.bundle = there if step == "other" else here
        else:
            fetch()
    fetch()
    node.settle(100, answered=False)
    fetch()
    fetch()
    assert set(answered) == set(asked)
    for seq, answer in answered.items():
        # With a forest here, nothing is ever left unanswered.
        assert answer.status is not AnswerStatus.UNANSWERED
        if answer.status is AnswerStatus.ANSWERED:
            assert answer.model_id == asked[seq].model_id
            expected = reference(bundles[answer.model_id], asked[seq].rows)
            assert answer.probabilities.tobytes() == expected.tobytes()


def test_what_is_under_way_at_a_lost_node_is_judged_here_at_once():
    bundle = random_bundle(1)
    node = Scripted(bundle)
    classifier = FallbackClassifier(node, LocalClassifier(bundle), policy="local", clock=Clock())
    request = make_request(1, bundle, random_rows(1, 5))
    assert classifier.submit(request)
    assert list(classifier.answers(0.0)) == []
    node.connected = False
    [answer] = classifier.answers(0.0)
    assert answer.status is AnswerStatus.ANSWERED and classifier.down
    node.settle(1, answered=False)  # its deadline passes all the same
    assert list(classifier.answers(0.0)) == []
    assert classifier.counters()["local_fallbacks"] == 1


def test_a_node_that_is_back_is_probed_and_then_in_charge():
    bundle = random_bundle(1)
    node, clock = Scripted(bundle), Clock()
    classifier = FallbackClassifier(node, LocalClassifier(bundle), policy="local", clock=clock)
    node.connected = False
    requests = [make_request(i, bundle, random_rows(i, 2)) for i in range(1, 9)]
    assert classifier.submit(requests[0]) and len(classifier.answers(0.0)) == 1
    assert not node.under_way
    node.connected = True
    assert classifier.submit(requests[1]) and len(node.under_way) == 1
    assert len(classifier.answers(0.0)) == 1  # answered here, the probe does not delay it
    assert classifier.submit(requests[2]) and len(node.under_way) == 1  # one probe at a time
    node.settle(1, answered=True)
    assert [a.seq for a in classifier.answers(0.0)] == [3]
    assert classifier.submit(requests[3]) and len(node.under_way) == 1
    assert list(classifier.answers(0.0)) == [] and not classifier.down
    node.settle(1, answered=True)
    assert [a.seq for a in classifier.answers(0.0)] == [4]
    counters = classifier.counters()
    assert (counters["node_losses"], counters["node_returns"], counters["node_probes"]) == (1, 1, 1)


def test_a_probe_without_an_answer_is_repeated_later():
    bundle = random_bundle(1)
    node, clock = Scripted(bundle), Clock()
    classifier = FallbackClassifier(node, LocalClassifier(bundle), policy="local", clock=clock)
    seq = 0

    def ask():
        nonlocal seq
        seq += 1
        assert classifier.submit(make_request(seq, bundle, random_rows(seq, 2)))
        return classifier.answers(0.0)

    ask()
    node.settle(1, answered=False)
    assert [a.status for a in classifier.answers(0.0)] == [AnswerStatus.ANSWERED]
    assert ask() and len(node.under_way) == 1
    node.settle(1, answered=False)
    assert ask() and ask() and not node.under_way
    clock.now += PROBE_S
    assert ask() and len(node.under_way) == 1


def test_a_node_that_is_back_is_noticed_even_if_nobody_has_a_new_question():
    bundle = random_bundle(1)
    node, clock = Scripted(bundle), Clock()
    classifier = FallbackClassifier(node, LocalClassifier(bundle), policy="local", clock=clock)
    for silent in (False, True):  # lost with its connection; there, and it does not answer
        node.connected = silent
        assert classifier.submit(make_request(1 + silent, bundle, random_rows(1, 2)))
        if silent:
            node.settle(1, answered=False)
        assert len(classifier.answers(0.0)) == 1 and classifier.down
        node.connected = True
        clock.now += PROBE_S
        assert list(classifier.answers(0.0)) == [] and len(node.under_way) == 1
        node.settle(1, answered=False)
        assert list(classifier.answers(0.0)) == [] and classifier.down
        clock.now += PROBE_S
        assert list(classifier.answers(0.0)) == []
        node.settle(1, answered=True)
        assert list(classifier.answers(0.0)) == []
        assert list(classifier.answers(0.0)) == [] and not classifier.down
        assert not node.under_way
    node.connected = False
    assert list(classifier.answers(0.0)) == [] and classifier.down
    node.connected = True  # nothing was asked of it meanwhile
    assert list(classifier.answers(0.0)) == [] and list(classifier.answers(0.0)) == []
    assert not classifier.down


def test_another_model_here_makes_the_nodes_requests_stale():
    here, there = random_bundle(1), random_bundle(2)
    node = Scripted(there)
    classifier = FallbackClassifier(node, LocalClassifier(here), policy="local", clock=Clock())
    assert classifier.grid.model_id == there.grid.model_id
    assert classifier.submit(make_request(1, there, random_rows(1, 3)))
    node.connected = False
    [answer] = classifier.answers(0.0)
    assert answer.status is AnswerStatus.STALE
    assert classifier.grid.model_id == answer.model_id == here.grid.model_id


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_other_policies_leave_unanswered_what_is_unanswered(policy):
    bundle = random_bundle(1)
    node = Scripted(bundle)
    classifier = FallbackClassifier(node, LocalClassifier(bundle), policy=policy, clock=Clock())
    assert classifier.submit(make_request(1, bundle, random_rows(1, 3)))
    node.connected = False
    node.settle(1, answered=False)
    assert [a.status for a in classifier.answers(0.0)] == [AnswerStatus.UNANSWERED]
    assert not classifier.down


def test_cells_of_a_transport_without_cells_are_made_anew(bundle_path, small_bundle, start_node):
    node = start_node(bundle_path, options=("--plaintext", "--transport", "json"))
    remote = JsonClassifier.connect([node.address], QUICK)
    classifier = FallbackClassifier(remote, LocalClassifier(small_bundle), policy="local")
    try:
        rows = random_rows(4, 20)
        # As the pipeline does it: the record itself is the cell.
        request = CellRequest(1, small_bundle.grid.model_id, rows.view(np.uint8), rows)
        node.kill()
        assert classifier.submit(request)
        answer = collect(classifier, 1)[1]
        assert answer.probabilities.tobytes() == reference(small_bundle, rows).tobytes()
    finally:
        classifier.close()


def test_a_node_that_lies_about_cut_points_is_not_believed():
    bundle = random_bundle(1)
    feature = max(range(len(bundle.grid.cuts)), key=lambda at: len(bundle.grid.cuts[at]))
    cuts = list(bundle.grid.cuts)
    cuts[feature] = cuts[feature][:1]
    there = replace(bundle.grid, cuts=tuple(cuts))

    class Liar(Scripted):
        grid = there

    node = Liar(bundle)
    classifier = FallbackClassifier(node, LocalClassifier(bundle), policy="local", clock=Clock())
    rows = random_rows(1, 40)
    cells = CellTable(there.model_id, there.features, there.cuts).encode(rows)
    assert classifier.submit(CellRequest(1, there.model_id, cells, rows))
    node.settle(1, answered=False)
    [answer] = classifier.answers(0.0)
    assert answer.status is AnswerStatus.ANSWERED
    np.testing.assert_array_equal(answer.probabilities, reference(bundle, rows))


def test_a_gateway_starts_without_its_node(bundle_path, small_bundle, start_node, tmp_path):
    node = start_node()
    port = node.address[1]
    node.kill()
    remote = RemoteClassifier.start([node.address], QUICK)
    classifier = FallbackClassifier(remote, LocalClassifier(small_bundle), policy="local")
    again = None
    try:
        assert classifier.grid.model_id == small_bundle.grid.model_id
        assert classifier.submit(make_request(1, small_bundle, random_rows(1, 4)))
        assert collect(classifier, 1)[1].status is AnswerStatus.ANSWERED
        again = NodeProcess(bundle_path, tmp_path / "again.log", listen=f"127.0.0.1:{port}")
        until = time.monotonic() + 60
        seq = 1
        while classifier.down:
            assert time.monotonic() < until
            seq += 1
            assert classifier.submit(make_request(seq, small_bundle, random_rows(seq, 1)))
            collect(classifier, 1)
        assert remote.counters()["answered"] > 0
    finally:
        classifier.close()
        if again is not None:
            again.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_hung_nodes_lose_and_double_nothing(
    seed, bundle_path, small_bundle, start_node, tmp_path
):
    rng = random.Random(seed)
    node = start_node()
    remote = RemoteClassifier.connect([node.address], QUICK)
    classifier = FallbackClassifier(remote, LocalClassifier(small_bundle), policy="local")
    asked, answered = {}, {}

    def fetch(timeout_s):
        for answer in classifier.answers(timeout_s):
            assert answer.seq not in answered
            answered[answer.seq] = answer

    try:
        for fate in rng.sample(["kill", "hang", "kill"], 3):
            for turn in range(60):
                request = make_request(
                    len(asked) + 1, small_bundle, random_rows(len(asked), rng.randint(1, 40))
                )
                if classifier.submit(request):
                    asked[request.seq] = request
                fetch(0.002 * rng.random())
                if turn == 20:
                    node.hang() if fate == "hang" else node.kill()
                if turn == 45 and fate == "hang":
                    node.resume()
            if fate == "kill":
                listen = f"127.0.0.1:{node.address[1]}"
                node = start_node(listen=listen)
            until = time.monotonic() + 60
            while classifier.down:
                assert time.monotonic() < until, "the node is not used again"
                request = make_request(len(asked) + 1, small_bundle, random_rows(len(asked), 2))
                assert classifier.submit(request)
                asked[request.seq] = request
                fetch(0.01)
        until = time.monotonic() + 60
        while len(answered) < len(asked):
            assert time.monotonic() < until
            fetch(0.05)
        assert list(classifier.answers(1.0)) == []
        for seq, answer in answered.items():
            assert answer.status is AnswerStatus.ANSWERED
            expected = reference(small_bundle, asked[seq].rows)
            assert answer.probabilities.tobytes() == expected.tobytes()
        counters = classifier.counters()
        assert counters["node_losses"] >= 2 and counters["node_returns"] >= 2
    finally:
        classifier.close()
