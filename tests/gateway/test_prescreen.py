"""Who prescreens: our screen, or Zeek with our screen behind it, as the gate hears them."""

import ipaddress
import json
from pathlib import Path

import numpy as np
import pytest

from ids_appliance.config import Config, Slow, Trigger, Window, Zeek
from ids_appliance.gateway.prescreen import Prescreen, beyond
from ids_appliance.trigger.gate import ScrutinyGate
from ids_appliance.trigger.losses import Losses
from ids_appliance.trigger.window import Window as ScrutinyWindow
from ids_appliance.types import SENDER, FrameBatch, TriggerEvent
from tests.ext.screening import IDENTITY, batch
from tests.trigger.zeek_cases import MAC, SCANNED, START_S, cases

S = 1_000_000_000
SCAN = next(case for case in cases() if case.name == "scan-refused")
NETWORKS = (("lan0", bytes([192, 0, 2, 254]), 24),)


class Live:
    """A gate with a clock, a log that somebody writes, and what was told."""

    def __init__(self, log: Path, kind: str = "zeek") -> None:
        self.log = log
        log.write_bytes(b"")
        self.now_ns = 0
        self.health: list[str] = []
        self.events: list[TriggerEvent] = []
        config = Config(
            interfaces=("lan0",),
            trigger=Trigger(kind=kind, slow_scan=Slow(enabled=False)),  # type: ignore[arg-type]
            zeek=Zeek(log=str(log), silence_s=5.0),
        )
        self.prescreen = Prescreen(
            config,
            wall_ns=lambda: START_S * S + self.now_ns,
            networks=lambda: NETWORKS,
            lost=lambda: 0,
            on_change=lambda state, line: self.health.append(state),
        )
        self.window = ScrutinyWindow(Window())
        self.gate = ScrutinyGate(
            self.prescreen.speaking,
            self.window,
            triggers=self.prescreen.triggers,
            clock=lambda: self.now_ns,
            on_events=self.events.extend,
        )
        self.gate.tick(0)

    def play(self, *, at_s: float) -> None:
        """Let the scan come by."""
        self.now_ns = round(at_s * S)
        data, table = batch(SCAN.frames)
        table["timestamp_ns"] += self.now_ns
        self.gate.admit(FrameBatch(data, table), IDENTITY)

    def wait(self, seconds: float, **line: object) -> None:
        """Let time pass, a second at a time; Zeek signs at each if there is a `line`."""
        for _ in range(round(seconds)):
            self.now_ns += S
            if line:
                self.write(kind="alive", **line)
            self.gate.expire(self.now_ns)

    def write(self, **fields: object) -> None:
        line = {"ts": START_S + self.now_ns / S, "kind": "trigger"} | fields
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def live(tmp_path: Path):
    live = Live(tmp_path / "trigger.log")
    yield live
    live.prescreen.close()


def test_zeek_opens_the_window_and_names_by_what_our_screen_knows(live: Live) -> None:
    live.wait(1, packets=1)
    live.play(at_s=2)
    assert live.events == [] and live.window.record is None
    live.write(rule="port_scan", key="192.0.2.1 -> 203.0.113.9", orig="192.0.2.1")
    live.wait(1, packets=50)
    (event,) = live.events
    assert event.rule == "port_scan" and event.sender is not None
    assert np.frombuffer(event.sender, SENDER)[0]["mac"].tobytes() == MAC
    assert live.window.record is not None and live.health == ["up"]


def test_without_zeek_our_rules_open_it(live: Live) -> None:
    live.play(at_s=1)
    assert [event.key for event in live.events] == [SCANNED]
    live.wait(6)
    assert live.health == ["down"]


def test_when_zeek_dies_nothing_is_lost(live: Live) -> None:
    live.wait(1, packets=1)
    live.play(at_s=2)
    assert live.events == []
    live.wait(8)
    assert [event.key for event in live.events] == [SCANNED]
    assert live.health == ["up", "down"]
    live.wait(2, packets=9)
    live.play(at_s=13)
    assert len(live.events) == 1 and live.health == ["up", "down", "up"]


def test_a_mirror_that_is_gone_is_noticed(live: Live) -> None:
    live.wait(2, packets=7)
    live.play(at_s=3)
    live.wait(8, packets=7)
    assert [event.key for event in live.events] == [SCANNED]
    assert live.health == ["up", "blind"] and live.prescreen.speaking.counters()["standin_blind"]


def test_while_packets_are_lost_our_rules_count_answers(live: Live) -> None:
    live.wait(1, packets=7, lost=1, resting=True)
    live.play(at_s=2)
    assert [event.key for event in live.events] == [SCANNED] and live.health == ["up", "resting"]


def test_other_kinds_have_our_screen_alone(tmp_path: Path) -> None:
    embedded = Live(tmp_path / "a", "embedded").prescreen
    assert embedded.speaking is embedded.screen and embedded.counts
    (losses,) = embedded.triggers
    assert isinstance(losses, Losses)
    assert embedded.counters() == {} and not Live(tmp_path / "b", "manual").prescreen.counts


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:ff::1:2", "2001:db8:ff::"),
        ("192.0.2.77", None),
    ],
)
def test_who_is_beyond_us_and_who_is_not(live: Live, address: str, named: str | None) -> None:
    live.wait(1, packets=1)
    live.write(rule="port_scan", key="k", orig=address)
    live.wait(1, packets=2)
    (event,) = live.events
    expected = ipaddress.ip_address(named).packed if named else None
    assert event.sender == (beyond(expected) if expected else None)
