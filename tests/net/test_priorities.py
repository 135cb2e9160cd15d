"""The real gateway with traffic classes and syslog: who attacks waits last, and people hear it."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY
from ids_appliance.lab.namespaces import require
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.traffic import hping

pytestmark = [pytest.mark.net, pytest.mark.nightly]

ATTACKER, VICTIM = "bot", "dev01"


@pytest.fixture
def ground() -> Iterator[Ground]:
    try:
        require("hping3", "ping")
    except LabError as error:
        pytest.skip(str(error))
    made = Ground("routed")
    made.services = False
    with made:
        yield made


def listen(ground: Ground, told: list[dict[str, object]]) -> socket.socket:
    """Take notices by syslog's datagrams on the gateway itself."""
    with ground.lab._net.inside(GATEWAY):
        plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plug.bind(("127.0.0.1", 0))

    def read() -> None:
        while data := plug.recv(4096):
            told.append({"text": data.decode("utf-8", "replace")})

    threading.Thread(target=read, daemon=True).start()
    return plug


def test_an_attacker_waits_last_and_people_hear_of_it(ground: Ground) -> None:
    lab = ground.lab
    told: list[dict[str, object]] = []
    plug = listen(ground, told)
    ground.settings |= {f"tc.rates.{name}": "50 mbit" for name in lab.interfaces}
    ground.settings |= {
        "enforce.ceiling": "deprioritise",
        "notices.syslog.address": f"127.0.0.1:{plug.getsockname()[1]}",
    }
    ground.start()
    try:
        counters = ground.status().counters
        assert counters["tc_interfaces"] == len(lab.interfaces) and not counters["tc_missing"]
        lab.forget_neighbours()
        hping(lab, ATTACKER, lab.address(VICTIM), "-S", "-p", "80", seconds=300.0)
        assert ground.await_event(
            "response", limit_s=120, action="applied", response="deprioritise"
        )

        def waits() -> bool:
            found = ground.status().counters
            return any(n for k, n in found.items() if k.endswith("/suspect") and "packets" in k)

        assert ground.wait(waits, limit_s=60)
        heard = lambda: any("deprioritise for" in str(one["text"]) for one in told)  # noqa: E731
        assert ground.wait(heard, limit_s=60)
        code, said, _ = ground.cli("panic", "--format", "json")
        assert code == 0 and json.loads(said)["answered"]
        shown = lab.run(GATEWAY, "tc", "qdisc", "show")
        assert "1d5:" not in shown and "ids_classes" not in ground.ruleset()
    finally:
        plug.sendto(b"", plug.getsockname())
        plug.close()
