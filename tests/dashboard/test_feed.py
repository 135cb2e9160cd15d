"""What all pages share: asked once for all of them, and bounded."""

import pytest

from ids_appliance.dashboard.feed import LATEST, PAGES, Feed, Sample, View, rate, rates
from ids_appliance.errors import NotRunning
from tests.gateway.running import running


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def gateway(tmp_path):
    with running(tmp_path / "run") as gateway:
        yield gateway


def test_many_pages_ask_once(gateway):
    clock = Clock()
    feed = Feed(gateway.run_dir, clock=clock, fresh_s=2.0)
    first = feed.read(View())
    assert all(feed.read(View()) is first for _ in range(5))
    clock.now += 2.0
    assert feed.read(View()) is not first
    assert gateway.actions.calls.count(("status",)) == 2


def test_whoever_turns_a_page_asks_for_that_page_alone(gateway):
    clock = Clock()
    feed = Feed(gateway.run_dir, clock=clock, fresh_s=2.0)
    assert not feed.read(View()).windows and not feed.read(View()).events
    asked = len(gateway.actions.calls)
    feed.read(View(offset=15))
    assert [call[0] for call in gateway.actions.calls[asked:]] == ["page"]
    assert feed.read(View(windows=True, events=True)).windows
    feed.forget()
    feed.read(View())
    assert gateway.actions.calls.count(("status",)) == 2


def test_what_was_ordered_shows_at_once(gateway):
    feed = Feed(gateway.run_dir, clock=Clock(), fresh_s=2.0)
    first = feed.read(View())
    feed.forget()
    assert feed.read(View()) is not first


def test_nothing_grows(gateway):
    clock = Clock()
    feed = Feed(gateway.run_dir, clock=clock, fresh_s=2.0)
    for n in range(PAGES + 3):
        clock.now += 2.0
        feed.read(View(offset=n))
    assert len(feed._readings) == PAGES and feed._samples.maxlen == LATEST


def test_another_run_counts_from_zero(gateway, monkeypatch):
    clock = Clock()
    feed = Feed(gateway.run_dir, clock=clock, fresh_s=2.0)
    feed.read(View())
    clock.now += 2.0
    assert len(feed.read(View()).samples) == 2
    feed._pid += 1
    clock.now += 2.0
    assert len(feed.read(View()).samples) == 1


def test_nobody_there(tmp_path):
    with pytest.raises(NotRunning):
        Feed(tmp_path, clock=Clock(), fresh_s=2.0).read(View())


def test_rates_are_what_was_counted_between_two_samples():
    samples = (
        Sample(10.0, {"a": 5, "b": 1}),
        Sample(12.0, {"a": 25, "b": 2}),
        Sample(13.0, {"a": 25, "b": 0}),
    )
    assert rates(samples, {"a": "A"}) == [
        {"ago_s": -1.0, "what": "A", "per_s": 10.0},
        {"ago_s": 0.0, "what": "A", "per_s": 0.0},
    ]
    assert rates(samples, {"a": "both", "b": "both"})[0]["per_s"] == 10.5
    assert rate(samples, "b") == 0.0  # a counter never goes back; one that did is another run's
    assert rate(samples[:1], "a") is None and rates((), {"a": "A"}) == []
