"""The gateway's end: nodes that die, hang, change their model, or are not what they seem."""

import contextlib
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ids_appliance import _wire as wire
from ids_appliance.classify.bundle import save_bundle
from ids_appliance.classify.fallback import FallbackClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import TICK_S, LinkOptions, RemoteClassifier
from ids_appliance.errors import HandshakeError, NodeUnreachable
from ids_appliance.schema import SCHEMA_HASH
from ids_appliance.types import AnswerStatus, Grid
from tests.bundles import random_rows
from tests.classify.nodes import collect, make_request, reference

QUICK = LinkOptions(connect_timeout_s=2.0)
PATIENT = LinkOptions(connect_timeout_s=30.0, deadline_s=30.0)
"""For what has to be answered, however busy the machine is."""
UNASKED = replace(PATIENT, quiet_s=60.0)
"""No PING either."""


@contextlib.contextmanager
def scripted_node(script):
    """A listener whose connections are handed to `script(socket)`, each in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    peers = []

    def accept():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peers.append(peer)
            threading.Thread(target=talk, args=(peer,), daemon=True).start()

    def talk(peer):
        with contextlib.suppress(OSError), peer:
            script(peer)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def welcome(peer, bundle, *, max_rows=1024, slot=0):
    """Do the node's part of the handshake."""
    decoder = wire.Decoder(False)
    while not decoder.feed(peer.recv(4096)):
        pass
    hello = wire.encode_welcome("scripted", max_rows, max_in_flight=4)
    peer.sendall(hello + wire.encode_model(slot, bundle.grid))
    return decoder


def next_classify(peer, decoder):
    while True:
        data = peer.recv(65536)
        if not data:
            raise OSError("gone")
        for message in decoder.feed(data):
            if isinstance(message, wire.Classify):
                return message


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(classifier, bundle, seq, rows=None):
    rows = random_rows(seq, 4) if rows is None else rows
    assert classifier.submit(make_request(seq, bundle, rows))
    return collect(classifier, 1)[seq]


# ----------------------------------------------------------------------------------- at the start


def test_nobody_there():
    port = free_port()
    with pytest.raises(NodeUnreachable, match=f"127.0.0.1:{port} cannot be reached"):
        RemoteClassifier.connect([("127.0.0.1", port)], QUICK)
    with pytest.raises(NodeUnreachable):
        RemoteClassifier.connect([])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "a..b", ".a"])
def test_no_such_host(host):
    with pytest.raises(NodeUnreachable, match="cannot be reached"):
        RemoteClassifier.connect([(host, 1)], QUICK)


def test_closed_while_a_node_says_nothing():
    """Ctrl-C at the start: the connection is given up with the thread."""
    said = []

    def script(peer):
        said.append(peer.recv(4096))
        said.append(peer.recv(4096))

    with scripted_node(script) as address:
        link = RemoteClassifier([address], LinkOptions(connect_timeout_s=30.0))
        link._thread.start()
        while not said:
            time.sleep(0.01)
        before = len(os.listdir("/proc/self/fd"))
        link.close()
        assert len(os.listdir("/proc/self/fd")) < before
        until = time.monotonic() + 60
        while len(said) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert said[1] == b""


def test_wait_keeps_trying(bundle_path, start_node):
    port = free_port()
    started = []
    timer = threading.Timer(0.3, lambda: started.append(start_node(listen=f"127.0.0.1:{port}")))
    timer.start()
    options = LinkOptions(wait_s=120.0, connect_timeout_s=30.0)
    with RemoteClassifier.connect([("127.0.0.1", port)], options) as classifier:
        assert classifier.grid.features
    timer.join()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", HandshakeError, "does not keep to the protocol"),
        (wire.encode_error(wire.ERROR_VERSION, "speaks 2"), HandshakeError, "speaks 2"),
        (wire.encode_error(wire.ERROR_SCHEMA, "other record"), HandshakeError, "other record"),
        (wire.encode_error(wire.ERROR_BUSY, "full"), NodeUnreachable, "full"),
        (
            b"\xd5\x02\x02" + wire.encode_welcome("n", 1, max_in_flight=1)[3:],
            HandshakeError,
            "version 2",
        ),
        (b"", HandshakeError, "closed the connection in the handshake"),
    ],
)
def test_nodes_that_do_not_fit(answer, error, text):
    def script(peer):
        peer.recv(4096)
        peer.sendall(answer)

    with scripted_node(script) as address:
        with pytest.raises(error, match=text) as raised:
            RemoteClassifier.connect([address], PATIENT)
    assert "\n" not in str(raised.value)


def test_a_node_of_another_schema(small_bundle):
    grid = small_bundle.grid
    other = Grid(grid.model_id, 0.5, grid.features, grid.cuts, b"x" * 32)

    def script(peer):
        peer.recv(4096)
        peer.sendall(wire.encode_welcome("n", 9, max_in_flight=9) + wire.encode_model(0, other))
        peer.recv(1)

    with scripted_node(script) as address:
        with pytest.raises(HandshakeError, match="packet record"):
            RemoteClassifier.connect([address], PATIENT)


def test_a_node_that_accepts_and_says_nothing():
    with scripted_node(lambda peer: peer.recv(4096) and peer.recv(4096)) as address:
        with pytest.raises(NodeUnreachable, match="does not answer"):
            RemoteClassifier.connect([address], LinkOptions(connect_timeout_s=0.2))


def test_the_second_node_when_the_first_is_not_there(plain_node, small_bundle):
    nodes = [("127.0.0.1", free_port()), plain_node.address]
    with RemoteClassifier.connect(nodes, PATIENT) as classifier:
        assert ask(classifier, small_bundle, 1).status is AnswerStatus.ANSWERED


def test_where_a_node_is_that_has_a_name(start_node, small_bundle):
    node = start_node()
    here = (bytes([127, 0, 0, 1]),)
    link = RemoteClassifier.connect([("localhost", node.address[1])], PATIENT)
    both = FallbackClassifier(link, LocalClassifier(small_bundle), policy="local")
    try:
        assert (link.reached, link.trouble) == (here, "")
        node.kill()
        until = time.monotonic() + 60
        while "cannot be reached" not in both.trouble:
            assert time.monotonic() < until, both.trouble
            time.sleep(0.01)
        assert both.reached == here  # soon it is back, and must not have been cut off
    finally:
        both.close()


# ----------------------------------------------------------------------------------- fail-over


def run_through_failure(nodes, bundle, fail):
    """Ask without pause; call `fail` in the middle. Return answers and counters."""
    # Nodes that are alive have time to say so: only the one that failed is left.
    options = replace(PATIENT, probe_s=2.0)
    with RemoteClassifier.connect([n.address for n in nodes], options) as classifier:
        rows = random_rows(1, 16)
        template = make_request(0, bundle, rows)
        want = reference(bundle, rows).tobytes()
        seq = answered = 0
        gap = 0.0
        last = began = time.monotonic()
        before = None
        over = False
        while not over or answered < seq:
            assert time.monotonic() - began < 120
            if before is None and answered > 100:
                fail()
                before = answered
            over = before is not None and answered > before + 300
            over = over and classifier.counters()["failovers"] > 0
            while not over:
                more = type(template)(seq + 1, template.model_id, template.cells, template.rows)
                if not classifier.submit(more):
                    break
                seq += 1
            for answer in classifier.answers(0.05):
                answered += 1
                assert answer.status is AnswerStatus.ANSWERED
                assert answer.probabilities.tobytes() == want
                now = time.monotonic()
                gap, last = max(gap, now - last), now
        assert answered == seq
        print(f"longest time without an answer: {gap:.2f} s")
        return answered, classifier.counters()


def test_a_hung_node_is_left_within_a_second():
    options = LinkOptions()
    assert options.quiet_s + options.probe_s + 2 * TICK_S <= 1.0


def test_a_killed_node_costs_nothing_but_time(start_node, small_bundle):
    nodes = [start_node(), start_node()]
    answered, counters = run_through_failure(nodes, small_bundle, nodes[0].kill)
    assert answered > 400
    assert counters["failovers"] == 1
    assert counters["unanswered"] == counters["stale"] == 0


def test_a_hung_node_costs_nothing_but_time(start_node, small_bundle):
    nodes = [start_node(), start_node()]
    answered, counters = run_through_failure(nodes, small_bundle, nodes[0].hang)
    assert answered > 400
    assert counters["failovers"] == 1
    assert counters["unanswered"] == counters["stale"] == 0


def test_a_node_that_ends_in_good_order(start_node, small_bundle):
    nodes = [start_node(), start_node()]
    exits = []
    answered, counters = run_through_failure(
        nodes, small_bundle, lambda: exits.append(nodes[0].stop())
    )
    assert exits == [0]
    assert counters["failovers"] == 1
    assert counters["unanswered"] == counters["stale"] == 0


def test_to_a_node_of_another_model(start_node, small_bundle, other_bundle, tmp_path):
    save_bundle(other_bundle, tmp_path / "other")
    nodes = [start_node(), start_node(tmp_path / "other")]
    with RemoteClassifier.connect([n.address for n in nodes], PATIENT) as classifier:
        assert ask(classifier, small_bundle, 1).status is AnswerStatus.ANSWERED
        nodes[0].hang()
        answer = ask(classifier, small_bundle, 2)
        assert answer.status is AnswerStatus.STALE
        assert answer.model_id == classifier.grid.model_id == other_bundle.grid.model_id
        assert ask(classifier, other_bundle, 3).status is AnswerStatus.ANSWERED


def test_the_only_node_dies_and_comes_back(start_node, small_bundle):
    node = start_node()
    options = LinkOptions(deadline_s=1.0, connect_timeout_s=30.0, backoff_s=(0.02, 0.1))
    with RemoteClassifier.connect([node.address], options) as classifier:
        node.kill()
        began = time.monotonic()
        assert ask(classifier, small_bundle, 2).status is AnswerStatus.UNANSWERED
        assert time.monotonic() - began >= 0.95
        start_node(listen=f"127.0.0.1:{node.address[1]}")
        until = time.monotonic() + 60
        seq = 3
        while ask(classifier, small_bundle, seq).status is not AnswerStatus.ANSWERED:
            assert time.monotonic() < until
            seq += 1
        counters = classifier.counters()
        assert counters["reconnects"] >= 1
        assert counters["failovers"] == 0
        assert counters["requests"] == counters["answered"] + counters["unanswered"]


# ------------------------------------------------------------------------- under way, and swaps


def test_a_model_pushed_while_requests_are_under_way(small_bundle, other_bundle):
    """The node answers the old request after its push: with the old model, which is right."""
    rows = random_rows(1, 4)
    old = reference(small_bundle, rows)
    new = reference(other_bundle, rows)

    def script(peer):
        decoder = welcome(peer, small_bundle)
        first = next_classify(peer, decoder)
        peer.sendall(wire.encode_model(1, other_bundle.grid))
        peer.sendall(wire.encode_verdicts(first.seq, first.slot, old))
        second = next_classify(peer, decoder)
        assert second.slot == 1
        peer.sendall(wire.encode_verdicts(second.seq, 1, new))
        third = next_classify(peer, decoder)
        assert third.slot == 0
        peer.sendall(wire.encode_error(wire.ERROR_STALE, "gone", seq=third.seq))
        peer.recv(1)

    with (
        scripted_node(script) as address,
        RemoteClassifier.connect([address], UNASKED) as classifier,
    ):
        answer = ask(classifier, small_bundle, 1, rows)
        assert answer.model_id == small_bundle.grid.model_id
        assert answer.probabilities.tobytes() == old.tobytes()
        assert classifier.grid.model_id == other_bundle.grid.model_id
        answer = ask(classifier, other_bundle, 2, rows)
        assert answer.probabilities.tobytes() == new.tobytes()
        assert ask(classifier, small_bundle, 3, rows).status is AnswerStatus.STALE
        assert classifier.counters()["stale"] == 1


@pytest.mark.parametrize(
    "lie",
    [
        lambda m: wire.encode_verdicts(m.seq + 1, m.slot, np.zeros(len(m.cells))),
        lambda m: wire.encode_verdicts(m.seq, m.slot + 1, np.zeros(len(m.cells))),
        lambda m: wire.encode_verdicts(m.seq, m.slot, np.zeros(len(m.cells) + 1)),
        lambda m: wire.encode_bits(m.seq, m.slot, np.zeros(len(m.cells)), threshold=0.5),
        lambda m: b"garbage",
        lambda m: wire.encode_error(wire.ERROR_PROTOCOL, "no"),
    ],
    ids=["seq", "slot", "rows", "bits", "garbage", "error"],
)
def test_a_node_that_lies_is_left(small_bundle, plain_node, lie):
    def script(peer):
        decoder = welcome(peer, small_bundle)
        peer.sendall(lie(next_classify(peer, decoder)))
        peer.recv(1)

    rows = random_rows(1, 4)
    with scripted_node(script) as address:
        nodes = [address, plain_node.address]
        with RemoteClassifier.connect(nodes, UNASKED) as classifier:
            answer = ask(classifier, small_bundle, 1, rows)
            assert answer.probabilities.tobytes() == reference(small_bundle, rows).tobytes()
            assert classifier.counters()["failovers"] == 1


def test_a_node_that_answers_pings_only(small_bundle):
    def script(peer):
        decoder = welcome(peer, small_bundle)
        while data := peer.recv(4096):
            for message in decoder.feed(data):
                if isinstance(message, wire.Ping):
                    peer.sendall(wire.encode_pong(message.token))

    with scripted_node(script) as address:
        options = LinkOptions(deadline_s=0.8, connect_timeout_s=30.0, probe_s=60.0)
        with RemoteClassifier.connect([address], options) as classifier:
            assert ask(classifier, small_bundle, 1).status is AnswerStatus.UNANSWERED
            assert classifier.counters()["unanswered"] == 1
            assert classifier.counters()["reconnects"] == 0


def pings_only(peer, bundle, *, seen=None, max_in_flight=4):
    decoder = wire.Decoder(False)
    peer.recv(4096)
    hello = wire.encode_welcome("scripted", 65535, max_in_flight=max_in_flight)
    peer.sendall(hello + wire.encode_model(0, bundle.grid))
    decoder.feed(wire.encode_hello("g", SCHEMA_HASH))
    while data := peer.recv(65536):
        for message in decoder.feed(data):
            if isinstance(message, wire.Ping):
                peer.sendall(wire.encode_pong(message.token))
            elif seen is not None:
                seen.append(message)


def test_a_node_that_answers_pings_only_is_left_for_another(small_bundle, plain_node):
    options = LinkOptions(deadline_s=0.2, connect_timeout_s=30.0)
    with scripted_node(lambda peer: pings_only(peer, small_bundle)) as address:
        with RemoteClassifier.connect([address, plain_node.address], options) as classifier:
            until = time.monotonic() + 60
            seq = 1
            while ask(classifier, small_bundle, seq).status is not AnswerStatus.ANSWERED:
                assert time.monotonic() < until
                seq += 1


def test_what_a_node_leaves_unanswered_is_bounded(small_bundle):
    """Whatever WELCOME says: each request under way keeps its cells."""
    seen = []
    options = LinkOptions(deadline_s=0.05, connect_timeout_s=30.0, quiet_s=60.0)
    template = make_request(1, small_bundle, random_rows(1, 2))

    def script(peer):
        pings_only(peer, small_bundle, seen=seen, max_in_flight=65535)

    with scripted_node(script) as address, RemoteClassifier.connect([address], options) as link:
        taken = settled = 0
        until = time.monotonic() + 120
        while settled < 1000:
            assert time.monotonic() < until
            while link.submit(template):
                taken += 1
            settled += len(link.answers(0.1))
        assert len(seen) <= 256


def test_a_part_is_never_larger_than_a_message():
    """A node may allow more cells than fit one message."""
    seen = []
    rows = random_rows(1, 20_000)
    cuts = tuple(np.ones(1, np.uint16) for _ in range(60))
    wide = SimpleNamespace(grid=Grid(b"m" * 16, 0.5, tuple(range(60)), cuts))
    request = make_request(1, wide, rows)
    assert request.cells.size > wire.MAX_PAYLOAD

    def script(peer):
        decoder = welcome(peer, wide, max_rows=65535)
        while sum(seen) < len(rows):
            seen.append(len(next_classify(peer, decoder).cells))
        peer.recv(1)

    with scripted_node(script) as address, RemoteClassifier.connect([address], UNASKED) as link:
        assert link.submit(request)
        until = time.monotonic() + 30
        while sum(seen) < len(rows):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert len(seen) == -(-request.cells.size // (wire.MAX_PAYLOAD - wire.ROWS_HEAD))


def test_one_id_for_two_models_is_a_lie(small_bundle, other_bundle, plain_node):
    grid = other_bundle.grid
    lie = Grid(small_bundle.grid.model_id, grid.threshold, grid.features, grid.cuts)

    def script(peer):
        welcome(peer, small_bundle)
        peer.sendall(wire.encode_model(1, lie))
        peer.recv(1)

    with scripted_node(script) as address:
        nodes = [address, plain_node.address]
        with RemoteClassifier.connect(nodes, PATIENT) as classifier:
            until = time.monotonic() + 60
            while classifier.counters()["failovers"] == 0:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert classifier.grid.cuts[0].tolist() == small_bundle.grid.cuts[0].tolist()


def test_large_requests_travel_in_parts(small_bundle):
    rows = random_rows(1, 1000)
    want = reference(small_bundle, rows)
    sizes = []

    def script(peer):
        decoder = welcome(peer, small_bundle, max_rows=64)
        at = 0
        while True:
            data = peer.recv(65536)
            if not data:
                return
            for message in decoder.feed(data):
                if isinstance(message, wire.Classify):
                    n = len(message.cells)
                    sizes.append(n)
                    peer.sendall(wire.encode_verdicts(message.seq, 0, want[at : at + n]))
                    at += n

    with (
        scripted_node(script) as address,
        RemoteClassifier.connect([address], UNASKED) as classifier,
    ):
        answer = ask(classifier, small_bundle, 1, rows)
        assert answer.probabilities.tobytes() == want.tobytes()
    assert sizes == [64] * 15 + [40]


def test_bare_verdicts_where_they_are_asked_for(plain_node, small_bundle):
    rows = random_rows(1, 100)
    want = (reference(small_bundle, rows) > small_bundle.grid.threshold).astype(float)
    options = replace(UNASKED, bare_verdicts=True)
    with RemoteClassifier.connect([plain_node.address], options) as classifier:
        answer = ask(classifier, small_bundle, 1, rows)
        assert answer.probabilities.tolist() == want.tolist()
        assert classifier.counters()["bytes_received"] < 100 * 8 + 5000


def test_the_queue_is_bounded(small_bundle):
    def script(peer):
        welcome(peer, small_bundle)
        peer.recv(1)
        threading.Event().wait(5)

    # Long enough that none is over while the others are still asked.
    options = LinkOptions(deadline_s=1.5, connect_timeout_s=30.0, max_requests=8, max_rows=100)
    template = make_request(1, small_bundle, random_rows(1, 10))
    with scripted_node(script) as address, RemoteClassifier.connect([address], options) as link:
        for n in (8, 8):
            taken = 0
            while link.submit(template):
                taken += 1
            assert taken == n
            answers = []
            while len(answers) < n:
                answers += link.answers(1.0)
            assert {a.status for a in answers} == {AnswerStatus.UNANSWERED}
        large = make_request(1, small_bundle, random_rows(1, 60))
        assert link.submit(large)
        assert not link.submit(large)


def test_counters_count_what_is_on_the_wire(plain_node, small_bundle):
    rows = random_rows(1, 10)
    with RemoteClassifier.connect([plain_node.address], UNASKED) as classifier:
        before = classifier.counters()
        hello = wire.encode_hello("gateway", SCHEMA_HASH)
        assert before["bytes_sent"] == len(hello)
        ask(classifier, small_bundle, 1, rows)
        after = classifier.counters()
        request = (
            wire.HEADER_BYTES + wire.ROWS_HEAD + make_request(1, small_bundle, rows).cells.size
        )
        assert after["bytes_sent"] - before["bytes_sent"] == request
        answer = wire.encode_verdicts(1, 0, reference(small_bundle, rows))
        assert after["bytes_received"] - before["bytes_received"] == len(answer)
        assert (after["requests"], after["rows"], after["answered"]) == (1, 10, 1)


def test_the_model_is_followed_at_once(swap_path, start_node, other_bundle):
    node = start_node(swap_path)
    with RemoteClassifier.connect([node.address], PATIENT) as classifier:
        save_bundle(other_bundle, swap_path)
        node.signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while classifier.grid.model_id != other_bundle.grid.model_id:
            assert time.monotonic() < until
            classifier.answers(0.01)
            time.sleep(0.01)
        assert ask(classifier, other_bundle, 1).status is AnswerStatus.ANSWERED
