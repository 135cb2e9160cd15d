"""How the stages act on each other: who is noticed, decided, contained, extended, let go."""

import numpy as np
import pytest

from ids_appliance.config import Config, Failure
from ids_appliance.config import Policy as PolicySection
from ids_appliance.config import Window as WindowSection
from ids_appliance.gateway.appliance import Appliance, Ended, Parts, give_up_under_pressure
from ids_appliance.trigger.overload import MAX_CLEARED
from ids_appliance.trigger.window import Change
from ids_appliance.types import (
    FRAME,
    SENDER,
    Applied,
    Decision,
    Finding,
    FrameBatch,
    JudgedBatch,
    Kind,
    Outcome,
    Reconciled,
    Response,
    Side,
    Standing,
    Subject,
    TriggerEvent,
)

S = 10**9
T0 = 1_700_000_000 * S
MAC = bytes([2, 0, 0, 0, 0, 7])
CAMERA = Subject(Kind.MAC, MAC, interface="lan0")
SERVER = Subject(Kind.IPV4, bytes([203, 0, 113, 9]))
FORGED = Subject(Kind.IPV4, bytes([203, 0, 113, 8]), proven=False)
SIXTYFOUR = Subject(Kind.IPV6, bytes.fromhex("20010db800000001"))
FLOOD = Subject(Kind.FLOOD, bytes([192, 0, 2, 80]), port=443)


def record(*, ifindex=0, side=Side.LAN, family=0, mac=bytes(6), address=b""):
    found = np.zeros(1, SENDER)
    found["ifindex"], found["side"], found["family"] = ifindex, side, family
    found["mac"][0] = np.frombuffer(mac, np.uint8)
    found["address"][0, : len(address)] = np.frombuffer(address, np.uint8)
    return found.tobytes()


CAMERA_SENDER = record(ifindex=3, mac=MAC)


class ScriptedScreen:
    def __init__(self):
        self.next = []
        self.contained = []
        self.slots = []
        self.windows = []

    def screen(self, data, frames, host, marks):
        events, self.next = self.next, []
        return events

    def expire(self, now_ns):
        return []

    def contain(self, senders):
        self.contained.append({s.tobytes() for s in senders})

    def open_window(self):
        self.windows.append("open")

    def close_window(self):
        self.windows.append("close")

    def name(self, sender):
        pass

    def floods(self):
        return self.slots

    def counters(self):
        return {"devices": 3, "contained": 9}


class ScriptedPolicy:
    def __init__(self):
        self.noticed, self.forgotten, self.floods, self.next = [], [], [], []
        self.on_notice = []
        self.windows = 0

    def notice(self, event):
        self.noticed.append(event.rule)
        return self.on_notice

    def weigh(self, batch):
        findings, self.next = self.next, []
        return findings

    def forget(self, sender):
        self.forgotten.append(sender)

    def set_floods(self, records):
        self.floods.append(records)

    def new_window(self):
        self.windows += 1

    def why(self, sender):
        return {}

    def counters(self):
        return {"evidence": 1}


class ScriptedLedger:
    def __init__(self):
        self.asked, self.next, self.ending, self.settled = [], [], [], []
        self.again = []
        self.let_go = False
        self.known_devices = 0

    def decide(self, findings, events):
        self.asked.append((list(findings), list(events)))
        decisions, self.next = self.next, []
        return decisions

    def expire(self, now_ns):
        ending, self.ending = self.ending, []
        return ending

    def not_held(self, now_ns):
        again, self.again = self.again, []
        return again

    def settle(self, answers):
        self.settled += answers
        return [] if self.let_go else answers

    def counters(self):
        return {"decisions": 1}


class ScriptedKernel:
    def __init__(self):
        self.applied, self.released, self.next = [], [], []
        self.at_once = True

    def apply(self, decisions):
        self.applied += decisions
        if self.at_once:
            self.next += [Applied(d, True) for d in decisions]

    def release(self, subjects):
        self.released += subjects

    def answers(self):
        answers, self.next = self.next, []
        return answers

    def counters(self):
        return {"elements": 1}


class World:
    def __init__(self, config=None, indices=None, **how):
        self.screen, self.policy = ScriptedScreen(), ScriptedPolicy()
        self.ledger, self.kernel = ScriptedLedger(), ScriptedKernel()
        self.told, self.answers = [], []
        self.appliance = Appliance(
            config or Config(interfaces=("lan0",), window=WindowSection(window_s=30.0)),
            Parts(
                self.screen,
                self.policy,
                self.ledger,
                self.kernel,
                (indices or {"lan0": 3}).__getitem__,
            ),
            tell=self.told.append,
            on_answer=self.answers.append,
            **how,
        )

    def fire(self, sender=CAMERA_SENDER, at=0.0, rule="port_scan"):
        ts = T0 + round(at * S)
        self.screen.next = [TriggerEvent(rule, "k", ts, 0, sender, "")]
        return self.frames(at)

    def frames(self, at=0.0):
        frames = np.zeros(1, FRAME)
        frames["timestamp_ns"] = T0 + round(at * S)
        return self.appliance.admit(FrameBatch(np.zeros(1, np.uint8), frames), b"")

    def judge(self, *findings, verdict=0):
        self.policy.next = list(findings)
        self.appliance.take(judged(np.zeros(1, FRAME), np.zeros(1, SENDER), verdict=verdict))


def judged(frames, senders, *, verdict=0):
    n = len(frames)
    return JudgedBatch(
        frames,
        senders,
        np.full(n, Outcome.JUDGED, np.uint8),
        np.full(n, 0.9),
        np.full(n, verdict, np.uint8),
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint64),
        (b"m" * 16,),
    )


def decision(subject=CAMERA, response=Response.QUARANTINE, number=1, duration_s=600.0):
    return Decision(number, subject, response, duration_s, "because")


def finding(sender=CAMERA_SENDER, malicious=True):
    return Finding(sender, T0, malicious, 9.0, 8.0, (), 10, (), 0, b"", "")


def test_a_trigger_is_noticed_decided_upon_and_opens_the_window():
    w = World()
    assert w.fire().tolist() == [Outcome.WAITING]
    assert w.policy.noticed == ["port_scan"]
    [(findings, events)] = w.ledger.asked
    assert findings == [] and [e.rule for e in events] == ["port_scan"]
    assert w.ledger.known_devices == 3
    assert [type(x) for x in w.told] == [Change, TriggerEvent]
    assert w.policy.windows == 1 and w.screen.windows == ["open"]


def test_what_a_notice_finds_is_decided_upon():
    w = World()
    w.policy.on_notice = [finding()]
    w.fire()
    assert len(w.ledger.asked[0][0]) == 1


def test_nothing_to_decide_asks_nobody():
    w = World()
    w.fire()
    w.judge()
    assert len(w.ledger.asked) == 1 and w.policy.floods == []


def test_a_quarantine_that_stands_contains_and_extends():
    w = World()
    w.fire()
    w.ledger.next = [decision()]
    w.frames(20.0)
    w.judge(finding())
    assert w.kernel.applied == [decision()]
    assert w.screen.contained == [{CAMERA_SENDER}]
    assert w.appliance.contained == {CAMERA: CAMERA_SENDER}
    assert w.ledger.settled == [Applied(decision(), True)]
    assert w.frames(49.0).tolist() == [Outcome.WAITING]
    assert w.frames(50.0).tolist() == [Outcome.SCREENED]
    assert w.appliance.window.records[0].decisions == 1


def test_triggers_of_the_contained_change_nothing():
    w = World()
    w.fire()
    w.ledger.next = [decision()]
    w.judge(finding())
    asked = len(w.ledger.asked)
    w.fire(at=25.0)
    assert len(w.ledger.asked) == asked and w.policy.noticed == ["port_scan"]
    assert w.frames(30.0).tolist() == [Outcome.SCREENED]


@pytest.mark.parametrize(
    ("made", "sender"),
    [
        (decision(CAMERA, Response.RATE_LIMIT), None),
        (decision(SERVER), record(side=Side.WAN, family=4, address=SERVER.value)),
        (decision(FORGED), None),
        (decision(SIXTYFOUR), record(side=Side.WAN, family=6, address=SIXTYFOUR.value)),
        (
            decision(FLOOD, Response.RATE_LIMIT),
            record(side=Side.FLOOD, family=4, address=FLOOD.value, ifindex=443),
        ),
        (
            decision(Subject(Kind.IPV4, bytes([10, 8, 0, 2]), interface="lan0")),
            record(ifindex=3, family=4, address=bytes([10, 8, 0, 2])),
        ),
    ],
)
def test_who_is_contained(made, sender):
    w = World()
    w.fire()
    w.ledger.next = [made]
    w.judge(finding())
    assert set(w.appliance.contained.values()) == ({sender} if sender else set())


def test_what_is_only_observed_stays_out_of_the_kernel_and_keeps_the_window_open():
    w = World()
    w.fire()
    w.frames(20.0)
    w.ledger.next = [decision(response=Response.OBSERVE)]
    w.judge(finding())
    assert w.kernel.applied == [] and not w.appliance.contained
    assert w.frames(49.0).tolist() == [Outcome.WAITING]


def test_what_the_kernel_refuses_is_not_contained():
    w = World()
    w.fire()
    w.kernel.at_once = False
    w.ledger.next = [decision()]
    w.judge(finding())
    w.kernel.next = [Applied(decision(), False, "set full"), Reconciled(1, 1, 0, 0, False)]
    w.appliance.settle()
    assert not w.appliance.contained and w.screen.contained == []
    assert w.answers == [Reconciled(1, 1, 0, 0, False)]


def test_what_the_kernel_refused_is_ordered_again_and_a_second_refusal_is_not_told():
    w = World()
    w.fire()
    w.kernel.at_once = False
    w.ledger.next = [decision()]
    w.judge(finding())
    refused = Applied(decision(), False, "no such table")
    w.kernel.next = [refused]
    w.appliance.tick(T0 + S)
    w.ledger.again, w.kernel.next = [decision(duration_s=590.0)], []
    w.appliance.tick(T0 + 2 * S)
    assert [one.duration_s for one in w.kernel.applied] == [600.0, 590.0]
    w.kernel.next = [refused]
    w.appliance.settle()
    assert [told for told in w.told if isinstance(told, Applied)] == [refused]
    w.kernel.next = [Applied(decision(), True)]
    w.appliance.settle()
    assert CAMERA in w.appliance.contained and w.told[-1].done


def test_a_kernel_that_answers_later():
    w = World()
    w.fire()
    w.kernel.at_once = False
    w.ledger.next = [decision()]
    w.judge(finding())
    assert not w.appliance.contained
    w.kernel.next = [Applied(decision(), True)]
    w.appliance.settle()
    assert w.screen.contained == [{CAMERA_SENDER}]


def test_whom_people_released_while_the_kernel_was_at_it_is_not_contained():
    w = World()
    w.fire()
    w.kernel.at_once = False
    w.ledger.next = [decision()]
    w.judge(finding())
    w.appliance.released([CAMERA])
    w.ledger.let_go = True
    w.kernel.next = [Applied(decision(), True)]
    w.appliance.settle()
    assert not w.appliance.contained and w.screen.contained == [set()]


def test_an_interface_that_was_made_anew_has_another_index():
    indices = {"lan0": 3}
    w = World(indices=indices)
    w.fire()
    w.ledger.next = [decision()]
    w.judge(finding())
    indices["lan0"] = 9
    w.appliance.renumbered()
    assert w.screen.contained[-1] == {record(ifindex=9, mac=MAC)}


def test_a_milder_response_contains_no_more():
    w = World()
    w.fire()
    for number, response in enumerate([Response.QUARANTINE, Response.RATE_LIMIT], 1):
        w.ledger.next = [decision(response=response, number=number)]
        w.judge(finding())
    assert w.screen.contained == [{CAMERA_SENDER}, set()]


def test_what_ends_is_released_and_begins_anew():
    w = World()
    w.fire()
    w.ledger.next = [decision()]
    w.judge(finding())
    over = decision(response=Response.OBSERVE, number=2, duration_s=0.0)
    w.ledger.ending = [over]
    w.appliance.tick(T0 + 600 * S)
    assert w.kernel.released == [CAMERA] and w.policy.forgotten == [CAMERA_SENDER]
    assert not w.appliance.contained and w.screen.contained[-1] == set()
    assert [x for x in w.told if isinstance(x, Ended)] == [Ended(over)]


def test_what_steps_down_holds_anew():
    w = World()
    w.fire()
    w.ledger.next = [decision()]
    w.judge(finding())
    w.ledger.ending = [decision(response=Response.RATE_LIMIT, number=2)]
    w.appliance.tick(T0 + 600 * S)
    assert w.kernel.released == [] and w.kernel.applied[-1].response is Response.RATE_LIMIT
    assert not w.appliance.contained and w.policy.forgotten == [CAMERA_SENDER]


def test_release_by_hand():
    w = World()
    w.fire()
    w.ledger.next = [decision(SERVER)]
    w.judge(finding())
    w.appliance.released([SERVER])
    assert not w.appliance.contained and len(w.policy.forgotten) == 1


def test_time_passes_once_a_second():
    w = World()
    w.appliance.tick(T0)
    w.ledger.ending = [decision(response=Response.OBSERVE, duration_s=0.0)]
    w.appliance.tick(T0 + S - 1)
    assert w.kernel.released == []
    w.frames(1.0)  # packet time passes with the packets
    assert w.kernel.released == [CAMERA]


def test_under_per_packet_a_verdict_extends():
    for kind, after in (("per_packet", Outcome.WAITING), ("sequential", Outcome.SCREENED)):
        w = World(Config(interfaces=("lan0",), policy=PolicySection(kind=kind)))
        w.fire()
        w.frames(20.0)
        w.judge(verdict=1)
        assert w.frames(40.0).tolist() == [after]


def test_floods_are_made_known_by_their_slots():
    w = World()
    flood = record(side=Side.FLOOD, family=4, address=FLOOD.value, ifindex=443)
    w.screen.slots = [(3, flood)]
    w.fire()
    w.judge()
    w.judge()
    [slots] = w.policy.floods
    assert slots[3].tobytes() == flood and not slots[2]["address"].any()


def test_the_cleared_are_shed_first_until_something_speaks_against_them():
    config = Config(interfaces=("lan0",), failure=Failure(on_overload=("cleared",)))
    w = World(config)
    overload = give_up_under_pressure(w.appliance, lambda: 1.0)
    known = []
    overload.set_cleared = lambda senders: known.append(set(senders))
    w.fire(sender=None)
    w.judge(finding(malicious=False))
    assert known[-1] == {CAMERA_SENDER}
    w.judge(finding(malicious=True))
    assert known[-1] == set()
    w.judge(finding(malicious=False))
    w.appliance.finish()
    w.fire(sender=None, at=100.0)
    assert known[-1] == set()


def test_the_cleared_are_bounded_in_a_window_that_never_ends():
    w = World()
    overload = give_up_under_pressure(w.appliance, lambda: 0.0)
    known = []
    overload.set_cleared = lambda senders: known.append(len(set(senders)))
    senders = [record(side=Side.WAN, family=4, address=i.to_bytes(4)) for i in range(1, 5000)]
    w.judge(*(finding(sender, malicious=False) for sender in senders))
    assert known[-1] == MAX_CLEARED


def test_counters_of_all_stages():
    w = World()
    w.fire()
    counters = w.appliance.counters()
    assert counters["windows"] == counters["evidence"] == counters["decisions"] == 1
    assert counters["elements"] == 1 and counters["contained_senders"] == 0
    # The screen's `contained` are senders; by that name the pipeline counts frames.
    assert counters["devices"] == 3 and "contained" not in counters


def test_who_is_who_is_asked_before_somebody_is_decided_about_but_not_all_the_time():
    met = []
    w = World(before_deciding=lambda: met.append(len(w.ledger.asked)))
    w.fire()
    assert met == []  # a trigger alone accuses nobody
    w.judge(finding(malicious=False))
    assert met == []
    for _ in range(3):
        w.judge(finding())
    assert met == [2]
    w.frames(at=1.0)
    w.judge(finding())
    assert len(met) == 2


def test_proven_senders_are_told_while_a_flood_stands():
    w = World()
    w.fire()
    proven = np.zeros(1, SENDER)
    proven["side"], proven["family"], proven["address"][0, :4] = 1, 4, [203, 0, 113, 9]
    frames = np.zeros(1, FRAME)
    frames["standing"] = int(Standing.PROVEN)
    batch = judged(frames, proven)
    w.appliance.take(batch)
    assert w.appliance.proven() == []  # no flood: nobody suffers from its limit
    w.ledger.next = [decision(FLOOD)]
    w.judge(finding())
    w.appliance.take(batch)
    w.appliance.take(batch)
    assert w.appliance.proven() == [bytes([203, 0, 113, 9])]
    assert w.appliance.proven() == []
