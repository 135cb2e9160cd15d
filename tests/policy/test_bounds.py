"""Files of bounds: written and read back, refused with one line; the bound for a rate."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ids_appliance import config
from ids_appliance.errors import BoundsError
from ids_appliance.policy.bounds import (
    SHIPPED,
    Bounds,
    Peaks,
    doubts,
    least_upper,
    quantile,
    read_bounds,
    settings_of,
    table_of,
    write_bounds,
)

BOUNDS = Bounds(
    upper=12.0,
    false_alarms=0.01,
    prior_logit=0.25,
    model_id="00" * 16,
    settings=settings_of(config.Policy()),
    priors={"dos": 6.0},
)


def test_written_bounds_are_read_back(tmp_path: Path) -> None:
    write_bounds(BOUNDS, tmp_path / "b.json")
    assert read_bounds(tmp_path / "b.json") == BOUNDS
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "version 2"),
        ({"upper": 0.0}, "upper is 0"),
        ({"upper": "high"}, "float"),
        ({"prior_logit": 100.0}, "prior_logit"),
        ({"priors": {"dos": -1.0}}, "prior of dos"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_bounds_are_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    file = tmp_path / "b.json"
    file.write_bytes(msgspec.json.encode(msgspec.to_builtins(BOUNDS) | change))
    with pytest.raises(BoundsError, match=why) as caught:
        read_bounds(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_bounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BoundsError, match="No such file"):
        read_bounds(tmp_path / "none.json")
    with pytest.raises(BoundsError, match="directory"):
        read_bounds(tmp_path)
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(BoundsError, match="cannot use"):
        read_bounds(tmp_path / "b.json")
    (tmp_path / "b.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(BoundsError, match="larger"):
        read_bounds(tmp_path / "b.json")
    with pytest.raises(BoundsError, match="cannot write"):
        write_bounds(BOUNDS, tmp_path / "nowhere" / "b.json")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.001, 0.5))
def test_at_most_the_stated_share_reaches_the_bound_and_none_lower_does_as_well(
    scores: list[float], rate: float
) -> None:
    peaks = np.floor(np.array(scores) * 4096) / 4096
    bound = quantile(rate, peaks)
    assert (peaks >= bound).sum() <= rate * len(peaks)
    assert (peaks >= bound - 2 / 4096).sum() > rate * len(peaks)


def test_no_row_lets_two_cells_decide() -> None:
    least = least_upper(config.Policy())
    assert least == 14.0
    peaks = Peaks(np.array([0.0] * 98 + [22.0, 30.0]), 10.0, np.array([1.0, 25.0, 40.0]))
    low, high = table_of(peaks, [0.05, 0.001], least=least)
    assert (low.false_alarms, low.upper, low.ordinary, low.malicious) == (0.001, 30.0002, 0, 1)
    assert (high.upper, high.ordinary, high.malicious) == (14.0, 2, 2)
    assert high.per_device_day == 0.2 and high.quantile < 1.0


def test_without_ordinary_senders_there_are_no_bounds() -> None:
    with pytest.raises(BoundsError, match="no ordinary sender"):
        table_of(Peaks(np.zeros(0), 0.0), [0.01], least=12.0)


def test_doubts_name_what_does_not_fit() -> None:
    assert doubts(BOUNDS, config.Policy(), bytes(16)) == []
    (line,) = doubts(BOUNDS, config.Policy(half_life_s=60.0))
    assert "policy.half_life_s" in line and "calibrate" in line
    (line,) = doubts(BOUNDS, config.Policy(), b"1" * 16)
    assert "model" in line
    assert doubts(BOUNDS, config.Policy(upper=9.0, clip=1.0), b"1" * 16) == []


def test_shipped_bounds_fit_the_defaults_and_the_shipped_model() -> None:
    shipped = read_bounds()
    model = Path(__file__).parents[2] / "models" / "iot-top20" / "card.json"
    card = msgspec.json.decode(model.read_bytes())
    assert doubts(shipped, config.Policy(), bytes.fromhex(card["model_id"])) == []
    assert shipped.upper >= least_upper(config.Policy()) and shipped.senders > 100
    assert shipped.data and SHIPPED.is_file()
    assert shipped == structs.replace(shipped)
    # A trigger alone never decides.
    assert all(0.0 <= prior < shipped.upper for prior in shipped.priors.values())
