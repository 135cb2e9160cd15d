"""Totals per sender against a plain count, and the cap."""

import numpy as np

from ids_appliance.telemetry.senders import OTHERS, SenderTotals, sender_text
from ids_appliance.types import FRAME, SENDER, JudgedBatch, Outcome


def batch_of(senders, outcomes, verdicts):
    n = len(senders)
    records = np.zeros(n, SENDER)
    for i, (ifindex, side, family, mac, address) in enumerate(senders):
        records[i] = (ifindex, side, family, list(mac), list(address.ljust(16, b"\0")))
    frames = np.zeros(n, FRAME)
    frames["wirelen"] = 100
    outcomes = np.array(outcomes, np.uint8)
    probabilities = np.where(outcomes == Outcome.JUDGED, 0.25, np.nan)
    verdicts = np.array(verdicts, np.uint8)
    models = np.zeros(n, np.uint8)
    return JudgedBatch(
        frames,
        records,
        outcomes,
        probabilities,
        verdicts,
        models,
        np.zeros(len(frames), np.uint64),
        (b"m" * 16,),
    )


MAC = b"\2\0\0\0\0\1"
LAN6 = (3, 0, 6, MAC, bytes(15) + b"\1")
LAN4 = (3, 0, 4, MAC, b"\xc0\0\2\5")
WAN = (3, 1, 6, b"\2\0\0\0\0\2", b"\x20\x01\x0d\xb8" + bytes(11) + b"\1")
WAN_SAME_64 = (3, 1, 6, b"\2\0\0\0\0\2", b"\x20\x01\x0d\xb8" + bytes(11) + b"\2")


def test_a_device_is_one_sender_whatever_its_addresses():
    totals = SenderTotals()
    judged, own, unanswered = Outcome.JUDGED, Outcome.OWN, Outcome.UNANSWERED
    totals.take(
        batch_of(
            [LAN6, LAN4, LAN4, WAN, WAN_SAME_64],
            [judged, judged, unanswered, judged, own],
            [1, 0, 0, 1, 0],
        )
    )
    totals.take(batch_of([WAN_SAME_64], [judged], [0]))
    rows = totals.top(9)
    assert len(rows) == 2
    device = next(r for r in rows if r.packets == 3)
    assert (device.judged, device.malicious, device.bytes) == (2, 1, 300)
    assert device.probability_sum == 0.5 and device.share == 0.5
    assert sender_text(device.sender) == "02:00:00:00:00:01 192.0.2.5"
    beyond = next(r for r in rows if r.packets == 2)
    assert sender_text(beyond.sender) == "2001:db8::1"


def test_the_same_device_on_two_interfaces_is_two_senders():
    totals = SenderTotals()
    totals.take(batch_of([LAN4, (4, *LAN4[1:])], [Outcome.JUDGED] * 2, [0, 0]))
    assert len(totals.rows) == 2


def test_in_a_file_addresses_are_senders():
    totals = SenderTotals(by="address")
    arp_like = (0, 0, 0, MAC, b"")
    totals.take(batch_of([LAN4, LAN6, arp_like], [Outcome.JUDGED] * 3, [0, 0, 0]))
    assert sorted(sender_text(r.sender) for r in totals.top(9)) == [
        "02:00:00:00:00:01",
        "02:00:00:00:00:01 192.0.2.5",
        "02:00:00:00:00:01 ::1",
    ]


def test_the_table_never_grows_past_its_cap_and_loses_no_packet():
    totals = SenderTotals(max_senders=10)
    forged = [(1, 0, 4, bytes([2, 0, 0, 0, i // 256, i % 256]), b"\n\0\0\1") for i in range(1000)]
    for at in range(0, 1000, 100):
        totals.take(batch_of(forged[at : at + 100], [Outcome.JUDGED] * 100, [1] * 100))
    assert len(totals.rows) == 11
    assert sum(r.packets for r in totals.rows.values()) == 1000
    assert totals.rows[OTHERS].malicious == 990
    assert sender_text(totals.rows[OTHERS].sender) == "(others)"


def test_packets_that_are_nobodys_count_for_nobody():
    totals = SenderTotals()
    totals.take(batch_of([LAN4, LAN4], [Outcome.UNPARSABLE, Outcome.ECHO], [0, 0]))
    assert totals.rows == {}
