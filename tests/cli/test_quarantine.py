"""The `quarantine` command."""

import pytest

from tests.cli.asked import one_line


def test_how_long(live):
    assert live.ordered("quarantine", "192.0.2.66") == ("quarantine", "192.0.2.66", 600.0)
    given = live.ordered("quarantine", "02:00:5e:10:00:01@br-lan", "--for", "1h30m")
    assert given == ("quarantine", "02:00:5e:10:00:01@br-lan", 5400.0)


def test_a_protected_one_is_refused_with_the_reason(live):
    line = one_line(live("quarantine", "192.0.2.1"))
    assert line == "Error: 192.0.2.1 is protected: it is the default router"


@pytest.mark.parametrize("text", ["0", "10", "ten", "-5m", "1.5h", "5m1h", "", "9999d"])
def test_what_is_no_duration_is_one_line(live, text):
    assert one_line(live("quarantine", "192.0.2.66", "--for", text))
    assert live.actions.calls == []
