"""The node: many gateways at once, some of them stopped, slow, greedy or hostile."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

from ids_appliance import _wire as wire
from ids_appliance.classify.bundle import save_bundle
from ids_appliance.classify.connection import ServiceOptions
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.service import ClassifierService
from ids_appliance.schema import FEATURES, SCHEMA_HASH
from ids_appliance.types import AnswerStatus
from tests.bundles import random_rows
from tests.classify.nodes import START, NodeProcess, collect, make_request, reference

WIDTHS = tuple(f.width for f in FEATURES)
PATIENT = LinkOptions(deadline_s=30.0, connect_timeout_s=30.0)


class Peer:
    """A gateway spelled out in messages."""

    def __init__(self, address, *, hello=True):
        self.socket = socket.create_connection(address, timeout=60)
        self.decoder = wire.Decoder(True, widths=WIDTHS)
        self.inbox = []
        if hello:
            self.send(wire.encode_hello("peer", SCHEMA_HASH))
            assert isinstance(self.receive(), wire.Welcome)
            self.model = self.receive()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """Return the next message; None at the end of the stream."""
        while not self.inbox:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.inbox += self.decoder.feed(data)
        return self.inbox.pop(0)

    def expect_refusal(self, code):
        """The next message is that ERROR, and the last."""
        error = self.receive()
        assert isinstance(error, wire.Error)
        assert error.code == code, error.text
        assert "\n" not in error.text
        assert self.receive() is None

    def close(self):
        self.socket.close()


@pytest.fixture
def peer(plain_node):
    """Make peers of the shared node."""
    peers = []

    def make(**options):
        peers.append(Peer(plain_node.address, **options))
        return peers[-1]

    yield make
    for made in peers:
        made.close()


@pytest.fixture
def load(bundle_path):
    """Start gateways that ask without pause; each a process."""
    running = []

    def start(node, rows, pause_s=0.0):
        module = [sys.executable, "-m", "tests.classify.gateway_load"]
        process = subprocess.Popen(
            [
                *module,
                node.address[0],
                str(node.address[1]),
                str(bundle_path),
                str(rows),
                str(pause_s),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def result(process):
    out, _ = process.communicate("\n", timeout=120)
    return json.loads(out.splitlines()[-1])


def p99(latencies):
    return statistics.quantiles(latencies, n=100)[98]


# ----------------------------------------------------------------------------- good behaviour


def test_verdicts_ping_and_goodbye(peer, small_bundle):
    p = peer()
    request = make_request(1, small_bundle, random_rows(1, 20))
    p.send(wire.encode_classify(77, p.model.slot, request.cells) + wire.encode_ping(5))
    answers = {type(m): m for m in (p.receive(), p.receive())}
    verdicts = answers[wire.Verdicts]
    assert (verdicts.seq, verdicts.slot) == (77, p.model.slot)
    want = reference(small_bundle, request.rows)
    assert verdicts.probabilities.tobytes() == want.tobytes()
    assert answers[wire.Pong].token == 5
    p.send(wire.encode_bye())
    assert p.receive() is None


def test_answers_in_order(peer, small_bundle):
    p = peer()
    cells = make_request(1, small_bundle, random_rows(1, 3)).cells
    p.send(b"".join(wire.encode_classify(seq, p.model.slot, cells) for seq in range(1, 101)))
    assert [p.receive().seq for _ in range(100)] == list(range(1, 101))


def test_an_unknown_slot_is_stale_and_no_reason_to_close(peer, small_bundle):
    p = peer()
    cells = make_request(1, small_bundle, random_rows(1, 3)).cells
    p.send(wire.encode_classify(5, p.model.slot + 9, cells))
    error = p.receive()
    assert (error.code, error.seq) == (wire.ERROR_STALE, 5)
    p.send(wire.encode_ping(1))
    assert isinstance(p.receive(), wire.Pong)


def test_two_models_are_kept(swap_path, start_node, small_bundle, other_bundle):
    node = start_node(swap_path)
    p = Peer(node.address)
    slots = {small_bundle.grid.model_id: p.model.slot}
    for bundle in (other_bundle, small_bundle, other_bundle):
        save_bundle(bundle, swap_path)
        node.signal(signal.SIGHUP)
        model = p.receive()
        assert model.model_id == bundle.grid.model_id
        slots[bundle.grid.model_id] = model.slot
    rows = random_rows(1, 5)
    for bundle in (small_bundle, other_bundle):
        cells = make_request(1, bundle, rows).cells
        p.send(wire.encode_classify(1, slots[bundle.grid.model_id], cells))
        assert p.receive().probabilities.tobytes() == reference(bundle, rows).tobytes()
    p.send(wire.encode_classify(2, 0, make_request(1, small_bundle, rows).cells))
    assert p.receive().code == wire.ERROR_STALE  # slot 0 was two models ago
    p.close()


def test_a_bad_bundle_keeps_the_old_model(swap_path, start_node, small_bundle):
    node = start_node(swap_path)
    (swap_path / "card.json").write_text("{}")
    node.signal(signal.SIGHUP)
    node.wait_for("the old model stays")
    assert node.log().count("\n") == 1
    with RemoteClassifier.connect([node.address]) as classifier:
        assert classifier.grid.model_id == small_bundle.grid.model_id


def test_ends_in_good_order_with_gateways_connected(start_node, small_bundle):
    node = start_node()
    p = Peer(node.address)
    p.send(wire.encode_ping(1))
    assert isinstance(p.receive(), wire.Pong)
    assert node.stop() == 0
    assert isinstance(p.receive(), wire.Bye)
    assert p.receive() is None
    p.close()


# ------------------------------------------------------------------------- stopped and greedy


def test_a_stopped_gateway_delays_nobody(start_node, load):
    node = start_node()
    gateways = [load(node, 64) for _ in range(3)]
    gateways[0].send_signal(signal.SIGSTOP)
    for gateway in gateways[1:]:
        assert gateway.stdout.readline() == "enough\n"
        answers = result(gateway)
        assert answers["wrong"] == 0
        assert statistics.median(answers["latencies"]) < 1.0
    gateways[0].send_signal(signal.SIGCONT)
    assert result(gateways[0])["wrong"] == 0


@pytest.mark.nightly
def test_p99_beside_a_stopped_gateway_within_a_tenth(start_node, load):
    """p99 of two gateways, in turns without and beside a third that was stopped while it asked."""
    node = start_node()
    pair = [load(node, 64, 0.002) for _ in range(2)]
    spans = {False: [], True: []}
    for _ in range(20):
        third = load(node, 64)
        third.send_signal(signal.SIGSTOP)
        for stopped in (True, False):
            time.sleep(0.2)
            began = time.monotonic()
            time.sleep(1.5)
            spans[stopped].append((began, time.monotonic()))
            third.kill()
    asked, took = [], []
    for answers in map(result, pair):
        assert answers["wrong"] == 0
        asked += answers["asked"]
        took += answers["latencies"]

    def figures(span):
        began, ended = span
        inside = [t for a, t in zip(asked, took, strict=True) if began <= a < ended]
        return statistics.median(inside), p99(inside), len(inside)

    # Turn by turn, so that a moment in which the machine is busy elsewhere spoils one pair only.
    turns = {stopped: [figures(span) for span in times] for stopped, times in spans.items()}
    for stopped, beside in ((False, "without"), (True, "beside a stopped one")):
        middle, high, _ = (statistics.median(turn[i] for turn in turns[stopped]) for i in range(3))
        n = sum(turn[2] for turn in turns[stopped])
        print(f"{beside}: medians of 20 turns, p50 {middle * 1e6:.0f} us, p99 {high * 1e6:.0f} us")
        print(f"  of {n} requests")
    pairs = zip(turns[True], turns[False], strict=True)
    ratio = statistics.median(beside[1] / without[1] for beside, without in pairs)
    print(f"p99 beside / without, median of 20 pairs: {ratio:.3f}")
    assert ratio <= 1.1


def test_a_gateway_that_never_reads_costs_bounded_memory(start_node, small_bundle):
    node = start_node()
    greedy = Peer(node.address)
    greedy.socket.settimeout(0.5)
    cells = make_request(1, small_bundle, random_rows(1, 1024)).cells
    message = wire.encode_classify(1, greedy.model.slot, cells)
    before = node.resident_bytes()
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 256 << 20:
            sent += greedy.socket.send(message)
    assert sent < 256 << 20  # the node has stopped reading
    assert node.resident_bytes() - before < 16 << 20
    with RemoteClassifier.connect([node.address], PATIENT) as classifier:
        for seq in range(1, 51):
            classifier.submit(make_request(seq, small_bundle, random_rows(1, 10)))
            assert collect(classifier, 1)[seq].status is AnswerStatus.ANSWERED
    greedy.close()


def test_a_greedy_gateway_takes_only_its_turns(peer, small_bundle, plain_node):
    greedy = peer()
    large = make_request(1, small_bundle, random_rows(1, 1024)).cells
    burst = b"".join(wire.encode_classify(i, greedy.model.slot, large) for i in range(1, 31))
    greedy.send(burst)
    modest = peer()
    modest.send(wire.encode_classify(1, modest.model.slot, large[:1].copy()))
    assert isinstance(modest.receive(), wire.Verdicts)
    assert [greedy.receive().seq for _ in range(30)] == list(range(1, 31))


# ------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        bytes(100),
        b"\xd5\x01\x04\xff\xff\xff",
    ],
    ids=["http", "tls", "zeros", "too long"],
)
@pytest.mark.parametrize("hello", [False, True])
def test_garbage(peer, garbage, hello):
    p = peer(hello=hello)
    p.send(garbage)
    p.expect_refusal(wire.ERROR_PROTOCOL)


def test_random_garbage_leaves_the_node_alone(plain_node, peer, small_bundle):
    random = np.random.default_rng(1)
    for i in range(100):
        hostile = Peer(plain_node.address, hello=i % 2 == 1)
        head = bytes([wire.MAGIC, wire.VERSION]) if i % 3 else b""
        with contextlib.suppress(OSError):
            hostile.send(head + random.bytes(int(random.integers(1, 500))))
        hostile.close()
    p = peer()
    p.send(wire.encode_ping(1))
    assert isinstance(p.receive(), wire.Pong)
    assert plain_node.process.poll() is None
    assert "Traceback" not in plain_node.log()


def test_version_mismatch(peer):
    p = peer(hello=False)
    p.send(wire.encode_hello("g", SCHEMA_HASH, min_version=2, max_version=9))
    p.expect_refusal(wire.ERROR_VERSION)


def test_schema_mismatch(peer):
    p = peer(hello=False)
    p.send(wire.encode_hello("g", b"x" * 32))
    p.expect_refusal(wire.ERROR_SCHEMA)


def test_messages_at_the_wrong_time(peer, small_bundle):
    p = peer(hello=False)
    p.send(wire.encode_ping(1))
    p.expect_refusal(wire.ERROR_PROTOCOL)
    p = peer()
    p.send(wire.encode_hello("g", SCHEMA_HASH))
    p.expect_refusal(wire.ERROR_PROTOCOL)


def test_cells_that_are_not_of_the_model(peer):
    p = peer()
    p.send(wire.encode_classify(1, p.model.slot, np.zeros((2, 3), np.uint8)))
    p.expect_refusal(wire.ERROR_PROTOCOL)


def test_more_rows_than_allowed(peer, small_bundle):
    p = peer()
    cells = make_request(1, small_bundle, random_rows(1, 1025)).cells
    p.send(wire.encode_classify(1, p.model.slot, cells))
    p.expect_refusal(wire.ERROR_PROTOCOL)


QUICK_NODE = """
import asyncio, sys
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.connection import ServiceOptions
from ids_appliance.classify.service import ClassifierService
async def main():
    handshake_s, idle_s = map(float, sys.argv[2:])
    options = ServiceOptions(
        max_connections=4, handshake_timeout_s=handshake_s, idle_timeout_s=idle_s
    )
    service = ClassifierService(load_bundle(sys.argv[1]), options)
    print((await service.listen("127.0.0.1", 0))[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await service.close()
asyncio.run(main())
"""


def node_of_four(bundle_path, handshake_s, idle_s):
    """Address of a node with four connections."""
    node = subprocess.Popen(
        [sys.executable, "-c", QUICK_NODE, str(bundle_path), str(handshake_s), str(idle_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield "127.0.0.1", int(node.stdout.readline())
    node.communicate("\n", timeout=60)
    assert node.returncode == 0


@pytest.fixture
def impatient(bundle_path):
    """Its timeouts are short."""
    yield from node_of_four(bundle_path, 0.5, 1.0)


@pytest.fixture
def crowded(bundle_path):
    """Its timeouts do not matter."""
    yield from node_of_four(bundle_path, 600.0, 600.0)


def test_slow_loris(impatient):
    slow = Peer(impatient, hello=False)
    slow.socket.settimeout(0.1)
    hello = wire.encode_hello("s" * 64, SCHEMA_HASH)
    for byte in hello[:-1]:  # one every 100 ms: HELLO would take ten seconds
        with contextlib.suppress(OSError):
            slow.send(bytes([byte]))
        try:
            slow.inbox += slow.decoder.feed(slow.socket.recv(4096) or b"")
            break
        except TimeoutError:
            continue
    assert slow.inbox[0].code == wire.ERROR_TIMEOUT
    slow.close()


def test_half_a_message_is_no_sign_of_life(impatient, small_bundle):
    p = Peer(impatient)
    p.send(wire.encode_classify(1, p.model.slot, np.zeros((9, 20), np.uint8))[:50])
    p.expect_refusal(wire.ERROR_TIMEOUT)
    p.close()


def test_connection_cap_and_who_goes_first(crowded):
    known = [Peer(crowded) for _ in range(3)]
    silent = Peer(crowded, hello=False)
    fourth = Peer(crowded)  # takes the place of the one that has not said HELLO
    assert silent.receive() is None
    fifth = socket.create_connection(crowded, timeout=60)
    with contextlib.suppress(ConnectionResetError):
        assert fifth.recv(1) == b""
    for p in (*known, fourth):
        p.send(wire.encode_ping(1))
        assert isinstance(p.receive(), wire.Pong)
        p.close()
    silent.close()
    fifth.close()


def test_a_flood_of_connections_keeps_to_the_cap(small_bundle):
    """A hundred that wait to be accepted are not taken in all at once."""

    async def flood():
        options = ServiceOptions(max_connections=4)
        service = ClassifierService(small_bundle, options)
        (address,) = await service.listen("127.0.0.1", 0)
        peers = [socket.create_connection(address) for _ in range(100)]
        before = len(os.listdir("/proc/self/fd"))
        most = 0
        while service.counts["accepted"] < len(peers):
            await asyncio.sleep(0)
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
        for peer in peers:
            peer.close()
        await service.close()
        return most

    assert asyncio.run(flood()) <= 8


# ------------------------------------------------------------------------------------ command


def refuse_to_start(*arguments):
    """Run the command; return its one line of complaint."""
    done = subprocess.run(
        [sys.executable, "-c", START, "classifier", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_what_keeps_the_command_from_starting(plain_node, bundle_path, tmp_path):
    port = plain_node.address[1]
    model = ("--model", bundle_path)
    plain = ("--plaintext",)
    assert "in use" in refuse_to_start("--listen", f"127.0.0.1:{port}", *model, *plain)
    for address in ("nonsense", "127.0.0.1:99999", "::1:80", ":80", "h:" + 5000 * "9"):
        assert "not an address" in refuse_to_start("--listen", address, *model, *plain)
    assert "cannot listen" in refuse_to_start("--listen", "192.0.2.1:80", *model, *plain)
    here = ("--listen", "127.0.0.1:0")
    assert "--plaintext" in refuse_to_start(*here, *model)
    nothing = ("--model", tmp_path / "nothing")
    assert "cannot open the model bundle" in refuse_to_start(*here, *nothing, *plain)


def test_ipv6_and_interrupt(bundle_path, tmp_path):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    node = NodeProcess(bundle_path, tmp_path / "log", listen="[::1]:0")
    assert f"[::1]:{node.address[1]}" in node.line
    with RemoteClassifier.connect([node.address]) as classifier:
        assert classifier.grid.features
    node.signal(signal.SIGINT)
    assert node.process.wait(60) == 0
    node.close()


def test_signals_while_it_starts(bundle_path):
    """A reload that comes too early is no reason to die; an end that comes too early is one."""
    start = "import os, signal, sys; sys.argv[1:] = ['classifier', '--listen', '127.0.0.1:0', "
    start += f"'--model', {str(bundle_path)!r}, '--plaintext']\n"
    early = """
import ids_appliance.cli.classifier as command
load = command.load_bundle
def load_bundle(path):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    return load(path)
command.load_bundle = load_bundle
from ids_appliance.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", start + early], capture_output=True, timeout=120)
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stderr
