"""A mirror port: frames for whomever are judged, our own are known by any of our MACs."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest

from ids_appliance import assemble
from ids_appliance._features import COUNTER_NAMES, extract
from ids_appliance.capture.interfaces import identity
from ids_appliance.capture.ring import RingOptions
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import SENDER, Direction, FrameBatch, Outcome
from tests.net.namespaces import Network, require
from tests.net.packets import TCP, ethernet, read_until, tcp

pytestmark = pytest.mark.net

STRANGER, OTHER = bytes.fromhex("020000000055"), bytes.fromhex("020000000066")


@pytest.fixture
def net() -> Iterator[Network]:
    require()
    with Network("tp", "gw", "sw") as made:
        made.veth(("gw", "tap0"), ("sw", "pm"))
        made.veth(("gw", "own0"), ("sw", "p1"))
        made.ip("gw", "addr add 192.0.2.1/24 dev own0")
        yield made


def segment(source: str, target: str) -> bytes:
    body = tcp((4000, 80), 2)
    head = bytes([0x45, 0, 0, 20 + len(body), 0, 0, 0, 0, 64, TCP, 0, 0])
    return head + socket.inet_aton(source) + socket.inet_aton(target) + body


@pytest.mark.parametrize("tap", [True, False])
def test_what_is_ours_on_a_mirror_is_own(net: Network, tap: bool) -> None:
    ours = net.mac("gw", "own0")
    frames = {
        "ours": ethernet(segment("192.0.2.1", "192.0.2.9"), OTHER, ours),
        "to us": ethernet(segment("192.0.2.9", "192.0.2.1"), ours, STRANGER),
        "between": ethernet(segment("192.0.2.9", "192.0.2.8"), OTHER, STRANGER),
    }
    taps = ("tap0",) if tap else ()
    found: dict[str, tuple[int, int]] = {}
    with net.inside("gw"), net.packet_socket("sw", "pm") as out:
        live = assemble.live(("tap0",), RingOptions(blocks=2, taps=taps))
        try:
            host = live.host()

            def take(batch: FrameBatch) -> None:
                rows = np.zeros((len(batch.frames), N_FEATURES), np.uint16)
                senders = np.zeros(len(batch.frames), SENDER)
                outcomes = np.zeros(len(batch.frames), np.uint8)
                counters = np.zeros(len(COUNTER_NAMES), np.uint64)
                extract(batch.data, batch.frames, host, rows, senders, outcomes, counters)
                for frame, outcome in zip(batch.frames, outcomes, strict=True):
                    at = int(frame["offset"])
                    data = batch.data[at : at + int(frame["caplen"])].tobytes()
                    for name, sent in frames.items():
                        if data == sent:
                            found[name] = int(outcome), int(frame["direction"])

            for frame in frames.values():
                out.send(frame)
            read_until(live.source.batches(), take, lambda: len(found) == 3)
        finally:
            live.source.close()
    kinds = {name: outcome for name, (outcome, _) in found.items()}
    directions = {direction for _, direction in found.values()}
    judged = kinds["to us"], kinds["between"]
    assert judged == (kinds["between"],) * 2 != (Outcome.OWN,) * 2
    if tap:
        assert kinds["ours"] == Outcome.OWN and directions == {Direction.UNKNOWN}
    else:  # at a port of ours it would be somebody who forges our MAC
        assert kinds["ours"] != Outcome.OWN and Direction.UNKNOWN not in directions


def test_on_a_mirror_all_our_macs_are_ours(net: Network) -> None:
    with net.inside("gw"):
        own = net.mac("gw", "own0")
        assert own in identity(("tap0",), taps=("tap0",)).macs
        assert own not in identity(("tap0",)).macs
        assert identity(("own0",), taps=("tap0",)) == identity(("own0",))
