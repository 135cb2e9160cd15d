"""A channel's queue: nothing blocks, nothing is lost uncounted, what comes too fast is joined."""

import threading
import time
from collections.abc import Callable

from ids_appliance.config.notices import Notices
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry.channel import Channel, Refusal, Watching, together
from ids_appliance.telemetry.incidents import Notice


class Wire:
    """A transport whose other end does as it is told."""

    name = "wire"

    def __init__(self) -> None:
        self.sent: list[Notice] = []
        self.shown: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.fail: Callable[[], None] = lambda: None
        self.closed = False
        self.changed = threading.Condition()

    def send(self, notice: Notice) -> None:
        self.open.wait()
        self.fail()
        with self.changed:
            self.sent.append(notice)
            self.changed.notify_all()

    def show(self, standing: int) -> None:
        with self.changed:
            self.shown.append(standing)
            self.changed.notify_all()

    def close(self) -> None:
        self.closed = True

    def until(self, look: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(look, 60)


def notice(number: int, attack: str = "dos") -> Notice:
    return {"kind": "decision", "title": f"number {number}", "attack": attack, "host": "gw"}


def channel(wire: Wire, notes: list[str] | None = None, **settings: int) -> Channel:
    said = notes if notes is not None else []
    watching = Watching(time.monotonic, lambda state, line: said.append(line))
    return Channel(wire, Notices(**settings), watching)


def test_each_is_sent_once_and_the_state_is_shown() -> None:
    wire = Wire()
    made = channel(wire, per_minute=100)
    for number in range(5):
        made.offer(notice(number), number)
        wire.until(lambda n=number: len(wire.sent) == n + 1)
    wire.until(lambda: wire.shown[-1:] == [4])
    made.close()
    assert wire.closed and [one["title"] for one in wire.sent] == [f"number {n}" for n in range(5)]
    assert made.counters()["notices_wire_sent"] == 5


def test_what_comes_too_fast_is_told_together_and_nothing_is_missing() -> None:
    wire = Wire()
    wire.open.clear()
    made = channel(wire, per_minute=2)
    for number in range(20):
        made.offer(notice(number, "dos" if number % 2 else "mirai"), 0)
    wire.open.set()
    made.close()
    told = " ".join(str(one.get("incidents", one["title"])) for one in wire.sent)
    assert all(f"number {number}" in told for number in range(20)) and len(wire.sent) <= 3
    counts = made.counters()
    assert counts["notices_wire_sent"] == 20 and counts["notices_wire_lost"] == 0


def test_a_server_that_hangs_blocks_nobody_and_losses_are_counted_and_told() -> None:
    wire = Wire()
    wire.open.clear()
    made = channel(wire, per_minute=1000, queue=8)
    for number in range(50):
        made.offer(notice(number), 0)  # the test would hang here
    lost = made.counters()["notices_wire_lost"]
    assert 41 <= lost <= 42
    wire.open.set()
    wire.until(lambda: sum(one.get("n", 1) for one in wire.sent) == 50 - lost)
    assert sum(one.get("lost", 0) for one in wire.sent) == lost
    made.close()
    assert made.counters()["notices_wire_sent"] == 50 - lost


def test_a_failure_is_said_once_and_the_notice_is_sent_later() -> None:
    wire, notes, tries = Wire(), [], []

    def fail() -> None:
        tries.append(1)
        if len(tries) < 2:
            raise NoticeError("nobody there")

    wire.fail = fail
    made = channel(wire, notes)
    made.offer(notice(1), 0)
    wire.until(lambda: wire.sent)
    made.close()
    assert notes == ["wire: nobody there; notices wait", "wire: notices get through again"]
    assert made.counters()["notices_wire_failures"] == 1


def test_what_is_refused_is_not_tried_again() -> None:
    wire, notes = Wire(), []

    def fail() -> None:
        if not made.counters()["notices_wire_refused"]:
            raise Refusal("status 400")

    wire.fail = fail
    made = channel(wire, notes)
    made.offer(notice(1), 0)
    while not made.counters()["notices_wire_refused"]:
        wire.open.wait()
    made.offer(notice(2), 0)
    wire.until(lambda: wire.sent)
    made.close()
    assert [one["title"] for one in wire.sent] == ["number 2"] and "status 400" in notes[0]


def test_at_the_end_what_does_not_get_through_is_counted() -> None:
    wire = Wire()

    def fail() -> None:
        raise NoticeError("nobody there")

    wire.fail = fail
    made = channel(wire)
    for number in range(4):
        made.offer(notice(number), 0)
    made.close()
    counts = made.counters()
    assert counts["notices_wire_lost"] == 4 and counts["notices_wire_waiting"] == 0
    made.offer(notice(9), 0)
    assert made.counters()["notices_wire_lost"] == 5


def test_together_names_every_attack() -> None:
    found = together([notice(1), notice(2), notice(3, "mirai")])
    assert found["title"] == "3 incidents: 2 x dos, 1 x mirai"
    assert found["incidents"] == ["number 1", "number 2", "number 3"]
