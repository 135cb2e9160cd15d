"""Our own rules behind Zeek: silent while it speaks, and nothing is lost when it does not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ids_appliance.trigger.standin import BLIND_NS, MAX_KEPT, StandIn
from ids_appliance.trigger.zeek import RULES
from ids_appliance.types import FRAME, TriggerEvent

S = 1_000_000_000
SENDER = b"sender".ljust(28, b"\0")


@dataclass
class Other:
    alive: bool = True
    resting: bool = False
    heard: int = 0


class Scripted:
    """A screen that fires what it is told to."""

    def __init__(self) -> None:
        self.next: list[Any] = []
        self.calls: list[str] = []

    def screen(self, *_: Any) -> list[Any]:
        fired, self.next = self.next, []
        return fired

    def expire(self, now_ns: int) -> list[Any]:
        return self.screen()

    def counters(self) -> dict[str, int]:
        return {"devices": 3}

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name) or []


class Scene:
    def __init__(self) -> None:
        self.other, self.behind, self.blind = Other(), Scripted(), list[bool]()
        self.standin = StandIn(self.behind, self.other, rules=RULES, on_blind=self.blind.append)

    def fire(
        self, *rules: str, at_s: float = 0, key: str = "k", decisive: bool = False
    ) -> list[tuple[str, int]]:
        self.behind.next = [
            (rule, key, round(at_s * S), 7, SENDER, "detail", decisive) for rule in rules
        ]
        frames = np.zeros(8, FRAME)
        frames["timestamp_ns"] = round(at_s * S)
        told = self.standin.screen(np.zeros(1, np.uint8), frames, b"", np.zeros(8, np.uint8))
        events = [one if isinstance(one, TriggerEvent) else TriggerEvent(*one) for one in told]
        return [(event.rule, event.frame) for event in events]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_zeek_speaks_for_its_four_rules_only(scene: Scene) -> None:
    assert scene.fire(*RULES, "overflow", "slow_scan") == [("overflow", 7), ("slow_scan", 7)]
    assert scene.standin.counters()["standin_silent"] == 4


def test_what_convicts_is_ours_to_say(scene: Scene) -> None:
    # Zeek knows no such count; ARP that convicts it tells itself.
    assert scene.fire("port_scan", "mirai", "arp_spoof", decisive=True) == [
        ("port_scan", 7),
        ("mirai", 7),
    ]


def test_without_zeek_ours_speak(scene: Scene) -> None:
    scene.other.alive = False
    assert scene.fire("dos", "arp_spoof") == [("dos", 7), ("arp_spoof", 7)]


def test_what_zeek_did_not_live_to_see_is_told_late(scene: Scene) -> None:
    assert scene.fire("dos", at_s=1) == []
    scene.other.heard += 1
    assert scene.fire("port_scan", at_s=2) == []  # zeek lived on: dos was its to tell
    scene.other.alive = False
    assert scene.fire("mirai", at_s=3) == [("port_scan", 0), ("mirai", 7)]
    assert scene.standin.expire(4 * S) == []


def test_while_it_rests_ours_count_answers(scene: Scene) -> None:
    scene.other.resting = True
    assert scene.fire(*RULES) == [("dos", 7), ("port_scan", 7), ("mirai", 7)]


def test_a_zeek_that_sees_nothing_is_blind(scene: Scene) -> None:
    assert scene.fire("dos", at_s=1) == []
    assert scene.fire(at_s=1 + BLIND_NS / S) == []
    assert scene.fire(at_s=1.1 + BLIND_NS / S) == [("dos", 0)]
    assert scene.fire("mirai", at_s=7) == [("mirai", 7)] and scene.blind == [True]
    scene.other.heard += 1
    assert scene.fire("mirai", at_s=8) == [] and scene.blind == [True, False]


def test_kept_events_are_bounded(scene: Scene) -> None:
    for _ in range(MAX_KEPT):
        assert scene.fire("dos", "mirai") == []
    scene.other.alive = False
    assert len(scene.fire()) == MAX_KEPT


def test_whom_a_silent_rule_names(scene: Scene) -> None:
    scene.fire("dos", at_s=10, key="192.0.2.9:80")
    assert scene.standin.named("dos", "192.0.2.9:80") == SENDER
    assert scene.standin.named("dos", "192.0.2.9:81") is None
    scene.fire(at_s=10 + BLIND_NS / S)
    assert scene.standin.named("dos", "192.0.2.9:80") is None


def test_all_else_is_the_screens(scene: Scene) -> None:
    for name, arguments in {
        "contain": (np.zeros(0, np.uint8),), "open_window": (), "close_window": (),
        "name": (SENDER,), "floods": (), "devices": (),
    }.items():  # fmt: skip
        getattr(scene.standin, name)(*arguments)
        assert scene.behind.calls[-1] == name
    assert scene.standin.counters()["devices"] == 3
