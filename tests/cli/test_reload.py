"""The `reload` command."""

from ids_appliance.errors import ConfigError
from tests.cli.asked import one_line


def test_what_has_changed_is_told(live):
    assert live.ordered("reload") == ("reload",)
    assert live("reload").stdout == "1 setting changed\n  window.window_s 30 -> 60\n"


def test_a_bad_configuration_changes_nothing_and_says_why(live, monkeypatch):
    def refuse():
        raise ConfigError("gateway.toml: window.window_s: expected a number")

    monkeypatch.setattr(live.actions, "reload", refuse)
    assert "window.window_s" in one_line(live("reload"))
    assert live.gateway.orders[0].outcome.startswith("gateway.toml")
