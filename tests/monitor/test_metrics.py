"""A monitor's status as series: each figure under its own name and label, none made up."""

from ids_appliance.monitor.metrics import PREFIX, families
from ids_appliance.monitor.status import ControllerStatus, MirrorStatus, PortStatus, Status


def port(name: str, first: int, *, link: str = "up") -> PortStatus:
    """Return a port whose figures are `first` and the four numbers after it."""
    return PortStatus(
        name=name, host="", number=1, vlan=0, link=link, rx_packets=first, rx_bytes=first + 1,
        tx_packets=first + 2, tx_bytes=first + 3, dropped=first + 4, error="",
    )  # fmt: skip


def series(status: Status) -> dict[tuple[str, str], float]:
    """Return every sample by its name without the prefix and the label beside the bridge."""
    found = {}
    for family in families(status):
        assert family.documentation.endswith(".") and family.name.startswith(PREFIX)
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("bridge") == "s1"
            key = (sample.name.removeprefix(PREFIX), "".join(labels.values()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def test_every_figure_has_its_own_series() -> None:
    mirror = MirrorStatus(
        name="espejo", selects="", output="pm", there=True, tx_packets=31, tx_bytes=32, dropped=33
    )
    found = series(
        Status(
            name="s3", bridge="s1", up=True, missing=("+ port p3", "+ port p4"), flows=5,
            controller=ControllerStatus("tcp:127.0.0.1:6653", connected=False, state="BACKOFF"),
            ports=(port("p1", 10), port("p2", 20, link="down")), mirrors=(mirror,),
        )
    )  # fmt: skip
    expected = {("up", ""): 1, ("missing", ""): 2, ("flows", ""): 5}
    expected |= {("controller_connected", ""): 0, ("port_up", "p1"): 1, ("port_up", "p2"): 0}
    for name, first in (("p1", 10), ("p2", 20)):
        for at, what in enumerate(
            ("receive_packets", "receive_bytes", "transmit_packets", "transmit_bytes", "dropped")
        ):
            expected[f"port_{what}_total", name] = first + at
    for at, what in enumerate(("packets", "bytes", "dropped"), 31):
        expected[f"mirror_{what}_total", "espejo"] = at
    assert found == expected


def test_a_bridge_that_is_not_there_and_a_controller_that_nobody_wants() -> None:
    found = series(Status(name="s3", bridge="s1", up=False, missing=("+ bridge s1",)))
    assert found == {("up", ""): 0, ("missing", ""): 1, ("flows", ""): 0}


def test_a_connected_controller() -> None:
    here = ControllerStatus("tcp:127.0.0.1:6653", connected=True, state="ACTIVE")
    found = series(Status(name="s3", bridge="s1", up=True, missing=(), controller=here))
    assert found["controller_connected", ""] == 1
