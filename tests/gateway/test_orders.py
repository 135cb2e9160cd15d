"""What `status` says needs somebody's attention: each with why, as far as anybody knows."""

from types import SimpleNamespace
from typing import Any, cast

from ids_appliance.config import Config
from ids_appliance.gateway.orders import alarms
from ids_appliance.gateway.runtime import Gateway
from ids_appliance.types import Reconciled

EXPIRED = "our certificate gw1.crt has expired 2026-01-01 00:00:00+00:00: issue a new one"


def gateway(**parts: Any) -> Any:
    """A gateway that all is well with, but for `parts`."""
    well: dict[str, Any] = {
        "held_because": lambda: "",
        "live": SimpleNamespace(source=SimpleNamespace(down=())),
        "protection": SimpleNamespace(contradicted=()),
        "node_down": False,
        "config": Config(interfaces=("lan0",)),
        "classifier": SimpleNamespace(current=linked("")),
        "keeper": SimpleNamespace(problem=""),
        "log": SimpleNamespace(problem=""),
        "reconciled": Reconciled(3, 3, 0, 0, False),
    }
    return cast(Gateway, SimpleNamespace(**(well | parts)))


def linked(trouble: str) -> Any:
    """A classifier with a link to a node."""
    return SimpleNamespace(reached=(bytes([192, 0, 2, 40]),), trouble=trouble)


def test_nothing_where_all_is_well() -> None:
    assert alarms(gateway()) == []


def test_a_node_that_does_not_answer_with_why() -> None:
    found = alarms(gateway(node_down=True, classifier=SimpleNamespace(current=linked(EXPIRED))))
    assert found == [f"the node does not answer (on_classifier_down: local): {EXPIRED}"]
    silent = SimpleNamespace(current=SimpleNamespace())
    (line,) = alarms(gateway(node_down=True, classifier=silent))
    assert line == "the node does not answer (on_classifier_down: local)"


def test_decisions_that_are_not_saved() -> None:
    line = "decisions cannot be saved to /x: Read-only file system; they would be forgotten"
    assert alarms(gateway(keeper=SimpleNamespace(problem=line))) == [line]


def test_a_router_that_may_have_been_replaced() -> None:
    """In a bridge, a new router that nobody vouches for may be cut off, and everybody with it."""
    line = "default router 192.0.2.1 now answers from another MAC (`reload` if it was replaced)"
    assert alarms(gateway(protection=SimpleNamespace(contradicted=(line,)))) == [line]
