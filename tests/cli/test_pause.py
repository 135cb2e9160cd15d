"""The `pause` command."""

from tests.cli.asked import one_line


def test_how_long_and_its_end(live):
    assert live.ordered("pause", "--for", "10m") == ("pause", 600.0)
    assert live.ordered("pause", "--for", "0") == ("pause", 0.0)
    assert live("pause", "--for", "90s").stdout == "nothing is enforced for 90 s\n"


def test_a_pause_without_an_end_is_not_given(live):
    assert "--for" in one_line(live("pause"))
    assert live.actions.calls == []
