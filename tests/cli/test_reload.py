"""The `reload` command."""

from ids_appliance.cli.gateway import reloaded
from ids_appliance.config import Config, Failure, Trigger
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


def test_what_takes_a_restart_stays_as_it_was():
    running = Config(interfaces=("lan0",), run_dir="/run/one")
    failure = Failure(on_classifier_down="open")
    trigger = Trigger(kind="always")
    fresh = Config(
        interfaces=("gone0",), run_dir="/run/two", failure=failure, trigger=trigger, model="new"
    )
    config, waiting = reloaded(running, fresh)
    assert (config.interfaces, config.run_dir, config.trigger) == (("lan0",), "/run/one", Trigger())
    assert (config.failure, config.model) == (failure, "new")
    assert waiting == ["interfaces", "run_dir", "trigger"]
