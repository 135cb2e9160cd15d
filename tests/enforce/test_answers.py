"""The answers that all enforcers give alike, where nothing is asked of kernel or switch."""

import pytest

from ids_appliance.enforce import answers
from ids_appliance.enforce.intention import Standing
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.types import Decision, Kind, Response, Subject

LAN = Subject(Kind.MAC, bytes.fromhex("020000000066"), interface="lan0")
WAN = Subject(Kind.IPV4, bytes([203, 0, 113, 5]))
DNS = Subject(Kind.IPV4, bytes([203, 0, 113, 53]))
PROTECTED = ProtectedSets(triples=(("", None, "203.0.113.53"),))


def about(
    subject: Subject, response: Response = Response.QUARANTINE, *, for_s: float = 60.0
) -> Decision:
    return Decision(1, subject, response, for_s, "test")


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (about(LAN), None),
        (about(WAN), None),
        (about(LAN, for_s=0.0), "it has ended already"),
        (
            about(Subject(Kind.MAC, LAN.value, interface="lan9")),
            "interface lan9 is not captured",
        ),
        (about(DNS), "protected: 203.0.113.53/32"),
    ],
)
def test_what_must_not_be_carried_out(decision: Decision, why: str | None) -> None:
    assert answers.refusal(decision, captured=("lan0",), protected=PROTECTED) == why


@pytest.mark.parametrize(
    ("response", "done", "note"),
    [
        (Response.OBSERVE, True, "observed only"),
        (Response.DEPRIORITISE, False, "needs traffic classes, and there are none: [tc] rates"),
    ],
)
def test_what_has_no_place_in_the_kernel(response: Response, done: bool, note: str) -> None:
    answer = answers.nothing_asked(about(WAN, response))
    assert (answer.done, answer.note) == (done, note)


def test_people_are_told_who_found_no_room_and_who_gave_way() -> None:
    notes: list[tuple[str, str]] = []

    def note(kind: str, line: str) -> None:
        notes.append((kind, line))

    refused = answers.no_room(about(WAN), note)
    assert (refused.done, refused.note) == (
        False,
        "the wan set is full of decisions that weigh more",
    )
    said = answers.evicted(Standing(about(WAN), 60.0, (), 1), note, by=DNS)
    assert said == "set full: evicted 203.0.113.5"
    assert notes == [
        ("evicted", f"203.0.113.5: {refused.note}"),
        ("evicted", f"{said} for 203.0.113.53"),
    ]
