"""The `reload` command."""

from ids_appliance.cli.gateway import SECTIONS_AT_START, reloaded
from ids_appliance.config import Config, Failure, Trigger, Zeek
from ids_appliance.config.inline import Inline
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


def test_every_setting_is_taken_up_or_takes_a_restart():
    """A new one has to be put on one side or the other: else a reload would keep silent about it.

    mode: `ids-appliance mode` changes it in a gateway that runs."""
    taken_up = {"mode", "model", "node", "failure"}
    assert set(SECTIONS_AT_START) | taken_up == set(Config.__struct_fields__)
    assert not set(SECTIONS_AT_START) & taken_up


def test_ports_that_bring_copies_and_zeek_take_a_restart():
    running = Config(interfaces=("eth1",))
    fresh = Config(interfaces=("eth1",), taps=("eth1",), zeek=Zeek(silence_s=9.0))
    config, waiting = reloaded(running, fresh)
    assert waiting == ["taps", "zeek"]
    assert (config.taps, config.zeek) == ((), Zeek())


def test_whose_packets_are_given_up_first_takes_a_restart():
    running = Config(interfaces=("lan0",))
    failure = Failure(on_classifier_down="open", on_overload=("suspect",))
    config, waiting = reloaded(running, Config(interfaces=("lan0",), failure=failure))
    assert waiting == ["failure.on_overload"]
    assert config.failure == Failure(on_classifier_down="open")


def test_where_packets_are_held_all_about_failures_takes_a_restart():
    inline = Inline(enabled=True)
    running = Config(interfaces=("lan0",), inline=inline)
    fresh = Config(interfaces=("lan0",), inline=inline, failure=Failure(on_queue_full="closed"))
    config, waiting = reloaded(running, fresh)
    assert (config.failure, waiting) == (Failure(), ["failure"])
    assert reloaded(running, running)[1] == []
