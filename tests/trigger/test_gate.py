"""The gate's frame-exact boundaries, whatever the batches; its clock online; what it hands on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance import config
from ids_appliance.trigger.gate import MAX_EVENTS, ScrutinyGate
from ids_appliance.trigger.manual import ManualTrigger
from ids_appliance.trigger.overload import Overload
from ids_appliance.trigger.sample import SampleTrigger
from ids_appliance.trigger.window import Window
from ids_appliance.types import FRAME, FrameBatch, Outcome, Standing, TriggerEvent

S = 10**9
T0 = 1_700_000_000 * S
OUT = Outcome


class ScriptedScreen:
    """Fires and marks by the frames' numbers; like the real one, it counts windows for SUSPECT."""

    def __init__(self, fires=(), marks=None):
        self.fires = frozenset(fires)
        self.marks = marks or {}
        self.late = []
        self.named = []
        self.suspicious = False
        self.calls = []

    def screen(self, data, frames, host, marks):
        events = []
        for i, frame in enumerate(frames):
            number = int(frame["number"])
            self.calls.append(number)
            if number in self.fires:
                self.suspicious = True
                ts = int(frame["timestamp_ns"])
                events.append(("dos", f"k{number}", ts, i, b"s", "detail", False))
            frame["standing"] = Standing.SUSPECT if self.suspicious else 0
            marks[i] = self.marks.get(number, OUT.WAITING)
        return events[::-1]  # in no particular order

    def expire(self, now_ns):
        late, self.late = self.late, []
        return late

    def contain(self, senders):
        pass

    def open_window(self):
        pass

    def close_window(self):
        self.suspicious = False

    def name(self, sender):
        self.named.append(sender)

    def floods(self):
        return []

    def counters(self):
        return {}


def frames_at(seconds):
    table = np.zeros(len(seconds), FRAME)
    table["timestamp_ns"] = [T0 + round(s * S) for s in seconds]
    table["number"] = np.arange(1, len(seconds) + 1)
    return table


def batch(table):
    return FrameBatch(np.zeros(1, np.uint8), table)


def make(screen, *, clock=None, triggers=(), **changes):
    w = Window(config.Window(**({"window_s": 30.0, "max_window_s": 100.0} | changes)))
    heard, windows = [], []
    gate = ScrutinyGate(screen, w, triggers=triggers, clock=clock, on_events=heard.extend)
    gate.on_window = windows.append
    return gate, heard, windows


def outcomes(gate, table):
    return [OUT(x).name[0] for x in gate.admit(batch(table), b"")]


def test_frames_before_the_one_that_crossed_stay_screened():
    gate, heard, windows = make(ScriptedScreen(fires={3}))
    assert outcomes(gate, frames_at([0, 1, 2, 3, 31.9, 32, 33])) == list("SSWWWSS")
    assert [e.key for e in heard] == ["k3"] and len(windows) == 2
    record = windows[0].record
    assert (record.opened_ns, record.closed_ns) == (T0 + 2 * S, T0 + 32 * S)
    assert record.seen == 3


def test_last_words_of_the_screen_stand_open_or_closed():
    marks = {1: OUT.OWN, 2: OUT.CONTAINED, 4: OUT.ECHO, 5: OUT.UNPARSABLE, 6: OUT.CONTAINED}
    gate, _, windows = make(ScriptedScreen(fires={3}, marks=marks))
    got = gate.admit(batch(frames_at([0, 1, 2, 3, 4, 5])), b"")
    assert got.tolist() == [
        OUT.OWN,
        OUT.CONTAINED,
        OUT.WAITING,
        OUT.ECHO,
        OUT.UNPARSABLE,
        OUT.CONTAINED,
    ]
    record = windows[0].record
    assert (record.seen, record.contained) == (3, 1)


def test_a_window_that_closes_and_opens_again_inside_one_batch():
    screen = ScriptedScreen(fires={1, 4})
    gate, _, windows = make(screen)
    table = frames_at([0, 29, 40, 50, 51])
    assert outcomes(gate, table) == list("WWSWW")
    assert [c.opened for c in windows] == [True, False, True]
    # Whom the first window named is no suspect between the two.
    assert table["standing"].tolist() == [8, 8, 0, 8, 8]


@st.composite
def histories(draw):
    steps = draw(st.lists(st.sampled_from([0, 0, 0.001, 0.5, 2, 7, 29, 31, -3, 70]), max_size=60))
    table = frames_at(np.cumsum(steps) if steps else [])
    numbers = st.integers(1, max(len(steps), 1))
    fires = draw(st.sets(numbers, max_size=12))
    marks = draw(
        st.dictionaries(
            numbers, st.sampled_from([OUT.OWN, OUT.ECHO, OUT.CONTAINED, OUT.UNPARSABLE])
        )
    )
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=10))
    every = draw(st.sampled_from([0.0, 11.0]))
    return table, fires, marks, sizes, every


def run(history, sizes):
    table, fires, marks, _, every = history
    settings_ = {"sample_every_s": every, "sample_s": 2.0}
    trigger = SampleTrigger(config.Window(**settings_))
    gate, heard, windows = make(ScriptedScreen(fires, marks), triggers=(trigger,), **settings_)
    table = table.copy()
    found, at, turn = [], 0, 0
    while at < len(table):
        size = sizes[turn % len(sizes)]
        part = table[at : at + size].copy()
        found += gate.admit(batch(part), b"").tolist()
        table[at : at + size] = part
        at, turn = at + size, turn + 1
    judged = np.array(found) == OUT.WAITING
    records = [
        (r.id, r.rule, r.opened_ns, r.closed_ns, r.why, r.seen, r.contained, r.triggers)
        for r in gate.window.records
    ]
    standing = np.where(judged, table["standing"], 0).tolist()
    return found, records, standing, [(e.rule, e.key) for e in heard]


@given(histories())
@settings(max_examples=300, deadline=None)
def test_outcomes_do_not_depend_on_how_frames_fall_into_batches(history):
    whole = run(history, [1000])
    assert run(history, history[3]) == whole
    assert run(history, [1]) == whole
    assert len(whole[0]) == len(history[0])


def test_each_frame_is_screened_once():
    screen = ScriptedScreen(fires={2, 5})
    gate, _, _ = make(screen)
    gate.admit(batch(frames_at([0, 10, 50, 100, 130, 170])), b"")
    assert screen.calls == [1, 2, 3, 4, 5, 6]


def test_online_the_clock_counts_and_not_the_packets():
    now = 5 * S
    gate, _, windows = make(ScriptedScreen(fires={2}), clock=lambda: now)
    assert outcomes(gate, frames_at([0, 1000, 2000])) == list("SWW")
    now += 29 * S
    assert outcomes(gate, frames_at([0])) == list("W")
    now += S
    assert outcomes(gate, frames_at([0])) == list("S")
    assert [c.record.why for c in windows[1:]] == ["quiet"]


def test_time_passes_where_no_packets_come():
    now = 5 * S
    gate, _, windows = make(ScriptedScreen(fires={1}), clock=lambda: now)
    gate.admit(batch(frames_at([0])), b"")
    gate.tick(now + 31 * S)
    assert [c.opened for c in windows] == [True, False]


def test_answers_that_did_not_come_open_the_window():
    screen = ScriptedScreen()
    screen.late = [TriggerEvent("port_scan", "k", T0, 0, b"s", "", False)]
    gate, heard, windows = make(screen)
    gate.expire(T0)
    assert len(heard) == 1 and windows[0].opened
    assert outcomes(gate, frames_at([1])) == list("W")


def test_other_triggers_name_their_senders_to_the_screen():
    class Zeek:
        def poll(self, now_ns):
            return [TriggerEvent("mirai", "k", now_ns, 0, b"bad", "from outside")]

    screen = ScriptedScreen()
    gate, heard, windows = make(screen, triggers=(Zeek(), ManualTrigger()))
    assert outcomes(gate, frames_at([0])) == list("W")
    assert screen.named == [b"bad"] and heard[0].rule == "mirai" and len(windows) == 1


def test_decisions_hold_the_window_open():
    screen = ScriptedScreen(fires={1})
    gate, _, windows = make(screen)
    outcomes(gate, frames_at([0, 20]))
    screen.fires = ()
    gate.decision()
    assert outcomes(gate, frames_at([49])) == list("W")
    assert outcomes(gate, frames_at([50])) == list("S")
    assert windows[0].record.decisions == 1


def test_more_events_than_anybody_looks_at_are_counted():
    n = MAX_EVENTS + 10
    gate, heard, _ = make(ScriptedScreen(fires=range(1, n + 1)))
    gate.admit(batch(frames_at([0] * n)), b"")
    assert len(heard) == MAX_EVENTS and gate.counters()["gate_events_dropped"] == 10


def test_a_crowd_does_not_hide_a_decisive_event():
    n = MAX_EVENTS + 10
    screen = ScriptedScreen()
    screen.late = [("arp_spoof", f"k{i}", T0, 0, b"s", "detail", i == n - 1) for i in range(n)]
    gate, heard, _ = make(screen)
    gate.admit(batch(frames_at([0])), b"")
    gate.expire(T0 + S)
    assert len(heard) == MAX_EVENTS and sum(event.decisive for event in heard) == 1


def test_shed_frames_are_counted_in_the_window():
    gate, _, windows = make(ScriptedScreen(fires={2}))
    gate.overload = Overload(("suspect", "unnamed", "cleared"), lambda: 0.6)
    got = gate.admit(batch(frames_at([0, 1, 2])), b"")
    assert got.tolist() == [OUT.SCREENED, OUT.SHED, OUT.SHED]
    assert windows[0].record.shed == 2 and gate.counters()["shed_suspect"] == 2


def test_an_empty_batch():
    gate, _, _ = make(ScriptedScreen())
    assert len(gate.admit(batch(frames_at([])), b"")) == 0
