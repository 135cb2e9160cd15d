"""The mass-action breaker: too many, too large a share, and back."""

import pytest

from ids_appliance.policy.breaker import MAX_COOL_DOWN_S, MIN_DEVICES, Breaker
from ids_appliance.types import Kind, Subject
from tests.policy.ledgers import S, device


def breaker() -> Breaker:
    return Breaker(5, 0.2, cool_down_s=900.0)


def outside(n: int) -> Subject:
    return Subject(Kind.IPV4, bytes([198, 51, 100, n]))


def test_the_sixth_in_a_minute_is_held_and_all_after_it() -> None:
    b = breaker()
    assert all(b.admits(outside(n), n * S, known_devices=100) for n in range(5))
    assert not b.admits(outside(6), 59 * S, known_devices=100)
    assert b.holds and "more than 5" in b.why
    assert not b.admits(outside(7), 500 * S, known_devices=100)


def test_five_a_minute_go_on_for_ever() -> None:
    b = breaker()
    assert all(b.admits(outside(n % 200), n * 12 * S, known_devices=100) for n in range(500))


@pytest.mark.parametrize(
    ("known", "admitted"), [(5, 2), (10, 2), (14, 2), (15, 2), (16, 3), (20, 3), (40, 7), (0, 2)]
)
def test_a_fifth_of_the_devices(known: int, admitted: int) -> None:
    b = breaker()
    found = [b.admits(device(n), n * 60 * S, known_devices=known) for n in range(10)]
    assert found == [True] * admitted + [False] * (10 - admitted)
    assert admitted + 1 >= MIN_DEVICES


def test_one_device_again_and_again_is_one_device() -> None:
    b = breaker()
    assert all(b.admits(device(1), n * 60 * S, known_devices=5) for n in range(50))


def test_a_device_whose_decision_has_ended_does_not_count() -> None:
    b = breaker()
    for n in range(20):
        assert b.admits(device(n), n * 60 * S, known_devices=5)
        b.ended(device(n))


def test_it_cools_down_and_ever_more_slowly() -> None:
    b = breaker()
    now, pauses = 0, []
    for _ in range(10):
        while b.admits(outside(1), now, known_devices=0):
            now += S
        pauses.append(b.remaining_s(now))
        assert not b.cooled(now + int(pauses[-1] * S) - 1)
        now += int(pauses[-1] * S)
        assert b.cooled(now) and not b.holds and not b.cooled(now)
    assert pauses[:3] == [900.0, 1800.0, 3600.0] and pauses[-1] == MAX_COOL_DOWN_S


def test_a_person_resets_it() -> None:
    b = breaker()
    for n in range(7):
        b.admits(device(n), 0, known_devices=100)
    assert b.reset() and not b.holds and b.trips == 0
    assert b.admits(device(9), 1, known_devices=100)
    assert not b.reset()


def test_after_a_reset_what_stands_from_before_does_not_count() -> None:
    b = breaker()
    assert [b.admits(device(n), n * 60 * S, known_devices=5) for n in range(3)] == [
        True,
        True,
        False,
    ]
    b.reset()
    assert b.admits(device(3), 600 * S, known_devices=5)


def test_a_restart_does_not_reset_it() -> None:
    b = breaker()
    b.restore(30.0, 2, now_ns=100 * S)
    assert b.holds and not b.admits(device(1), 100 * S, known_devices=5)
    assert b.cooled(130 * S)
    assert not breaker().cooled(10**18)
