"""Active time is what lies between a sender's frames, silence of more than a minute left out."""

import numpy as np

from ids_appliance.gateway.replay import PAUSE_NS, _active
from tests.capture.build import pcap_header, pcap_record
from tests.ext import frames as f
from tests.gateway.test_replay import changed, run

S, MS = 10**9, 10**6


def test_between_the_frames_of_each_sender_but_not_over_a_pause():
    times = np.array([0, 5, 7, 7 + PAUSE_NS, 8 + 2 * PAUSE_NS, 9, 12], np.uint64)
    whose = np.array([0, 0, 0, 0, 0, 1, 1])
    active, first, last = _active(times, whose, 2)
    # PAUSE_NS itself still counts; one nanosecond more does not.
    assert active.tolist() == [7 + PAUSE_NS, 3]
    assert first.tolist() == [0, 9] and last.tolist() == [8 + 2 * PAUSE_NS, 12]


def test_frames_out_of_order_and_senders_interleaved_change_nothing():
    times, whose = np.array([30, 0, 11, 20, 10]), np.array([0, 0, 1, 0, 1])
    active, first, last = _active(times, whose, 2)
    assert (active.tolist(), first.tolist(), last.tolist()) == ([30, 1], [0, 10], [30, 11])


def test_in_a_replay_from_batch_to_batch(tmp_path):
    def sent(at_ms, mac, address):
        frame = f.ethernet(f.ipv4(f.udp(b"hello"), f.UDP, source=address))
        frame = frame[:6] + mac + frame[12:]
        return pcap_record(frame, at=(1000 + at_ms // 1000, at_ms % 1000 * 1000))

    # Frames of one batch (5 ms), a pause that counts (60 s), one that does not (60.995 s).
    often = [sent(at, b"\2\0\0\0\0\x0a", bytes([192, 0, 2, 1])) for at in (0, 5, 60_005)]
    again = [sent(at, b"\2\0\0\0\0\x0a", bytes([192, 0, 2, 1])) for at in (121_000, 121_001)]
    once = [sent(90_000, b"\2\0\0\0\0\x0b", bytes([192, 0, 2, 2]))]
    capture = tmp_path / "pauses.pcap"
    capture.write_bytes(pcap_header() + b"".join(often + once + again))
    replayed = run(changed("trigger", kind="manual"), capture=capture)
    active = sorted(one.active_ns for one in replayed.senders.values())
    assert active == [0, 60 * S + 6 * MS]
