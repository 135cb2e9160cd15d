"""The JSON transport: its lines, its refusals, and that it judges as the binary one does."""

import json
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.classify.bundle import make_bundle, save_bundle
from ids_appliance.classify.jsonlink import (
    MAX_LINE,
    JsonClassifier,
    Lines,
    parse_object,
    parse_rows,
)
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.errors import HandshakeError
from ids_appliance.schema import FEATURE_NAMES, FEATURES, SCHEMA_HASH
from tests.bundles import random_arrays, random_rows
from tests.classify.nodes import NodeProcess, collect, make_request, reference
from tests.classify.test_remote import PATIENT, scripted_node


def line(number, row, **change):
    value = {"seq": number, **dict(zip(FEATURE_NAMES, row.tolist(), strict=True))} | change
    return json.dumps({k: v for k, v in value.items() if v is not None}).encode()


class JsonPeer:
    """A gateway spelled out in lines."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=60)
        self.file = self.socket.makefile("rb")
        self.hello = json.loads(self.file.readline())

    def receive(self):
        return json.loads(self.file.readline())

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def peer(json_node):
    made = JsonPeer(json_node.address)
    yield made
    made.close()


def test_a_conversation(peer, small_bundle):
    assert peer.hello == {
        "version": 1,
        "schema_hash": SCHEMA_HASH.hex(),
        "model_id": small_bundle.grid.model_id.hex(),
        "threshold": 0.5,
    }
    rows = random_rows(1, 30)
    want = reference(small_bundle, rows)
    stream = b"".join(line(100 + i, row) + b"\n" for i, row in enumerate(rows))
    assert 900 < len(stream) / 30 < 1200
    for at in range(0, len(stream), 777):
        peer.socket.sendall(stream[at : at + 777])
    for i, p in enumerate(want.tolist()):
        assert peer.receive() == {"seq": 100 + i, "probability": p, "verdict": int(p > 0.5)}
    peer.socket.sendall(b"\n")
    assert peer.file.readline() == b"\n"


@pytest.mark.parametrize(
    "change",
    [
        {"ttl": 256},
        {"ttl": -1},
        {"ttl": 1.5},
        {"ttl": "7"},
        {"ttl": True},
        {"ttl": None},
        {"ttl": 10**30},
        {"other": 1},
        {"ttl": None, "other": 1},
        {"seq": -1},
        {"seq": "1"},
        {"seq": None},
        {"seq": 1 << 63},
        {"is_tcp": 2},
    ],
    ids=str,
)
def test_rows_out_of_place(change, peer):
    message = line(1, np.zeros(60, int), **change)
    with pytest.raises(ValueError):
        parse_rows([message])
    peer.socket.sendall(message + b"\n")
    assert "malformed line" in peer.receive()["error"]
    assert peer.file.readline() == b""


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\n", b"[]\n", b"\xff\xfe\n", b"[" * 4000 + b"\n", b"x" * 5000, b"{}\n"],
    ids=lambda g: repr(g[:8]),
)
def test_garbage(garbage, peer):
    peer.socket.sendall(garbage)
    assert "malformed line" in peer.receive()["error"]
    assert peer.file.readline() == b""


@given(st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")), max_size=9), st.data())
@settings(deadline=None)
def test_lines_in_any_pieces(wanted, data):
    stream = b"".join(w + b"\n" for w in wanted)
    lines, got, at = Lines(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 50))
        got += lines.feed(stream[at : at + step])
        at += step
    assert got == wanted


def test_a_line_without_end_is_not_kept():
    lines = Lines()
    with pytest.raises(ValueError):
        for _ in range(MAX_LINE):
            lines.feed(b"xx")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(deadline=None)
def test_any_line_is_an_object_or_a_value_error(content):
    try:
        assert isinstance(parse_object(content), dict)
    except ValueError:
        return


def test_the_largest_line_fits():
    assert len(line(2**63 - 1, np.array([f.domain - 1 for f in FEATURES]))) < MAX_LINE


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400\n", "does not keep to the JSON protocol"),
        (b'{"version": 2}\n', "another JSON protocol"),
        (b'{"version": 1}\n', "without model"),
        (b'{"error": "no room"}\n', "no room"),
        (b'{"seq": 0, "probability": 0.5}\n', "not asked for"),
        (b"\xd5\x01\x08\x05\x00\x00", "closed the connection"),
    ],
)
def test_nodes_that_do_not_fit(answer, text):
    with scripted_node(lambda peer: peer.sendall(answer)) as address:
        with pytest.raises(HandshakeError, match=text):
            JsonClassifier.connect([address], PATIENT)


@pytest.mark.parametrize(
    "reply",
    [
        b'{"seq": 1, "probability": 0.5}\n',
        b'{"seq": 0, "probability": 1.5}\n',
        b'{"seq": 0, "probability": NaN}\n',
        b'{"seq": 0, "probability": "1"}\n',
        b'{"seq": 0, "probability": 0.5}\n' * 2,
        b"x" * 5000,
    ],
)
def test_a_node_that_lies_is_left(reply, json_node, small_bundle):
    hello = JsonPeer(json_node.address)
    first = json.dumps(hello.hello).encode() + b"\n"
    hello.close()

    def script(peer):
        peer.sendall(first)
        if peer.recv(65536):
            peer.sendall(reply)
        peer.recv(1)

    rows = random_rows(1, 2)
    with scripted_node(script) as address:
        nodes = [address, json_node.address]
        with JsonClassifier.connect(nodes, PATIENT) as link:
            assert link.submit(make_request(1, small_bundle, rows))
            answer = collect(link, 1)[1]
            assert answer.probabilities.tobytes() == reference(small_bundle, rows).tobytes()
            assert link.counters()["failovers"] == 1


def test_the_two_transports_do_not_mix(plain_node, json_node):
    with pytest.raises(HandshakeError):
        RemoteClassifier.connect([json_node.address], PATIENT)
    with pytest.raises(Exception, match="does not answer"):
        JsonClassifier.connect([plain_node.address], LinkOptions(connect_timeout_s=1.0))


def test_a_model_that_asks_of_addresses_is_not_served_in_json(tmp_path):
    arrays = random_arrays(4, features=[2, 4, 61, 66], max_cuts=200)
    save_bundle(make_bundle(arrays, 0.5, card={}), tmp_path / "model")
    options = ("--plaintext", "--transport", "json")
    node = NodeProcess(tmp_path / "model", tmp_path / "log", options=options)
    try:
        peer = JsonPeer(node.address)
        assert "more than the 60 features of a JSON row" in peer.hello["error"]
        assert peer.file.readline() == b""
        peer.close()
    finally:
        node.close()
