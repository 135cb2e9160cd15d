"""Requests of people, in order, bounded, from any thread."""

from ids_appliance.trigger.manual import MAX_ASKED, ManualTrigger


def test_what_was_asked_comes_once_and_in_order():
    trigger = ManualTrigger()
    assert trigger.poll(5) == []
    trigger.open("looking for the camera")
    trigger.close()
    first, second = trigger.poll(7)
    assert (first.rule, first.key, first.detail) == ("manual", "open", "looking for the camera")
    assert (second.key, second.timestamp_ns, second.sender) == ("close", 7, None)
    assert trigger.poll(8) == []


def test_requests_are_bounded():
    trigger = ManualTrigger()
    for _ in range(10 * MAX_ASKED):
        trigger.open()
    assert len(trigger.poll(0)) == MAX_ASKED
