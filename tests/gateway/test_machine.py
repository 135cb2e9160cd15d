"""The doctor tells a machine that can run the gateway from one that cannot."""

import os
import subprocess
import sys

import pytest

from ids_appliance.errors import EnforceError, InterfaceError, PermissionMissing
from ids_appliance.gateway import machine
from ids_appliance.gateway.machine import PLAUSIBLE_S
from tests.architecture.sources import ROOT

ALL = "CapInh:\t0\nCapEff:\t000001ffffffffff\n"
NOW = PLAUSIBLE_S + 1e6


@pytest.mark.parametrize(
    ("release", "state"),
    [("6.6.31+rpt-rpi-2712", "ok"), ("5.10.0", "ok"), ("5.4.0-1", "warn"), ("odd", "warn")],
)
def test_kernel(release: str, state: str) -> None:
    assert machine.kernel(release).state == state


def test_rights() -> None:
    assert [one.state for one in machine.capabilities(ALL)] == ["ok", "ok"]
    only_raw = list(machine.capabilities("CapEff:\t0000000000002000\n"))
    assert [one.state for one in only_raw] == ["warn", "ok"]
    assert only_raw[0].text.startswith("CAP_NET_ADMIN is missing")
    assert [one.state for one in machine.capabilities("")] == ["warn", "warn"]


def test_clock() -> None:
    assert machine.clock(0, True).state == "fail"
    assert [machine.clock(NOW, known).state for known in (True, False, None)] == [
        "ok",
        "warn",
        "unknown",
    ]
    assert machine.synchronised() in (True, False, None)


def test_memory() -> None:
    text = "MemTotal: 9 kB\nMemAvailable:   204800 kB\n"
    assert [machine.memory(text, kib).state for kib in (102_400, 102_401, 204_801)] == [
        "ok",
        "warn",
        "fail",
    ]
    assert machine.memory("", 1).state == "unknown"


def test_connections(tmp_path) -> None:
    assert machine.conntrack(str(tmp_path)).state == "unknown"
    (tmp_path / "nf_conntrack_count").write_text("80\n")
    (tmp_path / "nf_conntrack_max").write_text("100\n")
    assert machine.conntrack(str(tmp_path)).state == "ok"
    (tmp_path / "nf_conntrack_count").write_text("81\n")
    found = machine.conntrack(str(tmp_path))
    assert found.state == "warn" and found.remedy.endswith("=200")


class Without:
    """A kernel that lacks something."""

    def __init__(self, *names: str) -> None:
        self.missing = {name: f"{name}: something (why)" for name in names}
        self.synproxy = "synproxy" not in names

    def demand(self) -> None:
        if set(self.missing) - {"synproxy"}:
            raise EnforceError("this kernel lacks sets")


@pytest.mark.parametrize(
    ("lacking", "states"),
    [((), ["ok", "ok"]), (("synproxy",), ["ok", "warn"]), (("timeouts",), ["fail"])],
)
def test_rules_by_what_the_kernel_lacks(monkeypatch, lacking, states) -> None:
    monkeypatch.setattr(machine, "probe", lambda: Without(*lacking))
    assert [one.state for one in machine.rules(ALL)] == states


@pytest.mark.parametrize(
    ("error", "state"),
    [(EnforceError("no library"), "fail"), (PermissionMissing("not you"), "unknown")],
)
def test_rules_that_cannot_be_tried(monkeypatch, error, state) -> None:
    def probe():
        raise error

    monkeypatch.setattr(machine, "probe", probe)
    assert [one.state for one in machine.rules(ALL)] == [state]
    assert [one.state for one in machine.rules("CapEff: 0")] == ["unknown"], "not even tried"


@pytest.mark.parametrize(
    ("error", "state"), [(InterfaceError("no"), "fail"), (PermissionMissing("no"), "unknown")]
)
def test_capture_that_does_not_work(monkeypatch, error, state) -> None:
    def refuse(*_):
        raise error

    monkeypatch.setattr(machine, "RingSource", refuse)
    assert machine.capture().state == state


@pytest.mark.net
def test_this_machine_as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: probes nftables and rings")
    found = {one.topic: one.state for one in machine.examine(NOW)}
    assert found["nftables"] == found["capture"] == found["rights"] == "ok"
    left = subprocess.run(
        ["nft", "list", "tables"], capture_output=True, text=True, check=True
    ).stdout
    assert "probe" not in left, "looking leaves no trace"


@pytest.mark.net
def test_this_machine_without_any_rights() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: takes rights away")
    code = (
        "from ids_appliance.gateway import machine\n"
        f"print({{one.topic: one.state for one in machine.examine({NOW})}})"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'nftables': 'unknown'" in done.stdout and "'capture': 'unknown'" in done.stdout
    assert "'rights': 'warn'" in done.stdout and "fail" not in done.stdout
