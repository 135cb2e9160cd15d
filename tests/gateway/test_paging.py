"""Pages of what stands: the latest first, searched, bounded."""

import pytest

from ids_appliance.gateway.paging import SLACK, Pages
from ids_appliance.policy.subjects import subject_text
from tests.policy.ledgers import World


@pytest.fixture
def world() -> World:
    return World()


def pages_of(world: World) -> tuple[Pages, list[str]]:
    asked: list[str] = []

    def label(subject, _address):
        asked.append(subject_text(subject))
        return "Front Door" if subject_text(subject).endswith(".7") else ""

    return Pages(world.ledger, label), asked


def stand(world: World, count: int, *, prefix: str = "198.51.100") -> None:
    for n in range(1, count + 1):
        world.ledger.quarantine(f"{prefix}.{n}", 600.0)


def names(rows):
    return [subject_text(row.decision.subject) for row in rows]


def test_the_latest_first_a_page_at_a_time(world: World) -> None:
    stand(world, 25)
    pages, asked = pages_of(world)
    first, total = pages.page(10)
    second, _ = pages.page(10, offset=10)
    rest, _ = pages.page(10, offset=20)
    assert total == 25 and names(first)[0] == "198.51.100.25"
    assert names([*first, *second, *rest]) == names(world.ledger.decisions())
    assert pages.page(10, offset=100) == ([], 25)
    assert asked == []  # who does not search costs no names


def test_every_word_is_found_in_sender_device_or_reason(world: World) -> None:
    stand(world, 20)
    pages, _ = pages_of(world)
    assert names(pages.page(9, find="front DOOR")[0]) == ["198.51.100.7"]
    assert pages.page(9, find="by hand")[1] == 20
    assert pages.page(9, find="hand 198.51.100.19")[1] == 1
    assert pages.page(9, find="nobody") == ([], 0)


def test_a_search_looks_each_decision_up_once_and_forgets_what_is_over(world: World) -> None:
    stand(world, 20)
    pages, asked = pages_of(world)
    pages.page(9, find="x")
    pages.page(9, find="y")
    assert len(asked) == 20
    for round_ in range(4 + SLACK // 20):
        world.ledger.release("")
        stand(world, 20)
        pages.page(9, find=str(round_))
        assert len(pages._texts) <= 2 * 20 + SLACK


def test_how_many_by_what_is_done(world: World) -> None:
    stand(world, 3)
    pages, _ = pages_of(world)
    assert pages.by_response() == {"quarantine": 3}
    world.ledger.release("")
    assert pages.by_response() == {}
