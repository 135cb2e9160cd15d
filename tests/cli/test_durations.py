"""Durations: what people write, and what they read."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.cli.durations import UNITS, duration, duration_or_zero, duration_text

OPTION = click.Option(["--for"])
CONTEXT = click.Context(click.Command("x"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h", 3600),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        (" 10M ", 600),
        ("1w1d1h1m1s", 694_861),
    ],
)
def test_what_people_write(text, seconds):
    assert duration(CONTEXT, OPTION, text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "10", "m", "1.5h", "-1h", "1m1h", "1h 1h", "１h"])
def test_what_is_none(text):
    with pytest.raises(click.BadParameter, match="write 90s, 10m, 1h30m or 7d"):
        duration(CONTEXT, OPTION, text)


def test_zero_where_it_means_something():
    assert duration_or_zero(CONTEXT, OPTION, "0") == 0
    assert duration_or_zero(CONTEXT, OPTION, "5m") == 300


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 m"),
        (431.7, "7 m 12 s"),
        (3600, "1 h"),
        (5400, "1 h 30 m"),
        (86_400 * 9 + 60, "9 d"),
    ],
)
def test_what_people_read(seconds, text):
    assert duration_text(seconds) == text


@given(st.lists(st.sampled_from([u for u in UNITS if u != "w"]), unique=True, min_size=1),
       st.integers(1, 23))  # fmt: skip
def test_what_is_read_can_be_written(units, number):
    text = "".join(f"{number}{unit}" for unit in UNITS if unit in units)
    seconds = duration(CONTEXT, OPTION, text)
    read = duration(CONTEXT, OPTION, duration_text(seconds).replace(" ", ""))
    assert 0 <= seconds - read < 3600 * 24  # all but what is below the two greatest units
    if len(units) <= 2:
        assert read in (seconds, seconds - seconds % 60, seconds - seconds % 3600)
