"""CPUs are told to the kernel as it reads them, and one alone cannot be shared."""

import os

import pytest

from ids_appliance.bench.cpus import Camps, mask
from ids_appliance.errors import LabError


@pytest.mark.parametrize(
    ("cpus", "text"),
    [({0}, "00000001"), ({1, 3}, "0000000a"), ({31}, "80000000"), ({0, 33}, "00000002,00000001")],
)
def test_masks_are_words_of_32_bits(cpus, text) -> None:
    assert mask(cpus) == text


def test_the_last_cpu_is_the_gateways(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 0, 5})
    camps = Camps.found()
    assert (camps.gateway, camps.others) == (5, {0, 2})
    assert camps.prefix == ("taskset", "-c", "5")
    assert camps.steering(gateway=True) == "00000020"
    assert camps.steering(gateway=False) == "00000005"


def test_one_cpu_is_too_few(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    with pytest.raises(LabError, match="two CPUs"):
        Camps.found()
