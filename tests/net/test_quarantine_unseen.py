"""People's orders to a gateway that has heard nothing yet: the kernel's neighbour table speaks."""

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY
from ids_appliance.lab.namespaces import require
from tests.campaigns.drills.ground import Ground

pytestmark = pytest.mark.net
DEVICE = "dev05"
MAC, OTHER = "02:1d:5e:00:0f:fa", "02:1d:5e:00:0f:fb"
"""Nobody's: the gateway cannot have seen them."""


@pytest.mark.parametrize(("layout", "at"), [("routed", "iot0"), ("bridge", "br0")])
def test_whom_the_kernel_knows_is_cut_off_by_his_address(layout: str, at: str) -> None:
    try:
        require("bridge")
    except LabError as error:
        pytest.skip(str(error))
    ground = Ground(layout)
    ground.services = False
    with ground:
        lab = ground.lab
        one, two, three = (lab.net("iot").address4(n) for n in (250, 251, 252))
        port = lab.port(DEVICE)
        ground.start()
        assert "was not seen" in ground.quarantine(one)
        known = "neigh replace {} lladdr {} nud permanent dev " + at
        lab.ip(GATEWAY, known.format(one, MAC))
        lab.ip(GATEWAY, known.format(two, OTHER), known.format(three, OTHER))
        if layout == "bridge":
            for mac in (MAC, OTHER):
                lab.run(GATEWAY, "bridge", "fdb", "replace", mac, "dev", port, "master", "static")

        assert ground.quarantine(one) == ""
        (held,) = ground.decisions()
        assert (held.subject, held.interface, held.address) == (MAC, port, one)
        assert ground.wait(lambda: MAC in ground.ruleset(), limit_s=60)
        # One of the two addresses may be a forger's word about the other's owner.
        assert f"for {three} as well" in ground.quarantine(two)
        assert OTHER not in ground.ruleset()
        code, said, _ = ground.cli("release", one)
        assert (code, MAC in said) == (0, True)
        assert ground.wait(lambda: MAC not in ground.ruleset(), limit_s=60)
