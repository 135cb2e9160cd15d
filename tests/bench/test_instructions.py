"""The hot path asks for no more instructions a packet than when they were last counted."""

import json

import pytest

from tests.bench import instructions

MORE = 1.15
"""Counts differ by a few percent from one minor version of compiler and interpreter to the next."""


@pytest.mark.nightly
def test_no_stage_needs_more_than_what_is_recorded(tmp_path):
    if tool := instructions.missing():
        pytest.skip(f"not installed: {tool} (valgrind, gcc)")
    recorded = json.loads(instructions.RECORDED.read_text())
    here = instructions.kind()
    if any(recorded[name] != value for name, value in here.items()):
        pytest.skip(f"what is recorded was counted elsewhere than on {here}")
    found = instructions.measure(tmp_path)
    assert found.keys() == recorded["instructions"].keys()
    more = {
        name: f"{count:,.0f}, recorded {recorded['instructions'][name]:,.0f}"
        for name, count in found.items()
        if count > MORE * recorded["instructions"][name]
    }
    assert not more, "if it has to be so: python -m tests.bench.instructions"
