"""Which held packets go on and which are dropped, with every part real but the kernel's queue."""

import socket
import struct
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from ids_appliance.capture.held import QUEUED, Held, connection
from ids_appliance.config import Config, Failure, Inline
from ids_appliance.enforce.marks import TrafficClass, marked
from ids_appliance.gateway.inline import Around, InlineVerdicts
from ids_appliance.gateway.inline_log import DropLog
from ids_appliance.gateway.inline_model import PacketModel
from ids_appliance.types import (
    FRAME,
    SENDER,
    Decision,
    FrameBatch,
    JudgedBatch,
    Kind,
    Outcome,
    Response,
    Standing,
    Subject,
    TriggerEvent,
)
from tests.bundles import random_bundle

SECOND = 10**9
MAC = bytes.fromhex("020000000066")
SUSPECT, FLOOD = int(Standing.SUSPECT), 0x10
BAD, GOOD = 0.9, 0.1


def packet(flags: int = 0x02, ports: tuple[int, int] = (1000, 80)) -> bytes:
    ends = socket.inet_aton("192.0.2.66") + socket.inet_aton("198.51.100.9")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 63, 6, 0) + ends
    return head + struct.pack("!HHIIBBHHH", *ports, 1, 2, 0x50, flags, 512, 0, 0)


class Packet:
    """What the binding hands over."""

    indev, mark = 3, 0x0000_0021

    def get_hw(self):
        return MAC + bytes(2)


class InOnePiece(JudgedBatch):
    """As the pipeline hands them over."""

    @property
    def piece(self):
        return self


@dataclass
class Queue:
    """Held packets and the words about them."""

    held: dict[int, Held] = field(default_factory=dict)
    words: dict[int, tuple[bool, int | None]] = field(default_factory=dict)
    gone: dict[int, Held] = field(default_factory=dict)

    def hold(self, *times_ns: int) -> list[int]:
        first = QUEUED + 1 + len(self.held) + len(self.words)
        numbers = list(range(first, first + len(times_ns)))
        for number, at in zip(numbers, times_ns, strict=True):
            self.held[number] = Held(Packet(), packet(), at, True, 3)
        return numbers

    def verdict(self, numbers, *, drop=False, mark=None):
        stamps = []
        for number in numbers:
            one = self.held.pop(number, None)
            if one is not None:
                assert number not in self.words, "one word for each packet"
                self.words[number] = (drop, mark)
                stamps.append(one.timestamp_ns)
        return stamps

    say = verdict

    def overdue(self, before_ns):
        return [number for number, one in self.held.items() if one.timestamp_ns <= before_ns]

    def payload(self, number):
        return (self.held | self.gone)[number].payload

    def flush(self) -> None:
        """The kernel would hear of it now."""

    def pass_clean(self, piece, *, named):
        standing = int(np.bitwise_or.reduce(piece.frames["standing"]))
        if piece.verdicts.any() or (piece.outcomes != Outcome.JUDGED).any() or standing & named:
            return None
        numbers = piece.frames["number"].tolist()
        self.gone = {number: self.held[number] for number in numbers}
        return self.verdict(numbers), standing

    def connections(self, numbers):
        return [connection(self.payload(number))[0] for number in numbers.tolist()]


@dataclass
class Bed:
    """The verdict step with its surroundings; times are seconds of `now`."""

    settings: Inline = Inline(enabled=True)
    failure: Failure = Failure()
    enforcing: bool = True
    spared: bool = False
    model: PacketModel | None = None
    now: int = 100 * SECOND

    def __post_init__(self) -> None:
        self.queue = Queue()
        self.events: list[dict] = []
        self.outcomes: list[int] = []
        self.appliance = SimpleNamespace(
            admit=lambda batch, host: np.array(self.outcomes, np.uint8),
            take=lambda batch: None,
            window=SimpleNamespace(contained=frozenset()),
            sender_of=self.sender_of,
        )
        config = Config(interfaces=("lan0",), inline=self.settings, failure=self.failure)
        self.verdicts = InlineVerdicts(
            config,
            self.appliance,
            self.queue,
            around=Around(
                enforcing=lambda: self.enforcing,
                spared=lambda sender, address: self.spared,
                name=lambda index: "lan0",
                clock_ns=lambda: self.now,
                wall_ns=lambda: self.now,
            ),
            log=DropLog(
                lambda kind, **fields: self.events.append(fields),
                per_second=2,
                clock_ns=lambda: self.now,
            ),
            model=self.model,
        )

    @staticmethod
    def sender_of(subject: Subject) -> bytes:
        record = np.zeros(1, SENDER)
        record["ifindex"], record["mac"] = 3, np.frombuffer(subject.value, np.uint8)
        return record.tobytes()

    def frames(self, numbers, standing):
        frames = np.zeros(len(numbers), FRAME)
        frames["number"], frames["standing"], frames["ifindex"] = numbers, standing, 3
        frames["linktype"], frames["wirelen"] = 1, 54
        return frames

    def admit(self, outcomes, standing):
        self.outcomes = outcomes
        numbers = self.queue.hold(*[self.now] * len(outcomes))
        batch = FrameBatch(np.zeros(0, np.uint8), self.frames(numbers, standing))
        self.verdicts.admit(batch, b"")
        return numbers

    def judge(self, probabilities, standing, outcomes=None, kind=JudgedBatch):
        """Hold packets, judge them, and return which were dropped."""
        n = len(probabilities)
        numbers = self.queue.hold(*[self.now] * n)
        senders = np.zeros(n, SENDER)
        senders["ifindex"], senders["mac"] = 3, np.frombuffer(MAC, np.uint8)
        outcomes = np.array(outcomes or [Outcome.JUDGED] * n, np.uint8)
        p = np.array(probabilities)
        verdicts = ((outcomes == Outcome.JUDGED) & (p > 0.5)).astype(np.uint8)
        self.verdicts.take(
            kind(
                self.frames(numbers, standing),
                senders,
                outcomes,
                p,
                verdicts,
                np.zeros(n, np.uint8),
                np.zeros(n, np.uint64),
                (b"m" * 16,),
            )
        )
        assert not self.queue.held
        return [self.queue.words[number][0] for number in numbers]


@pytest.mark.parametrize(
    ("drop", "standing", "dropped"),
    [
        ("suspect", 0, False),
        ("suspect", SUSPECT, True),
        ("suspect", FLOOD, True),
        ("suspect", SUSPECT | Standing.ANSWER, False),
        ("decision", SUSPECT, False),
        ("packet", 0, True),
        ("packet", Standing.ANSWER, True),
    ],
)
def test_what_is_dropped_of_what_is_judged_malicious(drop, standing, dropped) -> None:
    bed = Bed(Inline(enabled=True, drop=drop))
    assert bed.judge([BAD, GOOD, BAD], [standing, standing, 0]) == [
        dropped,
        False,
        drop == "packet",
    ]


def test_whoever_is_decided_about_is_judged_packet_by_packet_until_that_ends() -> None:
    bed = Bed()
    decision = Decision(1, Subject(Kind.MAC, MAC, interface="lan0"), Response.RATE_LIMIT, 600, "")
    assert bed.judge([BAD], [0]) == [False]
    bed.verdicts.saw(decision)
    assert bed.judge([BAD, GOOD], [0, 0]) == [True, False]
    bed.verdicts.released(decision)
    assert bed.judge([BAD], [0]) == [False]


def test_nothing_is_dropped_while_only_observing_and_what_would_have_been_is_told() -> None:
    bed = Bed(enforcing=False)
    assert bed.judge([BAD, BAD], [SUSPECT, SUSPECT]) == [False, False]
    assert bed.verdicts.counters()["inline_would_drop"] == 2
    assert {event["action"] for event in bed.events} == {"passed"}
    bed.enforcing = True
    bed.verdicts.refresh()
    assert bed.judge([BAD], [SUSPECT]) == [True]


def test_protected_and_allowed_senders_lose_nothing() -> None:
    bed = Bed(Inline(enabled=True, drop="packet"), spared=True)
    assert bed.judge([BAD, BAD], [SUSPECT, 0]) == [False, False]
    assert bed.verdicts.counters()["inline_spared"] == 2 and bed.events == []


def test_what_the_gate_keeps_back_has_its_word_at_once() -> None:
    bed = Bed(failure=Failure(on_queue_full="closed"))
    numbers = bed.admit(
        [Outcome.SCREENED, Outcome.WAITING, Outcome.SHED, Outcome.SHED, Outcome.CONTAINED],
        [0, SUSPECT, SUSPECT, 0, 0],
    )
    assert [bed.queue.words.get(number, (None,))[0] for number in numbers] == [
        False,
        None,
        True,
        False,
        False,  # as part of a flood: nobody is cut off
    ]
    contained = bed.sender_of(Subject(Kind.MAC, MAC))
    bed.appliance.window.contained = frozenset([contained])
    (number,) = bed.admit([Outcome.CONTAINED], [0])
    assert bed.queue.words[number] == (True, None)


@pytest.mark.parametrize(
    ("policy", "standing", "dropped"),
    [("open", SUSPECT, False), ("closed", SUSPECT, True), ("closed", 0, False)],
)
def test_without_an_answer_the_policy_decides(policy, standing, dropped) -> None:
    bed = Bed(failure=Failure(on_classifier_down=policy))
    assert bed.judge([np.nan], [standing], [Outcome.UNANSWERED]) == [dropped]
    bed = Bed(failure=Failure(on_classifier_down=policy))
    (number,) = bed.admit([Outcome.WAITING], [standing])
    bed.verdicts.tick()
    assert number in bed.queue.held
    bed.now += int(bed.settings.deadline_ms * 1e6)
    bed.verdicts.tick()
    assert bed.queue.words[number][0] == dropped
    assert bed.verdicts.counters()["inline_late"] == 1


def test_past_the_deadline_the_model_here_judges_as_the_pipeline_would() -> None:
    said = set()
    for seed in range(6):
        model = PacketModel(random_bundle(seed))
        bed = Bed(Inline(enabled=True, drop="packet"), model=model)
        (number,) = bed.admit([Outcome.WAITING], [0])
        bed.now += SECOND
        bed.verdicts.tick()
        assert bed.queue.words[number][0] == model.malicious(packet())
        said.add(bed.queue.words[number][0])
    assert said == {True, False}


def test_suspects_that_pass_wait_behind_others_from_there_on() -> None:
    bed = Bed()
    bed.judge([GOOD, GOOD], [SUSPECT, 0])
    marks = [mark for _, mark in bed.queue.words.values()]
    assert marks == [marked(Packet.mark, TrafficClass.SUSPECT), None]


def test_dropped_packets_are_told_up_to_a_cap_then_counted() -> None:
    bed = Bed(Inline(enabled=True, drop="packet"))
    bed.judge([BAD] * 5, [0] * 5)
    assert len(bed.events) == 2
    told = bed.events[0]
    assert (told["src_ip"], told["dest_ip"], told["dest_port"]) == (
        "192.0.2.66",
        "198.51.100.9",
        80,
    )
    assert told["probability"] == BAD and told["length"] == 40 and told["src_mac"] == MAC
    assert told["reason"] == "judged malicious" and told["action"] == "dropped"
    bed.now += SECOND
    bed.verdicts.refresh()
    assert bed.events[2] == {
        "action": "more",
        "packets": 3,
        "bytes": 120,
        "reasons": {"judged malicious": 3},
    }
    counts = bed.verdicts.counters()
    assert counts["inline_drops_told"] == 2 and counts["inline_drops_summed"] == 3


def test_delays_are_counted_with_each_word() -> None:
    bed = Bed()
    numbers = bed.admit([Outcome.WAITING] * 2, [0, 0])
    bed.now += 75_000
    bed.verdicts._word(numbers)
    counts = bed.verdicts.counters()
    assert counts["inline_delay_us_le_60"] == 0 and counts["inline_delay_us_le_80"] == 2
    assert counts["inline_delay_us_le_inf"] == 2 and counts["inline_delay_us_sum"] == 150


def test_a_clean_batch_has_its_word_before_anything_else_and_others_after() -> None:
    bed = Bed()
    words = []
    bed.appliance.take = lambda batch: words.append(len(bed.queue.words))
    assert bed.judge([GOOD, GOOD], [0, 16], kind=InOnePiece) == [False, False]
    assert bed.judge([GOOD, BAD], [0, SUSPECT], kind=InOnePiece) == [False, True]
    assert bed.judge([GOOD, GOOD], [SUSPECT, 0], kind=InOnePiece) == [False, False]
    assert words == [2, 2, 4], "what is decided by a batch may concern those that are wrong in it"
    marks = [mark for _, mark in bed.queue.words.values()]
    assert sum(mark is not None for mark in marks) == 1, "a suspect's packet is marked still"
    assert bed.verdicts.counters()["inline_delay_us_le_inf"] == 6


def test_a_connection_is_followed_though_its_packets_are_gone() -> None:
    bed = Bed()
    bed.judge([GOOD], [0], kind=InOnePiece)
    assert not bed.verdicts.flows.following
    bed.judge([GOOD], [int(Standing.PROVEN)], kind=InOnePiece)
    assert bed.verdicts.flows.following
    bed.judge([GOOD, GOOD], [0, 0], kind=InOnePiece)
    (followed,) = bed.verdicts.flows._followed.values()
    assert followed.packets == 3


def test_doubt_about_a_sender_is_passed_on() -> None:
    bed = Bed()
    sender = bed.sender_of(Subject(Kind.MAC, MAC))
    bed.verdicts.saw(TriggerEvent("dos", "k", 1, 0, sender, "d"))
    bed.verdicts.saw(TriggerEvent("dos", "k", 1, 0, None, "d"))
    assert bed.verdicts.doubted == {sender}
