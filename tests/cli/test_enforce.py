"""The `enforce` command."""

import pytest

from tests.cli.asked import one_line


@pytest.mark.parametrize("switch", ["on", "off"])
def test_the_switch(live, switch):
    assert live.ordered("enforce", switch) == ("enforce", switch == "on")
    assert live("enforce", switch).stdout == f"enforcement is {switch}\n"


@pytest.mark.parametrize("arguments", [[], ["yes"], ["on", "off"]])
def test_anything_else_is_refused(live, arguments):
    assert one_line(live("enforce", *arguments))
    assert live.actions.calls == []
