"""Lines as Zeek writes them become events; others become counters; silence is noticed."""

import json
from pathlib import Path

import numpy as np
import pytest

from ids_appliance import config
from ids_appliance.trigger.zeek import LOOK_NS, MAX_DETAIL, MAX_TOLD, ZeekTrigger, flood
from ids_appliance.types import SENDER

S = 1_000_000_000
NOON_S = 1_767_268_800
CAMERA = bytes.fromhex("020000007766")
KNOWN = bytes(6) + CAMERA + bytes(16)
BEYOND = b"beyond".ljust(28, b"\0")


class Names:
    """A screen that knows one device."""

    def __init__(self) -> None:
        self.told: bytes | None = None

    def sender(self, mac: bytes, address: bytes) -> bytes | None:
        if mac:
            return KNOWN if mac == CAMERA else None
        return BEYOND if address else None

    def named(self, rule: str, key: str) -> bytes | None:
        return self.told


class Zeek:
    """A log, a clock, and what has been told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_bytes(b"")
        self.now_ns = 1000 * S
        self.changes: list[str] = []
        self.names = Names()
        self.trigger = ZeekTrigger(
            config.Zeek(log=str(path), silence_s=5.0),
            names=self.names,
            wall_ns=lambda: self.now_ns + (NOON_S - 1000) * S,
            on_change=lambda state, line: self.changes.append(state),
        )
        self.poll()

    def poll(self, *, after_s: float = 0.1):
        self.now_ns += round(after_s * S)
        return list(self.trigger.poll(self.now_ns))

    def write(self, *lines: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))

    def line(self, **fields: object) -> bytes:
        wall_s = self.now_ns / S + NOON_S - 1000
        return json.dumps({"ts": wall_s, "kind": "trigger"} | fields).encode()

    def alive(self, packets: int = 0, **fields: object) -> None:
        self.write(self.line(kind="alive", packets=packets, **fields))


@pytest.fixture
def zeek(tmp_path: Path):
    zeek = Zeek(tmp_path / "trigger.log")
    yield zeek
    zeek.trigger.close()


SCAN = {
    "rule": "port_scan",
    "key": "02:00:00:00:77:66 -> 192.0.2.9",
    "orig": "192.0.2.66",
    "mac": "02:00:00:00:77:66",
    "resp": "192.0.2.9",
    "detail": "20 ports of 192.0.2.9 in 0.4 s, 20 failed",
}


def test_a_line_becomes_an_event(zeek: Zeek) -> None:
    zeek.write(zeek.line(**SCAN))
    (event,) = zeek.poll()
    assert (event.rule, event.key, event.sender) == (SCAN["rule"], SCAN["key"], KNOWN)
    assert event.detail == "Zeek: " + SCAN["detail"] and not event.decisive and event.frame == 0
    assert abs(event.timestamp_ns - (NOON_S + 0) * S) < 2 * S
    assert zeek.poll() == [] and zeek.trigger.counters()["zeek_events"] == 1


def test_who_is_named(zeek: Zeek) -> None:
    victim = {"rule": "dos", "key": "192.0.2.9:80", "resp": "192.0.2.9", "resp_p": 80}
    zeek.write(
        zeek.line(**victim),
        zeek.line(**victim | {"orig": "198.51.100.7"}),
        zeek.line(**SCAN | {"mac": "02:00:00:00:00:99"}),
        zeek.line(rule="arp_spoof", key="192.0.2.1", resp="192.0.2.1"),
    )
    events = zeek.poll()
    assert [event.sender for event in events] == [
        flood(bytes([192, 0, 2, 9]), 80), BEYOND, None, None,
    ]  # fmt: skip
    # What our own screen sees behind many forged addresses wins over "nobody".
    zeek.names.told = KNOWN
    zeek.write(zeek.line(**victim))
    assert [event.sender for event in zeek.poll()] == [KNOWN]


def test_the_record_of_a_flood() -> None:
    record = np.frombuffer(flood(bytes([192, 0, 2, 9]), 8080), SENDER)[0]
    assert (record["ifindex"], record["side"], record["family"]) == (8080, 2, 4)
    assert record["address"].tobytes()[:5] == bytes([192, 0, 2, 9, 0])
    assert np.frombuffer(flood(bytes(15) + b"\1", 1), SENDER)[0]["family"] == 6


def test_decisive_only_where_arp_contradicts_itself(zeek: Zeek) -> None:
    zeek.write(
        zeek.line(**SCAN, decisive=True),
        zeek.line(rule="arp_spoof", key="192.0.2.1", mac="02:00:00:00:77:66", decisive=True),
        zeek.line(rule="arp_spoof", key="192.0.2.2", decisive=True),
    )
    assert [event.decisive for event in zeek.poll()] == [False, True, False]


HOSTILE = [
    b"{", b"null", b"[]", b"\xff\xfe", b'{"ts":1}', b'{"ts":"now","kind":"trigger"}',
    b'{"ts":NaN,"kind":"trigger"}', b'{"ts":1e999,"kind":"alive"}',
    b'{"ts":-1,"kind":"alive"}', b"{" * 3000, b'{"ts":1,"kind":"stop"}', b"\0" * 100,
]  # fmt: skip


def test_hostile_lines_cost_a_counter(zeek: Zeek) -> None:
    bad = [
        {"rule": "reboot", "key": "x"},
        {"rule": "dos"},
        {"rule": "dos", "key": ""},
        {"rule": "dos", "key": "x" * 300},
        {"rule": "dos", "key": "x", "resp_p": 65_536},
        {"rule": "dos", "key": "x", "packets": -1},
        {"kind": "alive", "packets": 2**63},
        {"kind": "alive", "lost": 10**3000},
        {"rule": "dos", "key": 7},
    ]
    lines = HOSTILE + [zeek.line(**fields) for fields in bad]
    zeek.write(*lines)
    assert zeek.poll() == []
    assert zeek.trigger.counters()["zeek_malformed"] == len(lines)
    zeek.write(
        zeek.line(rule="dos", key="\x1b[2J\u202ea:80", resp="?", resp_p=80, detail="\x00" * 256)
    )
    (event,) = zeek.poll()
    assert event.key == "?[2J?a:80" and event.sender is None
    assert event.detail == ("Zeek: " + "?" * 256)[:MAX_DETAIL]


def test_old_and_future_lines_are_no_news(zeek: Zeek) -> None:
    wall_s = zeek.now_ns / S + NOON_S - 1000
    zeek.write(*(zeek.line(**SCAN, ts=wall_s + off) for off in (-60, -11, 11, 3600)))
    assert zeek.poll() == [] and not zeek.trigger.alive
    assert zeek.trigger.counters()["zeek_stale"] == 4


def test_silence_is_told_once_and_its_end(zeek: Zeek) -> None:
    assert not zeek.trigger.alive and zeek.changes == []
    zeek.alive()
    zeek.poll()
    assert zeek.trigger.alive and zeek.changes == ["up"]
    for _ in range(4):
        zeek.poll(after_s=1.2)
    assert zeek.trigger.alive
    zeek.poll(after_s=1.2)
    zeek.poll(after_s=60)
    assert not zeek.trigger.alive and zeek.changes == ["up", "down"]
    assert zeek.trigger.counters()["zeek_gone"] == 1
    zeek.write(zeek.line(**SCAN))
    assert len(zeek.poll()) == 1 and zeek.changes == ["up", "down", "up"]


def test_never_there_is_told_too(zeek: Zeek) -> None:
    zeek.poll(after_s=5.1)
    assert zeek.changes == ["down"]


def test_rest_is_told(zeek: Zeek) -> None:
    zeek.alive(packets=10, lost=0)
    zeek.alive(packets=20, lost=3, resting=True)
    zeek.poll()
    assert zeek.trigger.resting and zeek.changes == ["up", "resting"]
    assert zeek.trigger.counters() | {"zeek_packets": 20, "zeek_lost": 3} == (
        zeek.trigger.counters()
    )
    zeek.alive(packets=30)
    zeek.poll(after_s=1.0)
    assert not zeek.trigger.resting and zeek.changes == ["up", "resting", "up"]


def test_a_rest_that_flickers_is_a_rest(zeek: Zeek) -> None:
    for _ in range(30):
        zeek.alive(resting=True)
        zeek.alive()
        zeek.poll()
    assert zeek.trigger.resting and zeek.changes == ["up", "resting"]


def test_more_triggers_than_zeek_would_write_cost_a_counter(zeek: Zeek) -> None:
    def told(n: int) -> list[str]:
        zeek.write(*(zeek.line(rule="mirai", key=f"{i}") for i in range(n)))
        return [event.rule for event in zeek.poll()]

    assert told(MAX_TOLD - 1) == ["mirai"] * (MAX_TOLD - 1)
    # Nothing is passed over without a word.
    assert told(50) == ["mirai", "overflow"] and told(50) == []
    assert zeek.trigger.counters()["zeek_excess"] == 99
    zeek.poll(after_s=1.0)
    assert told(3) == ["mirai"] * 3


def test_it_counts_as_seeing_only_while_packets_come(zeek: Zeek) -> None:
    zeek.alive(packets=10)
    zeek.poll()
    heard = zeek.trigger.heard
    zeek.alive(packets=10)
    zeek.poll()
    assert zeek.trigger.heard == heard
    zeek.alive(packets=11)
    zeek.write(zeek.line(**SCAN))
    zeek.poll()
    assert zeek.trigger.heard == heard + 2


def test_it_does_not_look_at_every_batch(zeek: Zeek) -> None:
    zeek.write(zeek.line(**SCAN))
    assert zeek.poll(after_s=LOOK_NS / S / 2 - 0.001) == []
    assert len(zeek.poll(after_s=LOOK_NS / S)) == 1
