"""A look once in so often, never twice for one time, never made up for."""

from ids_appliance import config
from ids_appliance.trigger.sample import SampleTrigger

S = 10**9


def test_fires_once_in_so_often_from_the_first_poll_on():
    trigger = SampleTrigger(config.Window(sample_every_s=60.0))
    fired = [at for at in range(0, 200) if trigger.poll(1000 * S + at * S)]
    assert fired == [60, 120, 180]
    assert trigger.due_ns == 1240 * S


def test_a_missed_time_is_not_made_up_for():
    trigger = SampleTrigger(config.Window(sample_every_s=60.0))
    trigger.poll(0)
    assert len(trigger.poll(1000 * S)) == 1
    assert not trigger.poll(1019 * S)
    assert len(trigger.poll(1020 * S)) == 1


def test_never_where_it_is_switched_off():
    trigger = SampleTrigger(config.Window())
    assert not trigger.poll(0) and not trigger.poll(10**18) and trigger.due_ns is None
