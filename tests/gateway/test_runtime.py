"""The loop's own steps, one by one: in which order the world around is taken over."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ids_appliance.config import Config, Node
from ids_appliance.gateway import classifiers, runtime
from ids_appliance.gateway.runtime import Gateway
from ids_appliance.policy.protect import SystemFound


def nothing(*_: object) -> None:
    """What a step does that is not looked at."""


def test_a_node_with_a_name_is_looked_for_where_the_link_has_found_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(runtime, "look", lambda _, *, reached: asked.append(reached))
    monkeypatch.setattr(runtime, "router_macs", lambda protection: [])
    there = (bytes([192, 0, 2, 40]),)
    half = SimpleNamespace(
        config=Config(interfaces=("lan0",), node=Node(addresses=("node.example:7447",))),
        classifier=SimpleNamespace(current=SimpleNamespace(reached=there, trouble="")),
        protection=None,
        protect=nothing,
        _meet=nothing,
        _routers=[],
    )
    Gateway.look_around(cast(Gateway, half))
    assert asked == [there]
    assert classifiers.reached(cast(Any, SimpleNamespace())) == ()


def test_the_kernel_hears_of_what_stands_on_the_ports_now() -> None:
    """A VLAN that it does not know is beyond us to it, and its devices are strangers."""
    told: list[tuple[str, ...]] = []
    half = SimpleNamespace(
        found=SystemFound(captured=("lan0",)),
        interfaces=SimpleNamespace(refresh=nothing),
        appliance=SimpleNamespace(renumbered=nothing),
        live=SimpleNamespace(names=("lan0",)),
        enforcer=SimpleNamespace(set_interfaces=lambda names, above: told.append(above)),
        kernel=SimpleNamespace(call=lambda order: order()),
        path=SimpleNamespace(changed=nothing),
        _know_ourselves=nothing,
    )

    def look_around() -> None:
        half.found = SystemFound(captured=("lan0",), above=(("lan0", "lan0.7"),))

    half.look_around = look_around
    Gateway._network_changed(cast(Gateway, half))
    assert told == [("lan0.7",)]
