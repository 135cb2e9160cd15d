"""What the `gateway` command puts together from a configuration, and does for a signal."""

from types import SimpleNamespace
from typing import Any, cast

from ids_appliance.cli.gateway import known_devices, read_again
from ids_appliance.config import Config
from ids_appliance.errors import ConfigError
from ids_appliance.gateway.actions import Done
from ids_appliance.gateway.orders import Orders
from ids_appliance.gateway.runtime import Gateway

MAC, OTHER = "02:00:5e:00:53:01", "02:00:5e:00:53:02"


def test_devices_have_the_names_of_the_configuration_and_of_the_lease_file(tmp_path):
    leases = tmp_path / "leases"
    leases.write_text(f"1700000000 {MAC} 192.0.2.7 plug *\n1700000000 {OTHER} 192.0.2.8 tv *\n")
    config = Config(interfaces=("lan0",), names={OTHER: "television"}, leases=str(leases))
    devices = known_devices(config)
    devices.refresh()
    assert devices(MAC, "")["name"] == devices("", "192.0.2.7")["name"] == "plug"
    assert devices(OTHER, "")["name"] == "television"


def told_by(reload: Any) -> list[tuple[str, str, str]]:
    """Return what is in the log after a SIGHUP."""
    said: list[tuple[str, str, str]] = []
    stories = SimpleNamespace(health=lambda *what: said.append(what))
    gateway = cast(Gateway, SimpleNamespace(stories=stories))
    read_again(gateway, cast(Orders, SimpleNamespace(reload=reload)))
    return said


def test_what_takes_a_restart_is_in_the_log_too() -> None:
    done = Done(message="all was read again", details=("protect takes a restart",))
    line = "all was read again; protect takes a restart"
    assert told_by(lambda: done) == [("gateway", "warning", line)]
    assert told_by(lambda: Done(message="all")) == [("gateway", "info", "all")]


def test_a_configuration_that_is_not_good_is_told() -> None:
    def bad() -> Done:
        raise ConfigError("line 3: not TOML")

    assert told_by(bad) == [("gateway", "warning", "not reloaded: line 3: not TOML")]
