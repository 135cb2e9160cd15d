"""The role `dashboard`: who would be shown the page is named; its unit as systemd reads it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.conftest import Play

UNIT = "ids-appliance-dashboard.service"
ON = {"dashboard_state": "present"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "everybody": (ON | {"dashboard_listen": "0.0.0.0"}, "dashboard_listen = 0.0.0.0"),
    "privileged": (ON | {"dashboard_port": 80}, "dashboard_port = 80"),
    "no-number": (ON | {"dashboard_port": "web"}, "dashboard_port"),
}
GOOD = {
    "plain": ON,
    "asked-for": ON | {"dashboard_listen": "0.0.0.0", "dashboard_unencrypted": True},
}


def test_what_is_wrong_is_named_and_a_good_unit_is_one(play: Play, tmp_path: Path) -> None:
    hosts = {name: variables for name, (variables, _) in WRONG.items()} | GOOD
    done = play("dashboard.yml", hosts, "dashboard", rendered_to=str(tmp_path))
    text = " ".join(done.stdout.split())
    for host, (_, said) in WRONG.items():
        _, found, rest = text.partition(f"[{host}]: FAILED")
        assert found and said in rest.partition("fatal: ")[0], (host, done.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(GOOD)
    plain = (tmp_path / "plain" / UNIT).read_text("utf-8")
    # The gateway's key and its passwords are its group's to read, and none of a page's business.
    assert "\nTemporaryFileSystem=/etc/ids-appliance:ro\n" in plain
    assert re.findall(r"^Bind\w*Paths=(.*)", plain, re.M) == ["/etc/ids-appliance/gateway.toml"]
    assert "--host 127.0.0.1 --port 8501\n" in plain and "CapabilityBoundingSet=\n" in plain
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: install systemd")
    unit = tmp_path / UNIT
    unit.write_text(
        plain.replace("/opt/ids-appliance/current/bin/ids-appliance", sys.executable), "utf-8"
    )
    words = ["systemd-analyze", "verify", "--man=no", str(unit)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert [line for line in checked.stderr.splitlines() if UNIT in line] == []
