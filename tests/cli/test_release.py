"""The `release` command."""

import pytest

from tests.cli.asked import one_line


def test_one_and_everybody(live):
    assert live.ordered("release", "192.0.2.66") == ("release", "192.0.2.66")
    assert live.ordered("release", "--all") == ("release", "")


def test_it_says_who_is_free(live):
    assert live("release", "--all").stdout == "1 decision has ended\n  02:00:00:00:77:66\n"
    assert live.json("release", "--all")["changed"] == 1


@pytest.mark.parametrize("arguments", [[], ["192.0.2.66", "--all"]])
def test_neither_or_both_is_refused(live, arguments):
    assert "name an ADDRESS, or --all" in one_line(live("release", *arguments))
    assert live.actions.calls == []
