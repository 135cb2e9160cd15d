"""The `window` command."""

import pytest

from tests.cli.asked import one_line


@pytest.mark.parametrize("what", ["open", "close"])
def test_the_window_is_opened_and_closed(live, what):
    assert live.ordered("window", what) == ("window", what == "open")


@pytest.mark.parametrize("arguments", [[], ["shut"], ["open", "close"]])
def test_anything_else_is_refused(live, arguments):
    assert one_line(live("window", *arguments))
    assert live.actions.calls == []
