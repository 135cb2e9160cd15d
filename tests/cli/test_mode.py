"""The `mode` command."""

import pytest

from tests.cli.asked import one_line


@pytest.mark.parametrize("mode", ["gateway-only", "offloaded"])
def test_the_mode(live, mode):
    assert live.ordered("mode", mode) == ("mode", mode)
    assert live.json("mode", mode)["message"] == f"mode is {mode}"


def test_another_is_refused(live):
    assert one_line(live("mode", "cloud"))
    assert live.actions.calls == []
