"""The units that the pages show for a gateway by hand, as systemd reads them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ansible.trees import ROOT


def units(page: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    return re.findall(r"^```\n(\[Unit\]\n.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_gateways_unit_goes_on_trying() -> None:
    """Ansible's does: an interface may come later than the service."""
    (unit,) = units("operations")
    deployed = ROOT / "ansible/roles/gateway/templates/etc/systemd/system/ids-appliance.service.j2"
    for line in ("StartLimitIntervalSec=0", "Restart=on-failure", "RestartSec=2"):
        assert f"\n{line}\n" in unit and f"\n{line}\n" in deployed.read_text("utf-8"), line


@pytest.mark.parametrize("page", ["operations", "dashboard"])
def test_a_unit_can_be_enabled_and_starts_what_is_installed(page: str) -> None:
    found = units(page)
    assert found
    for unit in found:
        assert "\n[Install]\nWantedBy=multi-user.target\n" in unit, unit
        programs = set(re.findall(r"^Exec\w+=(\S+)", unit, re.MULTILINE))
        # Where docs/operations.md and Ansible put it.
        assert programs == {"/usr/local/bin/ids-appliance"}


@pytest.mark.parametrize("page", ["operations", "dashboard"])
def test_systemd_takes_the_units(page: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    names = []
    for n, unit in enumerate(units(page)):
        path = tmp_path / f"shown-{n}.service"
        path.write_text(unit.replace("/usr/local/bin/ids-appliance", sys.executable), "utf-8")
        names.append(str(path))
    words = ["systemd-analyze", "verify", "--man=no", *names]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "shown-" in line] == []
