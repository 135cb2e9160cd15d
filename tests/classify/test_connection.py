"""The node's end of one connection, without a socket: what one read may cost."""

import numpy as np
import pytest

from ids_appliance import _wire as wire
from ids_appliance.classify.connection import BinaryConnection, ServiceOptions, State
from ids_appliance.schema import SCHEMA_HASH

READ = 256 << 10
"""What asyncio reads at a time."""


class Wires:
    """Stands for asyncio's transport."""

    def __init__(self):
        self.sent = []
        self.reading = True
        self.closed = False

    def set_write_buffer_limits(self, high):
        pass

    def get_extra_info(self, name):
        return None

    def write(self, data):
        self.sent.append(data)

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def close(self):
        self.closed = True


class Turns:
    """Stands for the service: keeps who waits for a turn."""

    revoked = frozenset()

    def __init__(self, bundle):
        self.options = ServiceOptions()
        self.counts = dict.fromkeys(
            ("requests", "rows", "bytes_sent", "bytes_received", "malformed", "refused"), 0
        )
        self.bundle = bundle
        self.waiting = []
        self.clock = 0.0

    def now(self):
        return self.clock

    def current(self):
        return 0, self.bundle

    def model(self, slot):
        return self.bundle

    def note(self, line):
        pass

    def enqueue(self, connection):
        if connection not in self.waiting:
            self.waiting.append(connection)

    def joined(self, connection):
        pass

    def left(self, connection):
        pass

    def connections_of(self, name):
        return 1


@pytest.fixture
def served(small_bundle):
    """A connection that has said HELLO; its service and its transport."""
    node, wires = Turns(small_bundle), Wires()
    connection = BinaryConnection(node)
    connection.connection_made(wires)
    connection.data_received(wire.encode_hello("g", SCHEMA_HASH))
    wires.sent.clear()
    return connection, node, wires


def take_turns(connection, node):
    """Serve until there is nothing left; return the messages written in each turn."""
    written = []
    while node.waiting:
        before = len(connection._transport.sent)
        connection.turn()
        written.append(len(connection._transport.sent) - before)
        if not connection.ready:
            node.waiting.clear()
    return written


def test_pings_keep_a_connection_and_half_a_message_does_not(served):
    connection, node, _ = served
    for node.clock in (50.0, 100.0):
        connection.data_received(wire.encode_ping(1))
        assert connection.deadline == node.clock + node.options.idle_timeout_s
    node.clock = 150.0
    connection.data_received(wire.encode_ping(1)[:-1])
    assert connection.deadline == 100.0 + node.options.idle_timeout_s


def test_a_read_full_of_pings_is_answered_in_turns(served):
    """Else one gateway's PINGs would hold up all others: each PONG is a call of the kernel's."""
    connection, node, wires = served
    ping = wire.encode_ping(1)
    n = READ // len(ping)
    connection.data_received(ping * n)
    most = node.options.max_in_flight
    assert len(wires.sent) <= most
    assert not wires.reading
    assert max(take_turns(connection, node)) <= most
    assert len(wires.sent) == n
    assert wires.reading


def test_no_more_requests_wait_than_welcome_said(served, small_bundle):
    connection, node, wires = served
    cells = np.zeros((1, small_bundle.forest.key_bytes), np.uint8)
    ask = wire.encode_classify(1, 0, cells)
    n = READ // len(ask)
    connection.data_received(ask * n + ask[:3])
    longest = 0
    while connection.ready:
        longest = max(longest, len(connection.queue))
        connection.turn()
    assert longest <= node.options.max_in_flight
    assert len(wires.sent) == n
    assert wires.reading
    connection.data_received(ask[3:])
    assert len(connection.queue) == 1


def test_what_arrives_while_requests_wait_is_kept_in_order(served, small_bundle):
    """TLS hands over what it has decrypted after reading was paused."""
    connection, _, wires = served
    cells = np.zeros((1, small_bundle.forest.key_bytes), np.uint8)
    stream = b"".join(wire.encode_classify(seq, 0, cells) for seq in range(1, 101))
    for at in range(0, len(stream), 1000):
        connection.data_received(stream[at : at + 1000])
    while connection.ready:
        connection.turn()
    decoder = wire.Decoder(True, widths=(16,) * 60)
    assert [m.seq for m in decoder.feed(b"".join(wires.sent))] == list(range(1, 101))


def test_garbage_behind_requests_ends_it(served, small_bundle):
    connection, node, wires = served
    ask = wire.encode_ping(1)
    connection.data_received(ask * 40 + b"garbage")
    take_turns(connection, node)
    assert wires.closed and connection.state is State.CLOSING
    assert node.counts["malformed"] == 1
